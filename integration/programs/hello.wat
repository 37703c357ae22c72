;; Writes one line to standard output: the smallest program that says something.
(component
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $output-stream (sub resource)))
    (alias outer 1 $error (type $error))
    (type $failure (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failure)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $output-stream)) (param "contents" (list u8))
        (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output-stream (type $stream))
    (export "output-stream" (type $output-stream (eq $stream)))
    (export "get-stdout" (func (result (own $output-stream))))))

  (core module $storage (memory (export "memory") 1))
  (core instance $storage (instantiate $storage))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $write
    (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
      (memory $storage "memory")))
  (core module $main
    (import "wasi" "get-stdout" (func $get_stdout (result i32)))
    (import "wasi" "write" (func $write (param i32 i32 i32 i32)))
    (import "storage" "memory" (memory 1))
    (data (i32.const 64) "hello, world\n")
    ;; The result of the write, at address 0, is the result of the program: 0 is success.
    (func $main (export "run") (result i32)
      (call $write (call $get_stdout) (i32.const 64) (i32.const 13) (i32.const 0))
      (i32.load8_u (i32.const 0))))
  (core instance $wasi
    (export "get-stdout" (func $get-stdout))
    (export "write" (func $write)))
  (core instance $main (instantiate $main
    (with "wasi" (instance $wasi))
    (with "storage" (instance $storage))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
