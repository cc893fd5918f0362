"""What the fuzzers throw bytes at: each target takes any bytes and must either accept them whole or refuse them with
one of our errors. Whatever else is raised is a find.
"""

import asyncio
import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import koinon.wire
from koinon.crypto.bls import BlsKey
from koinon.crypto.signature import AccountKey, NodeKey
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, MalformedMessage
from koinon.kernel.ids import Address, NodeId
from koinon.kernel.quantities import ChainId, UnixSeconds, Wei
from koinon.ledger import rlp
from koinon.ledger.finality import verify_finality
from koinon.ledger.genesis import Genesis, GenesisValidator, funded
from koinon.ledger.giskard.certificates import genesis_certificate
from koinon.ledger.giskard.state import SafetyRecord
from koinon.ledger.rpc.limits import Client, Limits
from koinon.ledger.rpc.protocol import JsonRpc, read_json
from koinon.ledger.rpc.table import Caller
from koinon.ledger.transaction import parse_transaction
from koinon.ledger.types import Validator, ValidatorSet
from koinon.net.handshake import PROOF, CalledStream, Proof, Purpose
from koinon.net.records import check_record, sign_record
from koinon.node.monitor import Pages, answer
from koinon.wire.catalogue import messages, pack, unpack
from koinon.wire.consensus import FinalityProof
from koinon.wire.discovery import NodeClaim, NodeRecord
from koinon.wire.frames import HEADER, FrameHead, FrameStream

GOLDEN: Final = Path(__file__).resolve().parents[1] / "tests" / "wire" / "golden.json"
_NOW: Final = UnixSeconds(1_800_000_000)
_PAGES: Final = Pages(metrics=str, unfitness=lambda: None, status=dict)


@cache
def _numbers() -> tuple[int, ...]:
    for module in pkgutil.iter_modules(koinon.wire.__path__):
        importlib.import_module(f"koinon.wire.{module.name}")
    return tuple(messages())


def wire_messages(data: bytes) -> None:
    """Every message of the catalogue: the first byte chooses which."""
    if not data:
        return
    numbers = _numbers()
    number = numbers[data[0] % len(numbers)]
    try:
        message = unpack(number, data[1:])
    except MalformedMessage:
        return
    assert pack(message) == (number, data[1:]), "two encodings stand for one message"


class _Wire(asyncio.Transport):
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.is_over = False

    def write(self, data: Any) -> None:
        assert len(data) < 1 << 20

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return self.is_over

    def close(self) -> None:
        self.is_over = True

    def abort(self) -> None:
        self.is_over = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class _Frames(FrameStream):
    """Takes every frame that fits."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[FrameHead, bytes]] = []

    def body_limit(self, head: FrameHead) -> int:
        if head.kind > 16:
            raise MalformedMessage("no such kind")
        return 4096

    def frame_received(self, head: FrameHead, body: bytes | bytearray) -> None:
        self.taken.append((head, bytes(body)))

    def opened(self) -> None: ...

    def ended(self, problem: KoinonError) -> None: ...


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _feed(stream: FrameStream, data: bytes, size: int) -> None:
    """What asyncio does with bytes that arrive ``size`` at a time."""
    wire = _Wire()
    stream.connection_made(wire)
    place = 0
    while place < len(data) and not wire.is_over:
        buffer = stream.get_buffer(-1)
        part = data[place : place + min(size, len(buffer))]
        buffer[: len(part)] = part
        stream.buffer_updated(len(part))
        place += len(part)
    stream.connection_lost(None)


def _on_loop(work: Callable[[], None]) -> None:
    async def run() -> None:
        work()

    _loop().run_until_complete(run())


def frames(data: bytes) -> None:
    """The cutting of a byte stream into frames: however the bytes are cut on their way, the frames are the same."""
    if not data:
        return

    def both() -> None:
        whole, slow = _Frames(), _Frames()
        _feed(whole, data[1:], 1 << 20)
        _feed(slow, data[1:], 1 + data[0] % 40)
        assert whole.taken == slow.taken

    _on_loop(both)


_SERVER: Final = NodeKey.from_seed(b"\x05" * 32).node_id


def greeting(data: bytes) -> None:
    """The server's side of the handshake: nobody gets in without a signature over the challenge."""

    def greet() -> None:
        def begin(_stream: FrameStream, _peer: NodeId, _label: str | None) -> Any:
            raise AssertionError("a stranger was let in")

        _feed(CalledStream(_SERVER, begin), data, 1 << 20)

    _on_loop(greet)


def records(data: bytes) -> None:
    """What is stored, signed or handed around outside a message: node records, genesis, proofs, safety records."""
    if not data:
        return
    kinds = (NodeRecord, Genesis, FinalityProof, SafetyRecord)
    kind = kinds[data[0] % len(kinds)]
    try:
        value: Any = decode(kind, data[1:])
    except MalformedMessage:
        return
    assert encode(value) == data[1:]
    try:
        if isinstance(value, NodeRecord):
            check_record(value, _NOW)
        elif isinstance(value, Genesis):
            value.check()
        elif isinstance(value, FinalityProof):
            verify_finality(value.headers, value.certificates, _validators())
    except (InvalidInput, Forged):
        return


@cache
def _validators() -> ValidatorSet:
    return ValidatorSet(
        tuple(
            Validator(NodeId(bytes([n]) * 32), Address(bytes([n]) * 20), BlsKey.from_seed(bytes([n]) * 32).public_key)
            for n in range(1, 5)
        )
    )


def transactions(data: bytes) -> None:
    """Signed transactions and the RLP beneath them."""
    try:
        item = rlp.decode(data)
    except MalformedMessage:
        pass
    else:
        assert rlp.encode(item) == data
    try:
        transaction = parse_transaction(data)
    except (InvalidInput, Forged):
        return
    assert transaction.raw == data


@cache
def _rpc() -> tuple[JsonRpc, Limits]:
    limits = Limits()
    return JsonRpc({}, limits, lambda: 0.0), limits  # type: ignore[arg-type]


def requests(data: bytes) -> None:
    """JSON-RPC from bytes to bytes: the answer is JSON, whatever was asked."""
    rpc, limits = _rpc()
    try:
        value = read_json(data)
    except ValueError:
        pass
    else:
        assert json.loads(data) is not None or value is None
    caller = Caller(Client(float(limits.burst_units), 0.0))
    body = _loop().run_until_complete(rpc.answer(data, caller))
    assert body == b"" or json.loads(body) is not None


def monitor(data: bytes) -> None:
    """The head of a request to the monitor."""
    assert answer(_PAGES, data, loopback=True).status in (200, 400, 403, 404, 405)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    one.__name__: one for one in (wire_messages, frames, greeting, records, transactions, requests, monitor)
}


def seeds(target: str) -> list[bytes]:
    """Inputs to start from: one well-formed of each kind."""
    if target == "wire_messages":
        golden = json.loads(GOLDEN.read_text())
        order = {number: place for place, number in enumerate(_numbers())}
        return [
            bytes([order[int(number, 16)]]) + bytes.fromhex(entry["bytes"])
            for number, entry in golden.items()
            if int(number, 16) in order and len(entry["bytes"]) < 20_000
        ]
    if target == "frames":
        return [bytes([7]) + bytes([0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]) + b"ab", bytes(40)]
    if target == "requests":
        call = b'{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"to":"0x00"},"latest"]}'
        return [call, b"[" + call + b"]", b'[{"id":null}]']
    if target == "transactions":
        return [
            b"\x02" + rlp.encode([1, 2, 3, 4, 21_000, b"\x11" * 20, 5, b"", [], 1, 7, 8]),
            rlp.encode([b"", [b"a"]]),
        ]
    if target == "monitor":
        return [b"GET /metrics HTTP/1.1\r\nHost: localhost:1\r\n\r\n"]
    if target == "greeting":
        body = encode(Proof(_SERVER, Purpose(1, None), bytes(64)))
        return [HEADER.pack(len(body), *PROOF) + body]
    return [bytes([place]) + encode(value) for place, value in enumerate(_well_formed())]


def _well_formed() -> Iterator[object]:
    """One of each kind of ``records``, in their order."""
    node, account = NodeKey.from_seed(b"\x06" * 32), AccountKey.from_secret(b"\x07" * 32)
    expiry = UnixSeconds(_NOW + 3600)
    claim = NodeClaim(node.node_id, account.address, "10.0.0.1", 7300, ("data",), bytes(32), 1, expiry)
    yield sign_record(node, account, claim)
    key = BlsKey.from_seed(b"\x08" * 32)
    member = GenesisValidator(node.node_id, account.address, key.public_key, key.prove_possession(), "10.0.0.1", 7300)
    genesis = Genesis(ChainId(5), _NOW, (member,), (funded(account.address, Wei(10**18)),))
    yield genesis
    header = genesis.header()
    certificate = genesis_certificate(header, 1, genesis.parameters.blocks_per_view)
    yield FinalityProof((header,) * 3, (certificate,) * 3)
