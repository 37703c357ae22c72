;; Imports a function by its name, but with parameters that it does not have.
(component
  (import "wasi:random/random@0.2.0"
    (instance (export "get-random-u64" (func (param "len" u64) (result u64)))))
  (core module $module (func (export "handle")))
  (core instance $instance (instantiate $module))
  (func $handle (canon lift (core func $instance "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
