;; Adds, shuffles and compares 128-bit vectors.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory $memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\03\00\00\00")
  (data (i32.const 16) "ok\0a")
  (func $ok
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
  (func $check (param i32)
    (if (i32.eqz (local.get 0)) (then unreachable)))
  (func (export "_start")
    (call $check (i32.eq (i32.const 44)
      (i32x4.extract_lane 3 (i32x4.add (v128.const i32x4 1 2 3 4) (v128.const i32x4 10 20 30 40)))))
    (call $check (i32.eq (i32.const 31)
      (i8x16.extract_lane_u 0
        (i8x16.shuffle 31 30 29 28 27 26 25 24 23 22 21 20 19 18 17 16
          (v128.const i8x16 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
          (v128.const i8x16 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31)))))
    (call $check (i32.eq (i32.const 5)
      (i32x4.bitmask (i32x4.eq (v128.const i32x4 1 2 3 4) (v128.const i32x4 1 0 3 0)))))
    (v128.store (i32.const 64) (f64x2.sqrt (v128.const f64x2 4 9)))
    (call $check (f64.eq (f64.load (i32.const 72)) (f64.const 3)))
    (call $ok)))
