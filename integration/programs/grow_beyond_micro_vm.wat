;; Grows by a page at a time, using each, until it is refused; there must be 128 MiB (2048 pages) or less.
(component
  (core module $main
    (memory 1)
    (func $main (export "run") (result i32)
      (local $pages i32)
      (loop $more
        (local.set $pages (memory.grow (i32.const 1)))
        (if (i32.ne (local.get $pages) (i32.const -1))
          (then
            ;; The first byte of the page that came.
            (i32.store8 (i32.shl (local.get $pages) (i32.const 16)) (i32.const 1))
            (br_if $more (i32.lt_u (local.get $pages) (i32.const 4096))))))
      ;; Some of it was given, and not more than there is.
      (if (i32.lt_u (memory.size) (i32.const 64)) (then (return (i32.const 1))))
      (i32.gt_u (memory.size) (i32.const 2048))))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
