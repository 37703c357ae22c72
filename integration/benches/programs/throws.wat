;; Throws through a function and catches, a million times: success if each throw arrived.
(component
  (core module $main
    (tag $number (param i32))
    (func $throw (param i32) (throw $number (local.get 0)))
    (func $caught (param i32) (result i32)
      (block $handler (result i32)
        (try_table (catch $number $handler) (call $throw (local.get 0)))
        unreachable))
    (func $main (export "run") (result i32)
      (local $left i32) (local $wrong i32)
      (local.set $left (i32.const 1000000))
      (loop $next
        (local.set $wrong
          (i32.or (local.get $wrong)
            (i32.ne (call $caught (local.get $left)) (local.get $left))))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $next (local.get $left)))
      (local.get $wrong)))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
