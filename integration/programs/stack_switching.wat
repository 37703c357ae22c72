;; Suspends a continuation: a proposal that is no part of WebAssembly 3.0.
(module
  (type $function (func))
  (type $continuation (cont $function))
  (tag $yield)
  (elem declare func $suspends)
  (func $suspends (suspend $yield))
  (func (export "_start")
    (block $handler (result (ref $continuation))
      (resume $continuation (on $yield $handler) (cont.new $continuation (ref.func $suspends)))
      (return))
    drop))
