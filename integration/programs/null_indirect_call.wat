;; Calls through an entry of its table that was never set.
(component
  (core module $main
    (type $function (func (result i32)))
    (table 4 funcref)
    (func $dispatch (param i32) (result i32)
      local.get 0
      call_indirect (type $function))
    (func $main (export "run") (result i32)
      i32.const 2
      call $dispatch))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
