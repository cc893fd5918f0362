;; A counter by hand: constructor(uint256 start), next() returns the number after the last, value() the last.
(module
  (import "koinon" "call_data_copy" (func $call_data_copy (param $to i32) (param $offset i32) (param $size i32)))
  (import "koinon" "storage_read" (func $storage_read (param $slot i32) (param $to i32)))
  (import "koinon" "storage_write" (func $storage_write (param $slot i32) (param $content i32)))
  (import "koinon" "finish" (func $finish (param $place i32) (param $size i32)))
  (import "koinon" "revert" (func $revert (param $place i32) (param $size i32)))

  ;; 0: slot zero; 32: the number, big end first; 64: the selector
  (memory (export "memory") 1 1)

  (func (export "deploy")
    (call $call_data_copy (i32.const 32) (i32.const 0) (i32.const 32))
    (call $storage_write (i32.const 0) (i32.const 32)))

  (func (export "call")
    (call $call_data_copy (i32.const 64) (i32.const 0) (i32.const 4))
    (call $storage_read (i32.const 0) (i32.const 32))
    (if (i32.eq (i32.load (i32.const 64)) (i32.const 0x26e58f4c)) ;; next() = 4c8fe526
      (then
        (call $increment)
        (call $storage_write (i32.const 0) (i32.const 32))
        (call $finish (i32.const 32) (i32.const 32))))
    (if (i32.eq (i32.load (i32.const 64)) (i32.const 0x45f2a43f)) ;; value() = 3fa4f245
      (then (call $finish (i32.const 32) (i32.const 32))))
    (call $revert (i32.const 0) (i32.const 0)))

  ;; Add one to the number at 32, from its last byte on.
  (func $increment (local $place i32)
    (local.set $place (i32.const 63))
    (block $done
      (loop $carry
        (i32.store8 (local.get $place) (i32.add (i32.load8_u (local.get $place)) (i32.const 1)))
        (br_if $done (i32.load8_u (local.get $place)))
        (br_if $done (i32.eq (local.get $place) (i32.const 32)))
        (local.set $place (i32.sub (local.get $place) (i32.const 1)))
        (br $carry)))))
