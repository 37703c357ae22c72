;; Exits with the status that its last argument names, from below the exported function.
(component
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-arguments" (func (result (list string))))))
  (import "wasi:cli/exit@0.2.12" (instance $exit
    (export "exit-with-code" (func (param "status-code" u8)))))

  ;; The memory for what comes from outside: given out upwards, never taken back.
  (core module $storage
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func $realloc (export "realloc")
      (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at
        (i32.and
          (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
          (i32.sub (i32.const 0) (local.get $align))))
      (global.set $next (i32.add (local.get $at) (local.get $size)))
      (local.get $at)))
  (core instance $storage (instantiate $storage))
  (core func $get-arguments
    (canon lower (func $environment "get-arguments")
      (memory $storage "memory") (realloc (func $storage "realloc"))))
  (core func $exit (canon lower (func $exit "exit-with-code")))

  (core module $main
    (import "wasi" "get-arguments" (func $get_arguments (param i32)))
    (import "wasi" "exit" (func $exit (param i32)))
    (import "storage" "memory" (memory 1))
    ;; Decimal digits from $at to $end.
    (func $leave (param $at i32) (param $end i32)
      (local $status i32)
      (block $done
        (loop $digit
          (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
          (local.set $status
            (i32.add
              (i32.mul (local.get $status) (i32.const 10))
              (i32.sub (i32.load8_u (local.get $at)) (i32.const 48))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $digit)))
      (call $exit (local.get $status)))
    (func $main (export "run") (result i32)
      (local $last i32)
      ;; At 0: address and number of the (address, length) pairs.
      (call $get_arguments (i32.const 0))
      (local.set $last
        (i32.add
          (i32.load (i32.const 0))
          (i32.mul (i32.sub (i32.load (i32.const 4)) (i32.const 1)) (i32.const 8))))
      (call $leave
        (i32.load (local.get $last))
        (i32.add (i32.load (local.get $last)) (i32.load offset=4 (local.get $last))))
      unreachable))
  (core instance $wasi
    (export "get-arguments" (func $get-arguments))
    (export "exit" (func $exit)))
  (core instance $main (instantiate $main
    (with "wasi" (instance $wasi))
    (with "storage" (instance $storage))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
