;; Multiplies and adds vectors with the rounding of the host, where both roundings give the same.
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
    (call $check (f32.eq (f32.const 7)
      (f32x4.extract_lane 0 (f32x4.relaxed_madd
        (f32x4.splat (f32.const 2)) (f32x4.splat (f32.const 3)) (f32x4.splat (f32.const 1))))))
    (call $check (i32.eq (i32.const 3)
      (i8x16.extract_lane_u 0 (i8x16.relaxed_swizzle
        (v128.const i8x16 9 8 7 3 5 4 3 2 1 0 0 0 0 0 0 0) (i8x16.splat (i32.const 3))))))
    (call $check (i32.eq (i32.const 14)
      (i16x8.extract_lane_s 0 (i16x8.relaxed_dot_i8x16_i7x16_s
        (i8x16.splat (i32.const 7)) (i8x16.splat (i32.const 1))))))
    (call $ok)))
