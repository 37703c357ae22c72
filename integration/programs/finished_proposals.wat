;; Uses what is older: several results, sign extension, saturating conversion, references, constants.
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
  (global $base i32 (i32.const 40))
  (global $sum i32 (i32.add (global.get $base) (i32.const 2)))
  (table $references 2 externref)
  (func $two (result i32 i64) (i32.const 1) (i64.const 2))
  (func (export "_start")
    (local $second i64)
    call $two
    local.set $second
    (call $check (i32.eq (i32.const 1)))
    (call $check (i64.eq (local.get $second) (i64.const 2)))
    (call $check (i32.eq (i32.extend8_s (i32.const 0x80)) (i32.const -128)))
    (call $check (i32.eq (i32.trunc_sat_f32_s (f32.const 1e30)) (i32.const 0x7fffffff)))
    (call $check (i32.eq (global.get $sum) (i32.const 42)))
    (call $check (ref.is_null (table.get $references (i32.const 1))))
    (call $check (i32.eq (table.grow $references (ref.null extern) (i32.const 3)) (i32.const 2)))
    (call $ok)))
