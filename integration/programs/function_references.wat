;; Calls through typed references to functions, which need no check, in tail position too.
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
  (type $binary (func (param i32 i32) (result i32)))
  (elem declare func $add $subtract)
  (func $add (type $binary) (i32.add (local.get 0) (local.get 1)))
  (func $subtract (type $binary) (i32.sub (local.get 0) (local.get 1)))
  (func $apply (param $function (ref $binary)) (result i32)
    (call_ref $binary (i32.const 30) (i32.const 12) (local.get $function)))
  (func $pass (param $function (ref $binary)) (result i32)
    (return_call_ref $binary (i32.const 30) (i32.const 12) (local.get $function)))
  (func $is_null (param $function (ref null $binary)) (result i32)
    (block $null
      (br_on_null $null (local.get $function))
      drop
      (return (i32.const 0)))
    (i32.const 1))
  (func (export "_start")
    (call $check (i32.eq (call $apply (ref.func $add)) (i32.const 42)))
    (call $check (i32.eq (call $pass (ref.func $subtract)) (i32.const 18)))
    (call $check (call $is_null (ref.null $binary)))
    (call $check (i32.eqz (call $is_null (ref.func $add))))
    (call $ok)))
