;; Never ends and never asks the host for anything.
(component
  (core module $main
    (func $spin (export "run") (result i32)
      (loop $forever br $forever)
      unreachable))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
