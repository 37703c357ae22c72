;; Makes a million structures, arrays and small integers, of which it keeps few, so that garbage is collected.
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
  (type $node (sub (struct (field $value i32) (field $next (ref null $node)))))
  (type $leaf (sub $node (struct (field $value i32) (field $next (ref null $node)) (field i64))))
  (type $numbers (array (mut i32)))
  (func $list (param $length i32) (result (ref null $node))
    (local $list (ref null $node))
    (loop $more
      (local.set $list (struct.new $node (local.get $length) (local.get $list)))
      (br_if $more (local.tee $length (i32.sub (local.get $length) (i32.const 1)))))
    (local.get $list))
  (func $sum (param $list (ref null $node)) (result i32)
    (local $sum i32)
    (block $end
      (loop $more
        (br_if $end (ref.is_null (local.get $list)))
        (local.set $sum (i32.add (local.get $sum) (struct.get $node $value (local.get $list))))
        (local.set $list (struct.get $node $next (local.get $list)))
        (br $more)))
    (local.get $sum))
  (func (export "_start")
    (local $rounds i32)
    (local $numbers (ref null $numbers))
    (local $any anyref)
    (loop $round
      (call $check (i32.eq (call $sum (call $list (i32.const 1000))) (i32.const 500500)))
      (br_if $round (i32.lt_u
        (local.tee $rounds (i32.add (local.get $rounds) (i32.const 1))) (i32.const 1000))))
    (local.set $numbers (array.new $numbers (i32.const 7) (i32.const 10000)))
    (array.set $numbers (local.get $numbers) (i32.const 9999) (i32.const 8))
    (call $check (i32.eq (array.len (local.get $numbers)) (i32.const 10000)))
    (call $check (i32.eq (array.get $numbers (local.get $numbers) (i32.const 9999)) (i32.const 8)))
    (local.set $any (struct.new $leaf (i32.const 1) (ref.null $node) (i64.const 2)))
    (call $check (ref.test (ref $node) (local.get $any)))
    (call $check (i64.eq (i64.const 2) (struct.get $leaf 2 (ref.cast (ref $leaf) (local.get $any)))))
    (local.set $any (ref.i31 (i32.const -5)))
    (call $check (i32.eqz (ref.test (ref $node) (local.get $any))))
    (call $check (i32.eq (i32.const -5) (i31.get_s (ref.cast (ref i31) (local.get $any)))))
    (call $ok)))
