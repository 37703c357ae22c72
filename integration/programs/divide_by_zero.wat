;; Divides by a zero that is known only at run time.
(component
  (core module $main
    (memory 1)
    (func $divide (param i32 i32) (result i32)
      local.get 0
      local.get 1
      i32.div_s)
    (func $main (export "run") (result i32)
      i32.const 1
      i32.const 8
      i32.load
      call $divide))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
