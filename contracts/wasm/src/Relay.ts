// Calls another contract, in whichever machine it runs: relay(address to, bytes data) returns (bytes), payable.
// Passes on what it returned, and reverts as it reverted. count() says how often that went well.

import {
  abort, addressArgument, argument, callContract, callDataCopy, fail, finish, gasLeft, returnDataCopy, returnDataSize,
  revert, selector, setNumber, storageRead, storageWrite, value, WORD,
} from "./koinon";
export { abort };

const LONGEST: u32 = 16_384;
const COUNT = memory.data(32);
const SLOT = memory.data(32);
const TO = memory.data(32);
const COINS = memory.data(32);
const PLACE = memory.data(32);
const BUFFER = memory.data(16_448);

export function call(): void {
  switch (selector()) {
    case 0x06661abd: { // count()
      storageRead(SLOT, COUNT);
      finish(COUNT, WORD);
    }
    case 0xc28e83fd: relay(); // relay(address,bytes)
    default: fail("the relay has no such function");
  }
}

function relay(): void {
  addressArgument(0, TO);
  const place = small(1);
  callDataCopy(PLACE, 4 + place, WORD);
  const size = bswap(load<u32>(PLACE, 28));
  if (size > LONGEST || load<u64>(PLACE) != 0 || load<u64>(PLACE, 8) != 0 || load<u64>(PLACE, 16) != 0 || load<u32>(PLACE, 24) != 0) {
    fail("the data is too long");
  }
  callDataCopy(BUFFER, 4 + place + WORD, size);
  value(COINS);
  storageRead(SLOT, COUNT);
  setNumber(COUNT, bswap(load<u64>(COUNT, 24)) + 1);
  storageWrite(SLOT, COUNT);
  const done = callContract(gasLeft(), TO + 12, COINS, BUFFER, size);
  const answered = returnDataSize();
  if (answered > LONGEST) fail("the answer is too long");
  if (!done) {
    returnDataCopy(BUFFER, 0, answered);
    revert(BUFFER, answered);
  }
  // ABI of one `bytes`: where it begins, its length, itself in whole words.
  setNumber(BUFFER, WORD);
  setNumber(BUFFER + 32, answered);
  const end = BUFFER + 64 + ((answered + 31) & ~31);
  if (answered % 32 != 0) setNumber(end - 32, 0);
  returnDataCopy(BUFFER + 64, 0, answered);
  finish(BUFFER, u32(end - BUFFER));
}

/// An argument that is a place in the call data.
function small(index: u32): u32 {
  argument(index, PLACE);
  if (load<u64>(PLACE) != 0 || load<u64>(PLACE, 8) != 0 || load<u64>(PLACE, 16) != 0 || load<u32>(PLACE, 24) != 0) {
    fail("the data begins too far away");
  }
  const place = bswap(load<u32>(PLACE, 28));
  if (place > 1_000_000) fail("the data begins too far away");
  return place;
}
