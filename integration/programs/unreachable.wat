;; Traps at `unreachable`, one call below the exported function.
(component
  (core module $main
    (func $give_up unreachable)
    (func $main (export "run") (result i32)
      call $give_up
      i32.const 0))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
