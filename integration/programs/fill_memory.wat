;; Grows its memory by 100 MiB, writes to each page of it, and never ends.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (local $at i32)
    (if (i32.lt_s (memory.grow (i32.const 1600)) (i32.const 0)) (then unreachable))
    (local.set $at (i32.const 0x10000))
    (loop $pages
      (i32.store (local.get $at) (i32.const 1))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if $pages (i32.lt_u (local.get $at) (i32.const 0x6400000))))
    (loop $forever (br $forever))))
