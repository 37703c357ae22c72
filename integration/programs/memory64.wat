;; Addresses a second memory by 64 bits, and grows it.
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
  (memory $wide i64 1 4)
  (func (export "_start")
    (i64.store $wide (i64.const 0xfff8) (i64.const 0x123456789abcdef0))
    (call $check (i64.eq (i64.load $wide (i64.const 0xfff8)) (i64.const 0x123456789abcdef0)))
    (call $check (i64.eq (memory.grow $wide (i64.const 2)) (i64.const 1)))
    (i64.store $wide (i64.const 0x2fff8) (i64.const 5))
    (call $check (i64.eq (memory.size $wide) (i64.const 3)))
    (call $check (i64.eq (memory.grow $wide (i64.const 0x100000000)) (i64.const -1)))
    (memory.copy $memory $wide (i32.const 256) (i64.const 0x2fff8) (i32.const 8))
    (call $check (i64.eq (i64.load (i32.const 256)) (i64.const 5)))
    (call $ok)))
