;; Imports an interface that nobody provides.
(component
  (import "example:telephone/dial@1.0.0" (instance $dial
    (export "dial" (func (param "number" u32)))))
  (core func $dial (canon lower (func $dial "dial")))
  (core module $main
    (import "telephone" "dial" (func $dial (param i32)))
    (func $main (export "run") (result i32)
      i32.const 112
      call $dial
      i32.const 0))
  (core instance $telephone (export "dial" (func $dial)))
  (core instance $main (instantiate $main (with "telephone" (instance $telephone))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
