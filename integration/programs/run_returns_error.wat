;; Its `run` returns the error case, with which a command says that it failed.
(component
  (core module $main
    (func $main (export "run") (result i32)
      i32.const 1))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
