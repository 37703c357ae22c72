;; Grows its memory to the declared 16 pages, uses the last byte, and is refused one page more.
(component
  (core module $main
    (memory 1 16)
    (func $main (export "run") (result i32)
      ;; The error case unless growing returns the size before,
      (if (i32.ne (memory.grow (i32.const 15)) (i32.const 1)) (then (return (i32.const 1))))
      ;; the last byte is zero, can be written and read back,
      (if (i32.load8_u (i32.const 0xfffff)) (then (return (i32.const 1))))
      (i32.store8 (i32.const 0xfffff) (i32.const 0xa5))
      (if (i32.ne (i32.load8_u (i32.const 0xfffff)) (i32.const 0xa5)) (then (return (i32.const 1))))
      ;; one page more is refused and changes nothing.
      (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then (return (i32.const 1))))
      (i32.ne (memory.size) (i32.const 16))))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
