;; Keeps two memories apart, copies between them and grows the second.
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
  (memory $second 1 3)
  (func (export "_start")
    (i32.store (i32.const 100) (i32.const 1))
    (i32.store $second (i32.const 100) (i32.const 2))
    (call $check (i32.eq (i32.load (i32.const 100)) (i32.const 1)))
    (memory.copy $memory $second (i32.const 104) (i32.const 100) (i32.const 4))
    (call $check (i32.eq (i32.load (i32.const 104)) (i32.const 2)))
    (call $check (i32.eq (memory.grow $second (i32.const 2)) (i32.const 1)))
    (i32.store $second (i32.const 0x2fffc) (i32.const 3))
    (call $check (i32.eq (memory.size $memory) (i32.const 1)))
    (call $check (i32.eq (memory.grow $second (i32.const 1)) (i32.const -1)))
    (call $ok)))
