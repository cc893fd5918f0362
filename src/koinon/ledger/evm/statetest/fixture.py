"""One state test: a state, a block's environment, a transaction in several variants, and what each must lead to.

Format: https://eest.ethereum.org, "State Tests". Numbers are hexadecimal texts. Where a variant names an exception, the
transaction must be refused and the state stay as it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from koinon.crypto.hash import keccak256
from koinon.crypto.signature import AccountKey
from koinon.kernel.errors import InvalidInput, Refused
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import ChainId, Gas, Height, UnixSeconds, Wei
from koinon.ledger import rlp
from koinon.ledger.evm.engine import EvmEngine
from koinon.ledger.evm.program import ProgramCache
from koinon.ledger.evm.transition import blob_base_fee
from koinon.ledger.execution import BlockContext, Log
from koinon.ledger.state import EMPTY_CODE_HASH, Difference, account_key, code_key, decode_account, slot_key
from koinon.ledger.transaction import AccessList, Transaction
from koinon.ledger.trie import trie_root

FORK: Final = "Cancun"
_CHAIN: Final = ChainId(1)
_WORD: Final = 2**256

State = dict[bytes, bytes]


@dataclass(frozen=True)
class Case:
    """One variant of a test.

    Attributes:
        name: of the test, with the place of this variant among those of the fork.
        expected_root: of the state afterwards, as a Merkle-Patricia trie.
        expected_logs: Keccak-256 of the RLP of the logs.
        refusal: the exception the test names, if the transaction is to be refused.
    """

    name: str
    expected_root: bytes
    expected_logs: bytes
    refusal: str
    environment: Mapping[str, str]
    pre: Mapping[str, Any]
    transaction: Mapping[str, Any]
    indexes: Mapping[str, int]


@dataclass(frozen=True)
class Failure:
    """A variant that did not end as it must."""

    case: str
    reason: str


def cases(content: Any) -> Iterator[Case]:
    """The variants for fork Cancun in a file's decoded JSON.

    Raises:
        InvalidInput: the content is no state test.
    """
    try:
        for name, test in content.items():
            for number, post in enumerate(test["post"].get(FORK, ())):
                yield Case(
                    name=f"{name}[{number}]",
                    expected_root=_bytes(post["hash"]),
                    expected_logs=_bytes(post["logs"]),
                    refusal=post.get("expectException", ""),
                    environment=test["env"],
                    pre=test["pre"],
                    transaction=test["transaction"],
                    indexes=post["indexes"],
                )
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise _no_test(problem) from None


def _no_test(problem: Exception) -> InvalidInput:
    return InvalidInput(f"not a state test: {type(problem).__name__} {problem}")


def run_case(case: Case, programs: ProgramCache) -> Failure | None:
    """Run one variant; None if it ends as it must.

    Raises:
        InvalidInput: state, environment or transaction are not in the format.
    """
    try:
        state, context = _state(case.pre), _context(case.environment)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as problem:
        raise _no_test(problem) from None
    engine = EvmEngine(programs=programs, occupied=frozenset(Address(key[1:21]) for key in state if key[:1] == b"s"))
    logs: tuple[Log, ...] = ()
    difference: Difference = {}
    try:
        block = engine.begin(context, _View(state))
        logs = block.apply(_transaction(case)).logs
        difference = block.difference()
        refused = ""
    except Refused as refusal:
        refused = str(refusal)
    if bool(refused) != bool(case.refusal):
        return Failure(case.name, f"refused ({refused})" if refused else f"not refused; expected {case.refusal}")
    for key, value in difference.items():
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value
    if _logs_hash(logs) != case.expected_logs:
        return Failure(case.name, f"logs hash {_logs_hash(logs).hex()}, expected {case.expected_logs.hex()}")
    root = state_root(state)
    if root != case.expected_root:
        return Failure(case.name, f"state root {root.hex()}, expected {case.expected_root.hex()}")
    return None


def state_root(state: Mapping[bytes, bytes]) -> Hash32:
    """Ethereum's root of a state in our keys: a trie of accounts, each with a trie of its slots."""
    slots: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for key, value in state.items():
        if key[:1] == b"s":
            slots.setdefault(key[1:21], []).append((keccak256(key[21:]), rlp.encode(value)))
    accounts = []
    for key, value in state.items():
        if key[:1] == b"a":
            account = decode_account(value)
            fields = [account.nonce, account.balance, trie_root(slots.get(key[1:], ())), account.code_hash]
            accounts.append((keccak256(key[1:]), rlp.encode(fields)))
    return trie_root(accounts)


class _View:
    """A state view over a dictionary."""

    def __init__(self, content: State) -> None:
        self._content = content

    def get(self, key: bytes, /) -> bytes | None:
        return self._content.get(key)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _number(text: str) -> int:
    """A number below 2^256. Raises Refused: where a transaction holds a larger one, it must not be accepted."""
    value = int(text.removeprefix("0x:bigint "), 16)
    if value >= _WORD:
        raise Refused("a number of the transaction has more than 32 bytes")
    return value


def _state(pre: Mapping[str, Any]) -> State:
    state: State = {}
    for address_text, account in pre.items():
        address, code = _bytes(address_text), _bytes(account["code"])
        code_hash = keccak256(code) if code else EMPTY_CODE_HASH
        entry = int(account["nonce"], 16).to_bytes(8) + int(account["balance"], 16).to_bytes(32) + code_hash
        state[account_key(address)] = entry
        if code:
            state[code_key(code_hash)] = code
        for slot, text in account["storage"].items():
            if value := int(text, 16):
                state[slot_key(address, int(slot, 16))] = value.to_bytes((value.bit_length() + 7) // 8)
    return state


def _context(environment: Mapping[str, str]) -> BlockContext:
    return BlockContext(
        chain_id=_CHAIN,
        height=Height(int(environment["currentNumber"], 16)),
        timestamp=UnixSeconds(int(environment["currentTimestamp"], 16)),
        beneficiary=Address(_bytes(environment["currentCoinbase"])),
        mix=Hash32(int(environment["currentRandom"], 16).to_bytes(32)),
        gas_limit=Gas(int(environment["currentGasLimit"], 16)),
        base_fee=Wei(int(environment["currentBaseFee"], 16)),
        block_hash=lambda number: keccak256(str(number).encode()),
        blob_base_fee=blob_base_fee(int(environment.get("currentExcessBlobGas", "0x0"), 16)),
    )


def _transaction(case: Case) -> Transaction:
    """The variant's transaction.

    Raises:
        Refused: no encoding of a transaction could hold its numbers.
        InvalidInput: it is not in the format.
    """
    try:
        return _read_transaction(case.transaction, case.indexes)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as problem:
        raise _no_test(problem) from None


def _read_transaction(fields: Mapping[str, Any], indexes: Mapping[str, int]) -> Transaction:
    blobs = fields.get("blobVersionedHashes")
    lists = fields.get("accessLists")
    kind = 3 if blobs is not None else 2 if "maxFeePerGas" in fields else 1 if lists is not None else 0
    fee = _number(fields["maxFeePerGas" if kind >= 2 else "gasPrice"])
    tip = _number(fields["maxPriorityFeePerGas"]) if kind >= 2 else fee
    sender = fields.get("sender")
    return Transaction(
        raw=b"",
        hash=Hash32(bytes(32)),
        sender=Address(_bytes(sender)) if sender else AccountKey(_bytes(fields["secretKey"])).address,
        kind=kind,
        chain_id=_CHAIN,
        nonce=_number(fields["nonce"]),
        maximum_tip=Wei(tip),
        maximum_fee=Wei(fee),
        gas=Gas(_number(fields["gasLimit"][indexes["gas"]])),
        to=Address(_bytes(fields["to"])) if fields["to"] else None,
        value=Wei(_number(fields["value"][indexes["value"]])),
        data=_bytes(fields["data"][indexes["data"]]),
        access_list=_access_list(lists[indexes["data"]] if lists else None),
        parity=0,
        r=0,
        s=0,
        maximum_blob_fee=_number(fields.get("maxFeePerBlobGas", "0x0")),
        blob_hashes=tuple(_bytes(blob) for blob in blobs or ()),
    )


def _access_list(entries: Any) -> AccessList:
    return tuple(
        (Address(_bytes(entry["address"])), tuple(int(slot, 16) for slot in entry["storageKeys"]))
        for entry in entries or ()
    )


def _logs_hash(logs: tuple[Log, ...]) -> Hash32:
    return keccak256(rlp.encode([[log.address, list(log.topics), log.data] for log in logs]))
