;; Reads the last byte of its one-page memory, then the byte after it.
(component
  (core module $main
    (memory 1)
    (func $load (param i32) (result i32)
      local.get 0
      i32.load8_u)
    (func $main (export "run") (result i32)
      i32.const 65535
      call $load
      drop
      i32.const 65536
      call $load))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
