;; A small component: a memory of 17 pages, as a C program's, of which a call writes one. It is a command, and
;; exports the same work as a function.
(component
  (core module $main
    (memory 17)
    (func $main (export "run") (result i32)
      (i32.store (i32.const 1024) (i32.const 42))
      (i32.sub (i32.load (i32.const 1024)) (i32.const 42)))
    (func (export "work") (drop (call $main))))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (func $work (canon lift (core func $main "work")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports))
  (export "work" (func $work)))
