// What a contract in AssemblyScript needs: the host's functions, the Solidity ABI, words of 256 bits.
// Memory is managed by hand: a word is a pointer to 32 bytes with the big end first, as the host and the ABI have it.

// @ts-ignore: decorator
@external("koinon", "call_data_size") export declare function callDataSize(): u32;
// @ts-ignore: decorator
@external("koinon", "call_data_copy") export declare function callDataCopy(to: usize, offset: u32, size: u32): void;
// @ts-ignore: decorator
@external("koinon", "finish") export declare function finish(place: usize, size: u32): void;
// @ts-ignore: decorator
@external("koinon", "revert") export declare function revert(place: usize, size: u32): void;
// @ts-ignore: decorator
@external("koinon", "caller") export declare function caller(to: usize): void;
// @ts-ignore: decorator
@external("koinon", "address") export declare function ownAddress(to: usize): void;
// @ts-ignore: decorator
@external("koinon", "value") export declare function value(to: usize): void;
// @ts-ignore: decorator
@external("koinon", "gas_left") export declare function gasLeft(): u64;
// @ts-ignore: decorator
@external("koinon", "timestamp") export declare function timestamp(): u64;
// @ts-ignore: decorator
@external("koinon", "chain_id") export declare function chainId(): u64;
// @ts-ignore: decorator
@external("koinon", "storage_read") export declare function storageRead(slot: usize, to: usize): void;
// @ts-ignore: decorator
@external("koinon", "storage_write") export declare function storageWrite(slot: usize, content: usize): void;
// @ts-ignore: decorator
@external("koinon", "keccak256") export declare function keccak256(place: usize, size: u32, to: usize): void;
// @ts-ignore: decorator
@external("koinon", "log") export declare function log(place: usize, size: u32, topics: usize, count: u32): void;
// @ts-ignore: decorator
@external("koinon", "call") export declare function callContract(gas: u64, to: usize, coins: usize, place: usize, size: u32): u32;
// @ts-ignore: decorator
@external("koinon", "return_data_size") export declare function returnDataSize(): u32;
// @ts-ignore: decorator
@external("koinon", "return_data_copy") export declare function returnDataCopy(to: usize, offset: u32, size: u32): void;
// @ts-ignore: decorator
@external("koinon", "elgamal_add") export declare function elgamalAdd(left: usize, right: usize, to: usize): u32;
// @ts-ignore: decorator
@external("koinon", "elgamal_ballot") export declare function elgamalBallot(key: usize, ciphertext: usize, context: usize, proof: usize): u32;
// @ts-ignore: decorator
@external("koinon", "elgamal_share") export declare function elgamalShare(key: usize, first: usize, share: usize, context: usize, proof: usize): u32;
// @ts-ignore: decorator
@external("koinon", "elgamal_open") export declare function elgamalOpen(ciphertext: usize, shares: usize, count: u32, to: usize): u32;
// @ts-ignore: decorator
@external("koinon", "bn254_multiply") export declare function bn254Multiply(point: usize, scalar: usize, to: usize): u32;
// @ts-ignore: decorator
@external("koinon", "groth16_verify") export declare function groth16Verify(key: usize, size: u32, proof: usize, inputs: usize, count: u32): u32;

export const WORD: u32 = 32;

// The runtime calls this where AssemblyScript's own checks fail.
export function abort(_message: usize, _file: usize, _line: u32, _column: u32): void {
  unreachable();
}

// Call data

const SELECTOR = memory.data(4);

/// The first four bytes of the call data as a number; zero where there are fewer.
export function selector(): u32 {
  callDataCopy(SELECTOR, 0, 4);
  return bswap(load<u32>(SELECTOR));
}

/// Copy the ABI's argument `index` (from 0) to a word; what is missing is zero, as in old Solidity.
export function argument(index: u32, to: usize): void {
  callDataCopy(to, 4 + index * WORD, WORD);
}

/// Copy an address argument; reverts if its upper 12 bytes are not zero.
export function addressArgument(index: u32, to: usize): void {
  argument(index, to);
  if (load<u64>(to) != 0 || load<u32>(to, 8) != 0) fail("an address has twenty bytes");
}

// Words

export function clear(word: usize): void {
  for (let i: usize = 0; i < 32; i += 8) store<u64>(word + i, 0);
}

export function copy(from: usize, to: usize): void {
  for (let i: usize = 0; i < 32; i += 8) store<u64>(to + i, load<u64>(from + i));
}

export function isZero(word: usize): bool {
  return (load<u64>(word) | load<u64>(word, 8) | load<u64>(word, 16) | load<u64>(word, 24)) == 0;
}

export function setNumber(word: usize, number: u64): void {
  clear(word);
  store<u64>(word + 24, bswap(number));
}

/// to = left + right; true if it does not fit.
export function add(left: usize, right: usize, to: usize): bool {
  let carry: u64 = 0;
  for (let i: isize = 24; i >= 0; i -= 8) {
    const a = bswap(load<u64>(left + i));
    const b = bswap(load<u64>(right + i));
    const sum = a + b;
    const total = sum + carry;
    carry = u64(sum < a) | u64(total < sum);
    store<u64>(to + i, bswap(total));
  }
  return carry != 0;
}

/// to = left − right; true if right is the larger.
export function subtract(left: usize, right: usize, to: usize): bool {
  let borrow: u64 = 0;
  for (let i: isize = 24; i >= 0; i -= 8) {
    const a = bswap(load<u64>(left + i));
    const b = bswap(load<u64>(right + i));
    const difference = a - b;
    const total = difference - borrow;
    borrow = u64(a < b) | u64(difference < borrow);
    store<u64>(to + i, bswap(total));
  }
  return borrow != 0;
}

/// The caller as a word.
export function callerWord(to: usize): void {
  clear(to);
  caller(to + 12);
}

// Storage as Solidity lays it out

const PAIR = memory.data(64);

/// The slot of a mapping's entry: keccak256(key ‖ slot of the mapping).
export function entrySlot(key: usize, mapping: usize, to: usize): void {
  copy(key, PAIR);
  copy(mapping, PAIR + 32);
  keccak256(PAIR, 64, to);
}

// Answers

const ANSWER = memory.data(32);
const ERROR = memory.data(132);

export function finishNumber(number: u64): void {
  setNumber(ANSWER, number);
  finish(ANSWER, WORD);
}

/// Return a text of at most 32 characters as the ABI's `string`.
export function finishText(text: string): void {
  finish(ERROR, encodeText(ERROR, text));
}

/// Revert with Solidity's `Error(string)`; a text of at most 64 ASCII characters.
export function fail(text: string): void {
  store<u32>(ERROR, bswap<u32>(0x08c379a0));
  revert(ERROR, 4 + encodeText(ERROR + 4, text));
}

/// The ABI's encoding of one text at `to`; gives its size.
function encodeText(to: usize, text: string): u32 {
  setNumber(to, 32);
  setNumber(to + 32, text.length);
  clear(to + 64);
  if (text.length > 32) clear(to + 96);
  for (let i: i32 = 0; i < text.length; i++) store<u8>(to + 64 + i, u8(text.charCodeAt(i)));
  return text.length > 32 ? 128 : 96;
}
