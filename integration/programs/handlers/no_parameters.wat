;; Exports the interface of handlers by its name, but a function of another type.
(component
  (core module $module (func (export "handle")))
  (core instance $instance (instantiate $module))
  (func $handle (canon lift (core func $instance "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
