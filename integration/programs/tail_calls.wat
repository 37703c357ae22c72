;; Calls itself ten million times in tail position, directly and through a table.
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
  (type $step (func (param i64 i64) (result i64)))
  (table funcref (elem $indirect))
  (func $direct (type $step) (param $left i64) (param $sum i64) (result i64)
    (if (i64.eqz (local.get $left)) (then (return (local.get $sum))))
    (return_call $direct
      (i64.sub (local.get $left) (i64.const 1))
      (i64.add (local.get $left) (local.get $sum))))
  (func $indirect (type $step) (param $left i64) (param $sum i64) (result i64)
    (if (i64.eqz (local.get $left)) (then (return (local.get $sum))))
    (return_call_indirect (type $step)
      (i64.sub (local.get $left) (i64.const 1))
      (i64.add (local.get $left) (local.get $sum))
      (i32.const 0)))
  (func (export "_start")
    (call $check (i64.eq
      (call $direct (i64.const 10000000) (i64.const 0)) (i64.const 50000005000000)))
    (call $check (i64.eq
      (call $indirect (i64.const 10000000) (i64.const 0)) (i64.const 50000005000000)))
    (call $ok)))
