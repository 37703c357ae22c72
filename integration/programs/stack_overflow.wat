;; Calls itself without end.
(component
  (core module $main
    (func $descend (param i32) (result i32)
      local.get 0
      i32.const 1
      i32.add
      call $descend
      i32.const 1
      i32.add)
    (func $main (export "run") (result i32)
      i32.const 0
      call $descend))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
