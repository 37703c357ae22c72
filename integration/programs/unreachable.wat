;; Traps at `unreachable`, two functions deep.
(component
  (core module $main
    (func $fail unreachable)
    (func (export "run") (result i32)
      call $fail
      i32.const 0))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
