;; The program that makes calls for the tests. What stands in braces is written by interpreter.rs.
;;
;; A frame of commands arrives on standard input: its length (u32), then commands, each a kind (u32) and
;;   0 poke: address, length (u32), bytes      writes to memory
;;   1 call: function, bytes of arguments (u32), arguments of 8 bytes   answers with 8 bytes
;;   2 peek: address, length (u32)             answers with memory
;;   3 heap:                                   answers with what was allocated for the last call
;;   4 copy: address, address                  copies 4 bytes of memory, to the first address
;; The answer goes to standard error: its length, big-endian, then what the commands answered with. The end
;; of standard input, or a length of -1, ends the program.
(module
  {imports}
  (memory (export "memory") {pages})
  ;; end of what is allocated
  (global $free (mut i32) (i32.const {heap}))
  ;; arguments of the call that is made
  (global $arguments (mut i32) (i32.const 0))
  ;; end of the answer
  (global $answer (mut i32) (i32.const {answer}))

  ;; Gives memory to what a call returns. Nothing is ever grown or freed.
  (func $allocate (export "cabi_realloc")
    (param i32 i32) (param $alignment i32) (param $bytes i32) (result i32)
    (local $start i32)
    (local.set $start (i32.and
      (i32.sub (i32.add (global.get $free) (local.get $alignment)) (i32.const 1))
      (i32.sub (i32.const 0) (local.get $alignment))))
    (global.set $free (i32.add (local.get $start) (local.get $bytes)))
    (local.get $start))

  ;; $receive fills memory from standard input and tells whether there was enough; $send writes to
  ;; standard error.
  {transport}

  (func $reply (param $from i32) (param $bytes i32)
    (memory.copy (global.get $answer) (local.get $from) (local.get $bytes))
    (global.set $answer (i32.add (global.get $answer) (local.get $bytes))))

  ;; Calls a function by its number.
  (func $call (param $function i32) (result i64)
    {dispatch})

  (func $interpret (param $at i32) (param $end i32)
    (local $kind i32) (local $a i32) (local $b i32)
    (loop $next
      (if (i32.ge_u (local.get $at) (local.get $end)) (then (return)))
      (local.set $kind (i32.load (local.get $at)))
      (local.set $a (i32.load offset=4 (local.get $at)))
      (local.set $b (i32.load offset=8 (local.get $at)))
      (local.set $at (i32.add (local.get $at) (i32.const 12)))
      (if (i32.eqz (local.get $kind)) (then
        (memory.copy (local.get $a) (local.get $at) (local.get $b))
        (local.set $at (i32.add (local.get $at) (local.get $b)))))
      (if (i32.eq (local.get $kind) (i32.const 1)) (then
        (global.set $free (i32.const {heap}))
        (global.set $arguments (local.get $at))
        (i64.store (i32.const {result}) (call $call (local.get $a)))
        (call $reply (i32.const {result}) (i32.const 8))
        (local.set $at (i32.add (local.get $at) (local.get $b)))))
      (if (i32.eq (local.get $kind) (i32.const 2)) (then
        (call $reply (local.get $a) (local.get $b))))
      (if (i32.eq (local.get $kind) (i32.const 4)) (then
        (i32.store (local.get $a) (i32.load (local.get $b)))))
      (if (i32.eq (local.get $kind) (i32.const 3)) (then
        (call $reply (i32.const {heap}) (i32.sub (global.get $free) (i32.const {heap})))))
      (br $next)))

  (func $run (export "{entry}") {entry_type}
    (local $bytes i32)
    {begin}
    (loop $next
      (if (i32.eqz (call $receive (i32.const {commands}) (i32.const 4))) (then {end}))
      (local.set $bytes (i32.load (i32.const {commands})))
      (if (i32.eq (local.get $bytes) (i32.const -1)) (then {end}))
      (if (i32.eqz (call $receive (i32.const {commands}) (local.get $bytes))) (then {end}))
      (global.set $answer (i32.add (i32.const {answer}) (i32.const 4)))
      (call $interpret (i32.const {commands})
        (i32.add (i32.const {commands}) (local.get $bytes)))
      (local.set $bytes
        (i32.sub (global.get $answer) (i32.add (i32.const {answer}) (i32.const 4))))
      (i32.store8 (i32.const {answer}) (i32.shr_u (local.get $bytes) (i32.const 24)))
      (i32.store8 offset=1 (i32.const {answer}) (i32.shr_u (local.get $bytes) (i32.const 16)))
      (i32.store8 offset=2 (i32.const {answer}) (i32.shr_u (local.get $bytes) (i32.const 8)))
      (i32.store8 offset=3 (i32.const {answer}) (local.get $bytes))
      (call $send (i32.const {answer}) (i32.add (local.get $bytes) (i32.const 4)))
      (br $next))
    unreachable))
