// A token in AssemblyScript: the core of ERC-20 with Solidity's ABI, events and storage layout. Fixed supply, no owner.

import {
  abort, add, addressArgument, argument, callDataCopy, callerWord, copy, entrySlot, fail, finish, finishNumber,
  finishText, isZero, log, selector, setNumber, storageRead, storageWrite, subtract, value, WORD,
} from "./koinon";
export { abort };

const BALANCES = memory.data<u8>([0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]);
const ALLOWANCES = memory.data<u8>([0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1]);
const SUPPLY = memory.data<u8>([0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2]);

// Topic, sender or owner, receiver or spender: what `log` takes.
const TRANSFER = memory.data(96);
const APPROVAL = memory.data(96);
const TRANSFER_TOPIC = memory.data<u8>([
  0xdd,0xf2,0x52,0xad,0x1b,0xe2,0xc8,0x9b,0x69,0xc2,0xb0,0x68,0xfc,0x37,0x8d,0xaa,
  0x95,0x2b,0xa7,0xf1,0x63,0xc4,0xa1,0x16,0x28,0xf5,0x5a,0x4d,0xf5,0x23,0xb3,0xef,
]);
const APPROVAL_TOPIC = memory.data<u8>([
  0x8c,0x5b,0xe1,0xe5,0xeb,0xec,0x7d,0x5b,0xd1,0x4f,0x71,0x42,0x7d,0x1e,0x84,0xf3,
  0xdd,0x03,0x14,0xc0,0xf7,0xb2,0x29,0x1e,0x5b,0x20,0x0a,0xc8,0xc7,0xc3,0xb9,0x25,
]);

const FROM = memory.data(32);
const TO = memory.data(32);
const AMOUNT = memory.data(32);
const SPENDER = memory.data(32);
const SLOT = memory.data(32);
const INNER = memory.data(32);
const HELD = memory.data(32);

/// constructor(uint256 supply): all of it belongs to whoever deploys.
export function deploy(): void {
  refuseMoney();
  callDataCopy(AMOUNT, 0, WORD);
  callerWord(TO);
  storageWrite(SUPPLY, AMOUNT);
  entrySlot(TO, BALANCES, SLOT);
  storageWrite(SLOT, AMOUNT);
  setNumber(FROM, 0);
  announce(TRANSFER, TRANSFER_TOPIC, FROM, TO);
}

export function call(): void {
  refuseMoney();
  switch (selector()) {
    case 0x06fdde03: finishText("Koinon example"); // name()
    case 0x95d89b41: finishText("EXA"); // symbol()
    case 0x313ce567: finishNumber(18); // decimals()
    case 0x18160ddd: { // totalSupply()
      storageRead(SUPPLY, HELD);
      finish(HELD, WORD);
    }
    case 0x70a08231: { // balanceOf(address)
      addressArgument(0, FROM);
      entrySlot(FROM, BALANCES, SLOT);
      storageRead(SLOT, HELD);
      finish(HELD, WORD);
    }
    case 0xdd62ed3e: { // allowance(address,address)
      addressArgument(0, FROM);
      addressArgument(1, SPENDER);
      allowanceSlot();
      storageRead(SLOT, HELD);
      finish(HELD, WORD);
    }
    case 0xa9059cbb: { // transfer(address,uint256)
      callerWord(FROM);
      addressArgument(0, TO);
      argument(1, AMOUNT);
      move();
      finishNumber(1);
    }
    case 0x095ea7b3: { // approve(address,uint256)
      callerWord(FROM);
      addressArgument(0, SPENDER);
      argument(1, AMOUNT);
      allowanceSlot();
      storageWrite(SLOT, AMOUNT);
      announce(APPROVAL, APPROVAL_TOPIC, FROM, SPENDER);
      finishNumber(1);
    }
    case 0x23b872dd: { // transferFrom(address,address,uint256)
      addressArgument(0, FROM);
      addressArgument(1, TO);
      argument(2, AMOUNT);
      callerWord(SPENDER);
      spend();
      move();
      finishNumber(1);
    }
    default: fail("the token has no such function");
  }
}

function refuseMoney(): void {
  value(HELD);
  if (!isZero(HELD)) fail("the token takes no coins");
}

/// SLOT = where FROM's allowance for SPENDER is kept.
function allowanceSlot(): void {
  entrySlot(FROM, ALLOWANCES, INNER);
  entrySlot(SPENDER, INNER, SLOT);
}

/// Take AMOUNT off FROM's allowance for SPENDER.
function spend(): void {
  allowanceSlot();
  storageRead(SLOT, HELD);
  if (subtract(HELD, AMOUNT, HELD)) fail("the allowance is too small");
  storageWrite(SLOT, HELD);
}

/// Move AMOUNT from FROM to TO.
function move(): void {
  if (isZero(TO)) fail("nothing is sent to the zero address");
  entrySlot(FROM, BALANCES, SLOT);
  storageRead(SLOT, HELD);
  if (subtract(HELD, AMOUNT, HELD)) fail("the balance is too small");
  storageWrite(SLOT, HELD);
  entrySlot(TO, BALANCES, SLOT);
  storageRead(SLOT, HELD);
  // Cannot overflow: no balance is larger than the supply.
  add(HELD, AMOUNT, HELD);
  storageWrite(SLOT, HELD);
  announce(TRANSFER, TRANSFER_TOPIC, FROM, TO);
}

function announce(topics: usize, name: usize, from: usize, to: usize): void {
  copy(name, topics);
  copy(from, topics + 32);
  copy(to, topics + 64);
  log(AMOUNT, WORD, topics, 3);
}
