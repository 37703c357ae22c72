;; Starts with a memory of 1024 pages, 64 MiB, and uses its last byte.
(component
  (core module $main
    (memory 1024)
    (func $main (export "run") (result i32)
      i32.const 0x3ffffff
      i32.load8_u))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
