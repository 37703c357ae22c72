;; Grows its memory to the declared 16 pages, uses the last byte, is refused one page more, and exits
;; with 16, the size that it ends with.
(component
  (import "wasi:cli/exit@0.2.12" (instance $exit
    (export "exit-with-code" (func (param "status-code" u8)))))
  (core func $exit (canon lower (func $exit "exit-with-code")))
  (core module $main
    (import "wasi" "exit" (func $exit (param i32)))
    (memory 1 16)
    (func $main (export "run") (result i32)
      ;; The error case unless growing returns the size before,
      (if (i32.ne (memory.grow (i32.const 15)) (i32.const 1)) (then (return (i32.const 1))))
      ;; the last byte is zero, can be written and read back,
      (if (i32.load8_u (i32.const 0xfffff)) (then (return (i32.const 1))))
      (i32.store8 (i32.const 0xfffff) (i32.const 0xa5))
      (if (i32.ne (i32.load8_u (i32.const 0xfffff)) (i32.const 0xa5)) (then (return (i32.const 1))))
      ;; and one page more is refused.
      (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then (return (i32.const 1))))
      (call $exit (memory.size))
      unreachable))
  (core instance $wasi (export "exit" (func $exit)))
  (core instance $main (instantiate $main (with "wasi" (instance $wasi))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
