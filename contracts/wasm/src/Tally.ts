// A vote of yes or no in which only the sum is opened, by `threshold` of three trustees together. Everybody has one vote.
// What EncryptedTally.sol does with precompiled contracts, this does with the host's ElGamal functions.
//
//   constructor(uint256 closes, uint256 threshold, uint256[2] key, address[3] trustees, uint256[6] verificationKeys)

import {
  abort, addressArgument, argument, bn254Multiply, callDataCopy, callDataSize, callerWord, chainId, clear, copy,
  elgamalAdd, elgamalBallot, elgamalOpen, elgamalShare, entrySlot, fail, finish, finishNumber, isZero, keccak256,
  ownAddress, selector, setNumber, storageRead, storageWrite, timestamp, value, WORD,
} from "./koinon";
export { abort };

const TRUSTEES: u32 = 3;

// Slots: the constructor's words first.
const CLOSES: u64 = 0;
const THRESHOLD: u64 = 1;
const KEY: u64 = 2;
const TRUSTEE: u64 = 4;
const OWN_KEY: u64 = 7;
const TERMS: u32 = 13;
const SUM: u64 = 13;
const BALLOTS: u64 = 17;
const SHARES: u64 = 18; // how many
const RESULT: u64 = 19; // the opened total and one
const SHARE: u64 = 20; // place, x, y of each
const VOTED: u64 = 40; // mapping(address => bool)
const SHARED: u64 = 41; // mapping(address => bool)

const SLOT = memory.data(32);
const HELD = memory.data(32);
const WHO = memory.data(32);
const CONTEXT = memory.data(96);
const POINTS = memory.data(512);
const GENERATOR = memory.data<u8>([
  0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,
  0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2,
]);

export function deploy(): void {
  refuseMoney();
  if (callDataSize() != TERMS * WORD) fail("the terms are thirteen words");
  for (let i: u32 = 0; i < TERMS; i++) {
    callDataCopy(HELD, i * WORD, WORD);
    write(i, HELD);
  }
  const threshold = number(THRESHOLD);
  if (threshold == 0 || threshold > TRUSTEES || number(CLOSES) <= timestamp()) fail("the terms cannot be kept");
}

export function call(): void {
  refuseMoney();
  switch (selector()) {
    case 0x667291c0: vote(); // vote(uint256[4],uint256[4])
    case 0x418be376: share(); // share(uint256[2],uint256[2])
    case 0x690e7c09: open(); // open(uint256)
    case 0x853255cc: { // sum()
      readPoints(SUM, 4, POINTS);
      finish(POINTS, 128);
    }
    case 0x2d2bd0bb: finishNumber(number(BALLOTS)); // ballots()
    case 0x65372147: { // result()
      const result = number(RESULT);
      if (result == 0) fail("the sum is not open yet");
      finishNumber(result - 1);
    }
    case 0x1f2eb454: { // contextOf(address)
      addressArgument(0, WHO);
      context();
      finish(CONTEXT, WORD);
    }
    default: fail("the vote has no such function");
  }
}

function vote(): void {
  if (timestamp() >= number(CLOSES)) fail("the vote is closed");
  callerWord(WHO);
  once(VOTED, "this account has voted");
  // 0: key, 64: ballot, 192: proof, 320: sum
  readPoints(KEY, 2, POINTS);
  callDataCopy(POINTS + 64, 4, 256);
  context();
  if (!elgamalBallot(POINTS, POINTS + 64, CONTEXT, POINTS + 192)) fail("the ballot does not prove that it is 0 or 1");
  readPoints(SUM, 4, POINTS + 320);
  elgamalAdd(POINTS + 64, POINTS + 320, POINTS + 320);
  for (let i: u32 = 0; i < 4; i++) write(SUM + i, POINTS + 320 + i * WORD);
  setNumber(HELD, number(BALLOTS) + 1);
  write(BALLOTS, HELD);
  finish(HELD, 0);
}

function share(): void {
  if (timestamp() < number(CLOSES)) fail("the vote is still open");
  callerWord(WHO);
  const place = placeOf();
  once(SHARED, "this trustee has given its share");
  // 0: the trustee's key, 64: first part of the sum, 128: share, 192: proof
  readPoints(OWN_KEY + 2 * u64(place), 2, POINTS);
  readPoints(SUM, 2, POINTS + 64);
  callDataCopy(POINTS + 128, 4, 128);
  context();
  if (!elgamalShare(POINTS, POINTS + 64, POINTS + 128, CONTEXT, POINTS + 192)) fail("the share does not prove that it is right");
  const shares = number(SHARES);
  if (shares < number(THRESHOLD)) {
    setNumber(HELD, u64(place) + 1);
    write(SHARE + 3 * shares, HELD);
    write(SHARE + 3 * shares + 1, POINTS + 128);
    write(SHARE + 3 * shares + 2, POINTS + 160);
    setNumber(HELD, shares + 1);
    write(SHARES, HELD);
  }
  finish(HELD, 0);
}

function open(): void {
  const shares = number(SHARES);
  if (shares < number(THRESHOLD) || number(RESULT) != 0) fail("there is nothing to open");
  // 0: the sum, 128: place and share of each, 416: the opened point, 480: what it should be
  readPoints(SUM, 4, POINTS);
  readPoints(SHARE, 3 * u32(shares), POINTS + 128);
  argument(0, WHO);
  if (load<u64>(WHO) != 0 || load<u64>(WHO, 8) != 0 || load<u64>(WHO, 16) != 0) fail("that is not the sum");
  const total = bswap(load<u64>(WHO, 24));
  if (total > number(BALLOTS)) fail("that is not the sum");
  if (!elgamalOpen(POINTS, POINTS + 128, u32(shares), POINTS + 416)) fail("that is not the sum");
  bn254Multiply(GENERATOR, WHO, POINTS);
  for (let i: usize = 0; i < 64; i += 8) {
    if (load<u64>(POINTS + i) != load<u64>(POINTS + 416 + i)) fail("that is not the sum");
  }
  setNumber(HELD, total + 1);
  write(RESULT, HELD);
  finish(HELD, 0);
}

function refuseMoney(): void {
  value(HELD);
  if (!isZero(HELD)) fail("the vote takes no coins");
}

/// CONTEXT = keccak256(abi.encode(chain, this, WHO)), as in EncryptedTally.sol.
function context(): void {
  setNumber(CONTEXT, chainId());
  clear(CONTEXT + 32);
  ownAddress(CONTEXT + 44);
  copy(WHO, CONTEXT + 64);
  keccak256(CONTEXT, 96, CONTEXT);
}

/// Which trustee WHO is, from 0.
function placeOf(): u32 {
  for (let i: u32 = 0; i < TRUSTEES; i++) {
    read(TRUSTEE + i, HELD);
    let same = true;
    for (let j: usize = 0; j < 32; j += 8) same = same && load<u64>(HELD + j) == load<u64>(WHO + j);
    if (same) return i;
  }
  fail("only trustees give shares");
  return 0;
}

/// Note in a mapping that WHO has done it; reverts the second time.
function once(mapping: u64, complaint: string): void {
  setNumber(HELD, mapping);
  entrySlot(WHO, HELD, SLOT);
  storageRead(SLOT, HELD);
  if (!isZero(HELD)) fail(complaint);
  setNumber(HELD, 1);
  storageWrite(SLOT, HELD);
}

function read(slot: u64, to: usize): void {
  setNumber(SLOT, slot);
  storageRead(SLOT, to);
}

function write(slot: u64, content: usize): void {
  setNumber(SLOT, slot);
  storageWrite(SLOT, content);
}

function readPoints(slot: u64, words: u32, to: usize): void {
  for (let i: u32 = 0; i < words; i++) read(slot + i, to + i * WORD);
}

/// A slot that holds a small number.
function number(slot: u64): u64 {
  read(slot, HELD);
  return bswap(load<u64>(HELD, 24));
}
