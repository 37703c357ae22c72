;; What wasm-bindgen makes for browsers: it imports its JavaScript glue.
(module
  (import "wbg" "__wbindgen_throw" (func $throw (param i32 i32)))
  (import "./app_bg.js" "__wbg_log_1d3ae0273d8f4f8a" (func $log (param i32)))
  (memory (export "memory") 1)
  (func (export "main") (call $log (i32.const 0)))
  (func (export "__wbindgen_start") (call $throw (i32.const 0) (i32.const 0))))
