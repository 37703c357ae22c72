;; Reads a byte far past a memory that is addressed by 64 bits.
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
  (memory $wide i64 1)
  (func (export "_start")
    (drop (i32.load8_u $wide (i64.const 0xffff)))
    (drop (i32.load8_u $wide (i64.const 0x7fffffffffff)))
    (call $ok)))
