"""Reading parameters: each reader takes JSON and the name of what it reads, and gives a value or raises InvalidInput.

Objects are read by shape, once: what comes out is a frozen record whose fields have been checked.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from koinon.kernel.errors import InvalidInput, Refused
from koinon.kernel.ids import Address, Hash32
from koinon.ledger.rpc.table import Json
from koinon.ledger.transaction import AccessList

_QUANTITY: Final = re.compile("0x[0-9a-fA-F]{1,64}")
_FINAL_TAGS: Final = frozenset({"latest", "safe", "finalized"})
_MOST_TOPICS: Final = 4
_MOST_ALTERNATIVES: Final = 1_000
_MOST_OVERRIDDEN: Final = 1_000
_SHOWN: Final = 80

_T = TypeVar("_T")

BlockChoice = Literal["latest", "earliest", "pending"] | int | bytes
"""A block as a caller names it: a tag, a height, or a hash."""
TopicFilter = tuple[frozenset[bytes], ...]
"""Allowed topics by position; an empty set allows any."""


@dataclass(frozen=True)
class CallFields:
    """A call or an unsigned transaction; what was left out is None."""

    sender: Address | None = None
    to: Address | None = None
    gas: int | None = None
    gas_price: int | None = None
    maximum_fee: int | None = None
    maximum_tip: int | None = None
    value: int = 0
    data: bytes = b""
    nonce: int | None = None
    access_list: AccessList | None = None
    chain_id: int | None = None


@dataclass(frozen=True)
class LogCriteria:
    """Which logs: by block, or from one block to another, and by address and topics; empty allows any."""

    first: BlockChoice | None = None
    last: BlockChoice | None = None
    block: Hash32 | None = None
    addresses: frozenset[Address] = frozenset()
    topics: TopicFilter = ()


@dataclass(frozen=True)
class AccountOverride:
    """What an account shall be for one call.

    Attributes:
        storage: values by slot, of all its storage (``state``) or of some slots (``stateDiff``).
        replaces_storage: whether slots that are not named read zero.
    """

    nonce: int | None = None
    balance: int | None = None
    code: bytes | None = None
    storage: dict[int, int] = field(default_factory=dict)
    replaces_storage: bool = False


StateOverride = dict[Address, AccountOverride]


@dataclass(frozen=True)
class BlockOverride:
    """What the block of a call shall be; None leaves it."""

    height: int | None = None
    timestamp: int | None = None
    gas_limit: int | None = None
    beneficiary: Address | None = None
    mix: Hash32 | None = None
    base_fee: int | None = None


def quantity(value: Json, name: str) -> int:
    """A hexadecimal quantity of at most 256 bits."""
    if not isinstance(value, str) or _QUANTITY.fullmatch(value) is None:
        raise InvalidInput(f"{name} must be a hexadecimal quantity such as 0x1f; got {shown(value)}")
    return int(value, 16)


def number(value: Json, name: str) -> int:
    """A quantity that some clients send as a JSON number."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
        return value
    return quantity(value, name)


def data(value: Json, name: str) -> bytes:
    """Bytes in hexadecimal."""
    return _bytes(value, name, None)


def address(value: Json, name: str) -> Address:
    """20 bytes in hexadecimal."""
    return Address(_bytes(value, name, 20))


def digest(value: Json, name: str) -> Hash32:
    """32 bytes in hexadecimal."""
    return Hash32(_bytes(value, name, 32))


def boolean(value: Json, name: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} must be true or false; got {shown(value)}")
    return value


def text(value: Json, name: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be a string; got {shown(value)}")
    return value


def table(value: Json, name: str) -> dict[str, Json]:
    """An object."""
    if not isinstance(value, dict):
        raise InvalidInput(f"{name} must be an object; got {shown(value)}")
    return value


def items(value: Json, name: str, most: int) -> list[Json]:
    """A list of at most ``most`` entries."""
    if not isinstance(value, list) or len(value) > most:
        raise InvalidInput(f"{name} must be a list of at most {most} entries; got {shown(value)}")
    return value


def anything(value: Json, _name: str) -> Json:
    """Whatever it is; the method reads it."""
    return value


def slot(value: Json, name: str) -> int:
    """A storage slot: clients send it as a quantity or as 32 bytes."""
    return quantity(value, name)


def block(value: Json, name: str) -> BlockChoice:
    """A tag, a height, a block hash, or one of the latter two as an object (EIP-1898)."""
    if isinstance(value, dict):
        if ("blockHash" in value) == ("blockNumber" in value):
            raise InvalidInput(f"{name} as an object has either blockHash or blockNumber")
        return digest(value["blockHash"], name) if "blockHash" in value else quantity(value["blockNumber"], name)
    if isinstance(value, str) and value in _FINAL_TAGS:
        return "latest"
    if value == "earliest":
        return "earliest"
    if value == "pending":
        return "pending"
    if isinstance(value, str) and len(value) == 66:
        return digest(value, name)
    if not isinstance(value, str) or _QUANTITY.fullmatch(value) is None:
        raise InvalidInput(f"{name} must be a block number or tag or hash; got {shown(value)}")
    return int(value, 16)


def call(value: Json, name: str) -> CallFields:
    """A call or an unsigned transaction."""
    fields = table(value, name)
    kind = _optional(fields, "type", number)
    if kind is not None and kind > 2:
        raise Refused(f"transactions of type {kind} are not taken; use type 0, 1 or 2")
    if fields.get("blobVersionedHashes") or fields.get("authorizationList"):
        raise Refused("blobs and authorisations (types 3 and 4) are not taken here")
    price = _optional(fields, "gasPrice", quantity)
    fee, tip = _optional(fields, "maxFeePerGas", quantity), _optional(fields, "maxPriorityFeePerGas", quantity)
    if price is not None and (fee is not None or tip is not None):
        raise InvalidInput("give gasPrice, or maxFeePerGas and maxPriorityFeePerGas, not both")
    if fee is not None and tip is not None and tip > fee:
        raise InvalidInput("maxPriorityFeePerGas is above maxFeePerGas")
    given = [data(fields[key], key) for key in ("input", "data") if fields.get(key) is not None]
    if len(given) == 2 and given[0] != given[1]:
        raise InvalidInput("input and data are both given and differ; give one of them")
    to = fields.get("to")
    return CallFields(
        sender=_optional(fields, "from", address),
        to=None if to in (None, "", "0x") else address(to, "to"),
        gas=_optional(fields, "gas", quantity),
        gas_price=price,
        maximum_fee=fee,
        maximum_tip=tip,
        value=_optional(fields, "value", quantity) or 0,
        data=given[0] if given else b"",
        nonce=_optional(fields, "nonce", quantity),
        access_list=_optional(fields, "accessList", access_list),
        chain_id=_optional(fields, "chainId", quantity),
    )


def access_list(value: Json, name: str) -> AccessList:
    """Addresses with their storage keys (EIP-2930)."""
    entries = [table(entry, name) for entry in items(value, name, _MOST_OVERRIDDEN)]
    return tuple(
        (
            address(entry.get("address"), "an address of the access list"),
            tuple(
                int.from_bytes(digest(key, "a storage key of the access list"), "big")
                for key in items(entry.get("storageKeys") or [], "storageKeys", _MOST_OVERRIDDEN)
            ),
        )
        for entry in entries
    )


def log_criteria(value: Json, name: str) -> LogCriteria:
    """What ``eth_getLogs`` and its kin look for."""
    fields = table(value, name)
    whole = _optional(fields, "blockHash", digest)
    first, last = _optional(fields, "fromBlock", block), _optional(fields, "toBlock", block)
    if whole is not None and (first is not None or last is not None):
        raise InvalidInput("a log filter has blockHash, or fromBlock and toBlock, not both")
    if isinstance(first, int) and isinstance(last, int) and first > last:
        raise InvalidInput(f"the log filter ends at block {last}, before it begins at {first}")
    return LogCriteria(first, last, whole, _addresses(fields.get("address")), _topics(fields.get("topics")))


def state_override(value: Json, name: str) -> StateOverride:
    """What accounts shall be for one call."""
    entries = table(value, name)
    if len(entries) > _MOST_OVERRIDDEN:
        raise InvalidInput(f"{name} overrides at most {_MOST_OVERRIDDEN} accounts")
    return {address(key, "an overridden account"): _account_override(entry) for key, entry in entries.items()}


def block_override(value: Json, name: str) -> BlockOverride:
    """What the block shall be for one call; names as in go-ethereum, and those of the block's own form."""
    fields = table(value, name)
    coinbase = "coinbase" if "coinbase" in fields else "feeRecipient"
    mix = "random" if "random" in fields else "prevRandao"
    fee = "baseFee" if "baseFee" in fields else "baseFeePerGas"
    return BlockOverride(
        height=_optional(fields, "number", quantity),
        timestamp=_optional(fields, "time", quantity),
        gas_limit=_optional(fields, "gasLimit", quantity),
        beneficiary=_optional(fields, coinbase, address),
        mix=_optional(fields, mix, digest),
        base_fee=_optional(fields, fee, quantity),
    )


def shown(value: Json) -> str:
    """The beginning of what was given, for an error."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else f"a list of {len(value)}"
    return repr(str(value)[:_SHOWN]) if isinstance(value, str) else str(value)[:_SHOWN]


def _account_override(value: Json) -> AccountOverride:
    fields = table(value, "an account's override")
    if fields.get("movePrecompileToAddress") is not None:
        raise Refused("precompiles cannot be moved here; leave movePrecompileToAddress out")
    whole, some = fields.get("state"), fields.get("stateDiff")
    if whole is not None and some is not None:
        raise InvalidInput("an account's override has state or stateDiff, not both")
    slots = table(some if whole is None else whole, "state") if whole is not None or some is not None else {}
    if len(slots) > _MOST_OVERRIDDEN:
        raise InvalidInput(f"an override sets at most {_MOST_OVERRIDDEN} slots of an account")
    return AccountOverride(
        nonce=_optional(fields, "nonce", quantity),
        balance=_optional(fields, "balance", quantity),
        code=_optional(fields, "code", data),
        storage={slot(key, "an overridden slot"): quantity(held, "its value") for key, held in slots.items()},
        replaces_storage=whole is not None,
    )


def _addresses(value: Json) -> frozenset[Address]:
    entries = items(value, "address", _MOST_ALTERNATIVES) if isinstance(value, list) else []
    if value is not None and not isinstance(value, list):
        entries = [value]
    return frozenset(address(entry, "address") for entry in entries)


def _topics(value: Json) -> TopicFilter:
    if value is None:
        return ()
    positions = items(value, "topics", _MOST_TOPICS)
    return tuple(frozenset(digest(topic, "a topic") for topic in _alternatives(entry)) for entry in positions)


def _alternatives(entry: Json) -> list[Json]:
    if entry is None:
        return []
    if not isinstance(entry, list):
        return [entry]
    # One null among alternatives allows any topic, as in go-ethereum.
    return [] if None in entry else items(entry, "alternatives of a topic", _MOST_ALTERNATIVES)


def _optional(fields: dict[str, Json], key: str, read: Callable[[Json, str], _T]) -> _T | None:
    value = fields.get(key)
    return None if value is None else read(value, key)


def _bytes(value: Json, name: str, length: int | None) -> bytes:
    wanted = "bytes in hexadecimal" if length is None else f"{length} bytes in hexadecimal"
    if isinstance(value, str) and value.startswith("0x"):
        try:
            result = bytes.fromhex(value[2:])
        except ValueError:
            result = None
        # The second condition: fromhex skips white space.
        if result is not None and (length is None or len(result) == length) and 2 * len(result) == len(value) - 2:
            return result
    raise InvalidInput(f"{name} must be {wanted}, starting with 0x; got {shown(value)}")
