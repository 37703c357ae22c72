(global $stdin (mut i32) (i32.const 0))
(global $stderr (mut i32) (i32.const 0))

(func $receive (param $at i32) (param $bytes i32) (result i32)
  (if (i32.eqz (global.get $stdin)) (then (global.set $stdin (call $stdin/get-stdin))))
  (loop $more
    (if (i32.eqz (local.get $bytes)) (then (return (i32.const 1))))
    (global.set $free (i32.const {heap}))
    (call $streams/input-stream.blocking-read
      (global.get $stdin) (i64.extend_i32_u (local.get $bytes)) (i32.const 256))
    (if (i32.load8_u (i32.const 256)) (then (return (i32.const 0))))
    (memory.copy (local.get $at) (i32.load (i32.const 260)) (i32.load (i32.const 264)))
    (local.set $at (i32.add (local.get $at) (i32.load (i32.const 264))))
    (local.set $bytes (i32.sub (local.get $bytes) (i32.load (i32.const 264))))
    (br $more))
  unreachable)

(func $send (param $at i32) (param $bytes i32)
  (local $part i32)
  (if (i32.eqz (global.get $stderr)) (then (global.set $stderr (call $stderr/get-stderr))))
  (loop $more
    (call $streams/output-stream.blocking-flush (global.get $stderr) (i32.const 256))
    (if (i32.eqz (local.get $bytes)) (then (return)))
    (call $streams/output-stream.check-write (global.get $stderr) (i32.const 256))
    (local.set $part (i32.wrap_i64 (i64.load (i32.const 264))))
    (if (i32.gt_u (local.get $part) (local.get $bytes)) (then
      (local.set $part (local.get $bytes))))
    (call $streams/output-stream.write
      (global.get $stderr) (local.get $at) (local.get $part) (i32.const 256))
    (local.set $at (i32.add (local.get $at) (local.get $part)))
    (local.set $bytes (i32.sub (local.get $bytes) (local.get $part)))
    (br $more)))
