"""Snapshots: what is exported comes back whole, one wrong byte or a crash anywhere leaves nothing half done."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eth_account import Account as Wallet
from eth_account.signers.local import LocalAccount
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_chain import GrowingChain
from ledger_network import COUNTER_CREATION, Keys, make_genesis, open_staked_network, sign

import koinon
from koinon.crypto.hash import blake3
from koinon.kernel.codec import decode, encode
from koinon.kernel.effects import Store
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, MalformedMessage, Refused, Unavailable
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Height, View
from koinon.ledger.catchup import CatchUp
from koinon.ledger.chain import Chain
from koinon.ledger.finality import manifest_check, verify_finality
from koinon.ledger.genesis import Genesis
from koinon.ledger.giskard.state import TimerFired
from koinon.ledger.snapshot import SnapshotFile, manifest_hash, verify_snapshot, write_snapshot
from koinon.ledger.snapshot_import import import_snapshot
from koinon.ledger.snapshot_sync import SnapshotLibrary, bootstrap
from koinon.ledger.staking.profiles import PROFILES
from koinon.ledger.state import account_key, read_account
from koinon.ledger.types import Validator
from koinon.ledger.validator import Validator as Node
from koinon.ledger.validator import ValidatorConfig
from koinon.net.transport import Transport
from koinon.store.keyvalue import LmdbStore, MemoryStore
from koinon.wire.catalogue import Message
from koinon.wire.discovery import Endpoint
from koinon.wire.ledger import (
    LedgerStatus,
    SnapshotChunk,
    SnapshotChunkEntry,
    SnapshotChunkRequest,
    SnapshotManifest,
    SnapshotOffer,
    SnapshotRequest,
    StatusRequest,
)

RICH = Wallet.from_key(b"\x77" * 32)
STRANGER = "0x" + "00" * 19 + "99"


@pytest.fixture(scope="module")
def grown() -> GrowingChain:
    """A chain of a few blocks with accounts, code and storage."""
    chain = GrowingChain(MemoryStore(), RICH)
    chain.grow([sign(RICH, 0, data=COUNTER_CREATION, gas=200_000)])
    counter = chain.chain.receipts_at(1)[0].contract
    assert counter is not None
    chain.grow(
        [sign(RICH, 1, "0x" + counter.hex(), gas=100_000, data=bytes(4) + bytes(31) + b"\x05")],
        [sign(RICH, 2 + each, "0x" + bytes([each + 1] * 20).hex(), value=each + 1) for each in range(5)],
    )
    return chain


@pytest.fixture(scope="module")
def file(grown: GrowingChain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("snapshot") / "state"
    write_snapshot(grown.store, path, grown.genesis.last_height)
    return path


def state_of(store: Store) -> dict[bytes, bytes]:
    return dict(store.scan(b"w"))


def take(store: Store, path: Path, genesis: Genesis) -> None:
    import_snapshot(store, path, genesis.hash, manifest_check(genesis.validator_set()))


@pytest.mark.parametrize("disk", [False, True])
def test_what_was_exported_comes_back_and_goes_on(grown: GrowingChain, file: Path, tmp_path: Path, disk: bool) -> None:
    store = LmdbStore.open(tmp_path) if disk else MemoryStore()
    take(store, file, grown.genesis)
    other = GrowingChain(store, RICH, genesis=grown.genesis)
    assert state_of(store) == state_of(grown.store)
    assert other.chain.final_header == grown.chain.final_header
    assert other.chain.state.root == grown.chain.final_header.state_root
    proof = other.chain.finality_proof(other.chain.final_height)
    assert verify_finality(proof.headers, proof.certificates, other.chain.validators) == grown.chain.final_header
    with pytest.raises(Unavailable, match="pruned"):
        other.chain.block_at(1)
    assert other.grow([sign(RICH, 7, STRANGER, value=1)]).height == grown.chain.final_height + 1
    with pytest.raises(Refused, match="would take it back"):
        take(store, file, grown.genesis)
    store.close()


def test_every_changed_byte_is_refused_and_changes_nothing(grown: GrowingChain, file: Path, tmp_path: Path) -> None:
    genuine = file.read_bytes()
    damaged = tmp_path / "damaged"
    store = MemoryStore()
    GrowingChain(store, RICH, genesis=grown.genesis)
    before = dict(store.scan(b""))

    @settings(max_examples=150)
    @given(st.integers(0, len(genuine) - 1), st.integers(1, 255))
    def attempt(position: int, change: int) -> None:
        damaged.write_bytes(genuine[:position] + bytes([genuine[position] ^ change]) + genuine[position + 1 :])
        with pytest.raises((Forged, InvalidInput)):
            take(store, damaged, grown.genesis)
        assert dict(store.scan(b"")) == before

    attempt()
    for cut in (0, 7, 15, 16, 17, len(genuine) // 2, len(genuine) - 1):
        damaged.write_bytes(genuine[:cut])
        with pytest.raises((Forged, MalformedMessage)):
            take(store, damaged, grown.genesis)
        damaged.write_bytes(genuine + genuine[:cut] + b"x")
        with pytest.raises((Forged, MalformedMessage)):
            take(store, damaged, grown.genesis)
    assert dict(store.scan(b"")) == before


def _rewritten(path: Path, target: Path, entries: list[tuple[bytes, bytes]]) -> Path:
    """The snapshot at ``path`` with other entries under the genuine manifest."""
    with SnapshotFile.open(path) as snapshot:
        genuine = snapshot.manifest
    data = encode(entries)
    manifest = msgspec.structs.replace(
        genuine, entries=len(entries), chunks=(SnapshotChunkEntry(blake3(data), len(data)),)
    )
    head = b"KOINSNP1" + (16 + len(data)).to_bytes(8, "big")
    target.write_bytes(head + data + encode(manifest))
    return target


def test_another_state_under_a_genuine_proof_is_refused(grown: GrowingChain, file: Path, tmp_path: Path) -> None:
    genuine = [(key[1:], value) for key, value in grown.store.scan(b"w")]
    check = manifest_check(grown.genesis.validator_set())
    richer = [(key, value[:20] + b"\xff" + value[21:]) if key[:1] == b"a" else (key, value) for key, value in genuine]
    table: list[tuple[list[tuple[bytes, bytes]], str]] = [
        (richer, "not the state after block"),
        (genuine[:-1], "not the state after block"),
        ([*genuine[:2], genuine[1], *genuine[2:]], "do not ascend"),
        ([genuine[1], genuine[0], *genuine[2:]], "do not ascend"),
        ([*genuine, (b"x" * 21, b"1")], "as the state holds them"),
        ([*genuine, (b"s" + b"\xff" * 52, b"\x00\x01")], "as the state holds them"),
        ([(b"a" + bytes(20), b"short"), *genuine], "as the state holds them"),
    ]
    for entries, says in table:
        with pytest.raises(KoinonError, match=says):
            verify_snapshot(_rewritten(file, tmp_path / "forged", entries), grown.genesis.hash, check)
    assert verify_snapshot(_rewritten(file, tmp_path / "same", genuine), grown.genesis.hash, check).height == 5


def test_a_snapshot_of_another_chain_is_refused(grown: GrowingChain, file: Path) -> None:
    other = make_genesis(4, RICH)
    with pytest.raises(InvalidInput, match="another genesis"):
        take(MemoryStore(), file, other)
    with pytest.raises(Forged, match="another validator set"):
        import_snapshot(MemoryStore(), file, grown.genesis.hash, manifest_check(other.validator_set()))
    with pytest.raises(InvalidInput, match="nothing but genesis"):
        write_snapshot(GrowingChain(MemoryStore(), RICH).store, file.with_name("empty"), grown.genesis.last_height)
    assert not file.with_name("empty").exists()
    assert not file.with_name("empty.part").exists()


class _Failing:
    """A store that dies before the write with this number, as a process does under ``kill -9``."""

    def __init__(self, store: MemoryStore, number: int) -> None:
        self.store = store
        self.left = number
        self.get, self.scan, self.reading, self.close = store.get, store.scan, store.reading, store.close

    def write(self, put: Mapping[bytes, bytes], delete: Iterable[bytes] = ()) -> None:
        if self.left == 0:
            raise Unavailable("killed")
        self.left -= 1
        self.store.write(put, delete)


@pytest.mark.parametrize("had_a_ledger", [False, True])
def test_a_crash_between_any_two_writes_is_gone_on_from(
    grown: GrowingChain, file: Path, had_a_ledger: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koinon.ledger.snapshot_import._DELETED_AT_ONCE", 2)
    number = 0
    while True:
        store = MemoryStore()
        if had_a_ledger:
            GrowingChain(store, RICH, genesis=grown.genesis).grow([sign(RICH, 0, STRANGER, value=5)])
        store.write({b"m/safety": b"what was signed"})
        try:
            take(_Failing(store, number), file, grown.genesis)
        except Unavailable:
            if number:
                with pytest.raises(InvalidInput, match="import of a snapshot was interrupted"):
                    Chain(store, grown.genesis)
            take(store, file, grown.genesis)
        else:
            assert number >= 4
            return
        assert Chain(store, grown.genesis).final_header == grown.chain.final_header
        assert state_of(store) == state_of(grown.store)
        assert store.get(b"m/safety") == b"what was signed"
        number += 1


# Between validators


class _Peers:
    """Validators that answer from snapshot libraries, or as ``lies`` says."""

    def __init__(self, libraries: dict[Endpoint, tuple[SnapshotLibrary, GrowingChain]]) -> None:
        self.libraries = libraries
        self.asked: list[Message] = []
        self.fails_after: int | None = None
        self.bends: dict[Endpoint, Any] = {}

    async def send(self, endpoint: Endpoint, message: Message, timeout: float = 1) -> None:
        raise AssertionError("nothing is only sent")

    async def call(self, endpoint: Endpoint, message: Message, timeout: float = 1) -> Message:
        self.asked.append(message)
        if self.fails_after is not None and len(self.asked) > self.fails_after:
            raise Unavailable("the peer is gone")
        library, grown = self.libraries[endpoint]
        answer: Message
        match message:
            case StatusRequest():
                header = grown.chain.final_header
                answer = LedgerStatus(grown.genesis.hash, header.height, Hash32(bytes(32)), header.view, header.height)
            case SnapshotRequest():
                answer = await library.offer()
            case SnapshotChunkRequest():
                answer = await library.chunk(message)
            case _:
                raise AssertionError(message)
        bend = self.bends.get(endpoint)
        return answer if bend is None else bend(answer)

    @property
    def endpoints(self) -> dict[Any, Endpoint]:
        return {peer.node_id: peer for peer in self.libraries}


@pytest.fixture
def peers(grown: GrowingChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Peers:
    monkeypatch.setattr("koinon.ledger.snapshot._CHUNK_TARGET", 200)
    monkeypatch.setattr("koinon.ledger.snapshot_sync._PAUSE_SECONDS", 0.02)
    places = [Endpoint(Keys.of(number).node.node_id, "127.0.0.1", number + 1) for number in range(2)]
    return _Peers(
        {
            place: (SnapshotLibrary(grown.store, tmp_path / str(place.port), grown.genesis.last_height), grown)
            for place in places
        }
    )


async def boot(store: Store, folder: Path, peers: _Peers, genesis: Genesis) -> Any:
    check = manifest_check(genesis.validator_set())
    return await bootstrap(store, folder, peers, peers.endpoints, genesis.hash, check)


async def test_who_is_behind_what_peers_keep_takes_a_snapshot(
    grown: GrowingChain, peers: _Peers, tmp_path: Path
) -> None:
    store = MemoryStore()
    assert (await boot(store, tmp_path / "new", peers, grown.genesis)).height == grown.chain.final_height
    assert state_of(store) == state_of(grown.store)
    assert list((tmp_path / "new").iterdir()) == []
    assert await boot(store, tmp_path / "new", peers, grown.genesis) is None


async def test_a_fetch_goes_on_where_it_stopped(grown: GrowingChain, peers: _Peers, tmp_path: Path) -> None:
    folder, store = tmp_path / "new", MemoryStore()
    peers.libraries.pop(next(iter(peers.libraries)))
    await boot(MemoryStore(), tmp_path / "warm", peers, grown.genesis)
    chunks = sum(isinstance(message, SnapshotChunkRequest) for message in peers.asked)
    assert chunks >= 3
    peers.asked.clear()
    peers.fails_after = 2 + chunks // 2
    assert await boot(store, folder, peers, grown.genesis) is None
    assert store.get(b"m/height") is None
    peers.asked.clear()
    peers.fails_after = None
    assert await boot(store, folder, peers, grown.genesis) is not None
    again = sum(isinstance(message, SnapshotChunkRequest) for message in peers.asked)
    assert again == chunks - chunks // 2
    assert state_of(store) == state_of(grown.store)


def _bent_chunk(answer: Message) -> Message:
    return SnapshotChunk(bytes(len(answer.data))) if isinstance(answer, SnapshotChunk) else answer


def _bent_manifest(**changes: Any) -> Any:
    def bend(answer: Message) -> Message:
        if not isinstance(answer, SnapshotOffer):
            return answer
        made = {name: change(answer.manifest) for name, change in changes.items()}
        return SnapshotOffer(msgspec.structs.replace(answer.manifest, **made))

    return bend


def _forged_proof(manifest: SnapshotManifest) -> Any:
    first, *others = manifest.proof.headers
    return msgspec.structs.replace(manifest.proof, headers=(msgspec.structs.replace(first, gas_used=1), *others))


@pytest.mark.parametrize(
    "bend",
    [
        _bent_chunk,
        _bent_manifest(proof=_forged_proof),
        _bent_manifest(genesis=lambda _: Hash32(bytes(32))),
        _bent_manifest(ancestors=lambda manifest: manifest.ancestors[:-1]),
        _bent_manifest(entries=lambda manifest: manifest.entries + 1),
        _bent_manifest(certificate=lambda manifest: manifest.proof.certificates[1]),
        lambda answer: StatusRequest() if isinstance(answer, SnapshotOffer | SnapshotChunk) else answer,
    ],
)
async def test_a_lying_validator_is_passed_over(grown: GrowingChain, peers: _Peers, tmp_path: Path, bend: Any) -> None:
    liar = next(iter(peers.libraries))
    peers.bends[liar] = bend
    store = MemoryStore()
    assert await boot(store, tmp_path / "new", peers, grown.genesis) is not None
    assert state_of(store) == state_of(grown.store)
    peers.libraries = {liar: peers.libraries[liar]}
    alone = MemoryStore()
    if bend is _bent_chunk or isinstance(bend(SnapshotRequest()), StatusRequest):
        assert await boot(alone, tmp_path / "alone", peers, grown.genesis) is None
    assert alone.get(b"m/height") is None


async def test_a_library_gives_out_only_what_it_offers(grown: GrowingChain, tmp_path: Path) -> None:
    library = SnapshotLibrary(grown.store, tmp_path, grown.genesis.last_height)
    with pytest.raises(Unavailable, match="being written"):
        await library.offer()
    await library.close()
    manifest = (await library.offer()).manifest
    with pytest.raises(Unavailable, match="no longer given out"):
        await library.chunk(SnapshotChunkRequest(Hash32(bytes(32)), 0))
    with pytest.raises(InvalidInput, match="there is no chunk 9"):
        await library.chunk(SnapshotChunkRequest(manifest_hash(manifest), 9))
    fresh = SnapshotLibrary(GrowingChain(MemoryStore(), RICH).store, tmp_path / "none", grown.genesis.last_height)
    with pytest.raises(InvalidInput, match="nothing but genesis"):
        await fresh.offer()
    await asyncio.gather(library.close(), fresh.close())


def test_headers_below_a_snapshot_are_filled_in(grown: GrowingChain, tmp_path: Path) -> None:
    long = GrowingChain(MemoryStore(), RICH)
    long.grow(*[()] * 300)
    write_snapshot(long.store, tmp_path / "state", long.genesis.last_height)
    store = MemoryStore()
    take(store, tmp_path / "state", long.genesis)
    chain = Chain(store, long.genesis)
    assert chain.oldest_header == long.chain.final_height - 256
    with pytest.raises(Unavailable, match="have not been fetched yet"):
        chain.header_at(3)
    headers = [long.chain.header_at(height) for height in range(chain.oldest_header)]
    for wrong in (headers[:-1], [*headers[:-2], headers[-1]], [msgspec.structs.replace(headers[-1], gas_used=1)]):
        with pytest.raises(Forged, match="is not the parent"):
            chain.add_ancestors(wrong)
    chain.add_ancestors(headers[20:])
    chain.add_ancestors(headers[:20])
    assert chain.oldest_header == 0
    assert chain.header_at(3) == long.chain.header_at(3)
    proof = chain.finality_proof(3)
    assert verify_finality(proof.headers, proof.certificates, chain.validators) == long.chain.header_at(3)


async def test_a_validator_that_comes_late_begins_from_a_snapshot(tmp_path: Path, rich: LocalAccount) -> None:
    members = [Keys.of(each) for each in range(4)]
    async with asyncio.timeout(120), AsyncExitStack() as stack:
        transports = [await stack.enter_async_context(Transport.open(keys.node, "127.0.0.1", 0)) for keys in members]
        genesis = make_genesis(4, rich, [transport.endpoint.port for transport in transports])

        async def start(each: int, config: ValidatorConfig) -> Node:
            keys, transport = members[each], transports[each]
            opening = Node.open(config, keys.bls, transport, keys.node.node_id, tmp_path / str(each), genesis)
            return await stack.enter_async_context(opening)

        first = [await start(each, ValidatorConfig(rpc_port=None)) for each in range(3)]
        sent = first[0].submit(sign(rich, 0, STRANGER, value=7))
        while True:
            height = first[0].chain.final_height
            if first[0].chain.place_of(sent.hash) is not None:
                break
            await first[0].wait_final(height + 1)
        late = await start(3, ValidatorConfig(rpc_port=None, far_behind=0))
        assert late.chain.oldest_body > 1
        assert late.chain.final_height >= 1
        sent = late.submit(sign(rich, 1, STRANGER, value=7))
        while True:
            height = late.chain.final_height
            if late.chain.place_of(sent.hash) is not None:
                break
            await late.wait_final(height + 1)


class _Cable:
    """A transport that can be cut off from everybody for a while."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.peers, self.offend = transport.peers, transport.offend
        self.cut = False

    def handle(self, kind: type[Message], function: Any) -> None:
        async def take(peer: Any, message: Message) -> Message | None:
            self._check()
            return await function(peer, message)

        self.transport.handle(kind, take)

    async def send(self, endpoint: Endpoint, message: Message, timeout: float = 10.0) -> None:
        self._check()
        await self.transport.send(endpoint, message, timeout)

    async def call(self, endpoint: Endpoint, message: Message, timeout: float = 10.0) -> Message:
        self._check()
        return await self.transport.call(endpoint, message, timeout)

    def _check(self) -> None:
        if self.cut:
            raise Unavailable("the cable is cut")


async def _final(node: Node, raw: bytes) -> None:
    """Hand a transaction to a node and wait until that holds it as final."""
    sent = node.submit(raw)
    while node.chain.place_of(sent.hash) is None:
        await node.wait_final(node.chain.final_height + 1)


async def test_a_running_validator_that_was_cut_off_for_long_takes_a_snapshot(
    tmp_path: Path, rich: LocalAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koinon.ledger.history.LEAST_KEPT", 4)
    monkeypatch.setattr("koinon.ledger.catchup._LOOK_SECONDS", 0.2)
    monkeypatch.setattr("koinon.ledger.snapshot_sync._PAUSE_SECONDS", 0.02)
    members = [Keys.of(each) for each in range(4)]
    async with asyncio.timeout(240), AsyncExitStack() as stack:
        transports = [await stack.enter_async_context(Transport.open(keys.node, "127.0.0.1", 0)) for keys in members]
        genesis = make_genesis(4, rich, [transport.endpoint.port for transport in transports])
        cables: list[Any] = [_Cable(transport) for transport in transports]
        cables[3].cut = True
        nodes = []
        for each, keys in enumerate(members):
            config = ValidatorConfig(rpc_port=0 if each == 3 else None, keep_blocks=4)
            opening = Node.open(config, keys.bls, cables[each], keys.node.node_id, tmp_path / str(each), genesis)
            nodes.append(await stack.enter_async_context(opening))
        late = nodes[3]
        before = late.chain.state.view()
        assert before.get(account_key(bytes.fromhex(STRANGER[2:]))) is None
        nonce = 0
        while any(node.chain.oldest_body <= 2 for node in nodes[:3]):
            await _final(nodes[nonce % 3], sign(rich, nonce, STRANGER, value=7))
            nonce += 1
        assert late.chain.final_height == 0
        cables[3].cut = False
        await late.wait_final(3)
        assert late.chain.oldest_body > 2
        # A view from before answers no more, instead of with a mixture.
        with pytest.raises(Unavailable):
            before.get(account_key(bytes.fromhex(STRANGER[2:])))
        # It goes on with the others, from both sides.
        await _final(late, sign(rich, nonce, STRANGER, value=7))
        assert read_account(late.chain.state.view(), Address(bytes.fromhex(STRANGER[2:]))).balance == 7 * (nonce + 1)
        # With one of the others gone nothing becomes final without its vote: it signs again.
        cables[0].cut = True
        await _final(late, sign(rich, nonce + 1, STRANGER, value=7))


def test_a_chain_whose_state_is_half_replaced_answers_nothing(grown: GrowingChain, file: Path) -> None:
    other = GrowingChain(MemoryStore(), RICH, genesis=grown.genesis)
    other.grow([sign(RICH, 0, STRANGER, value=5)])
    check = manifest_check(grown.genesis.validator_set())
    with pytest.raises(Unavailable, match="killed"):
        other.chain.replace(lambda: import_snapshot(_Failing(other.store, 2), file, grown.genesis.hash, check))
    assert other.chain.is_half_replaced
    with pytest.raises(Unavailable, match="being replaced by a snapshot"):
        other.chain.state.view()
    # It goes on with the same file, and stands on the new state.
    other.chain.replace(lambda: take(other.store, file, grown.genesis))
    assert (other.chain.final_header, other.chain.is_half_replaced) == (grown.chain.final_header, False)
    assert other.chain.state.view().get(account_key(bytes.fromhex(STRANGER[2:]))) is None


class _Claims:
    """Three validators that say where they stand, and hand out nothing."""

    def __init__(self, oldest: dict[Endpoint, int], genesis: Genesis) -> None:
        self._oldest = oldest
        self._genesis = genesis
        self._asked = dict.fromkeys(oldest, 0)
        self.everybody_asked = asyncio.Event()

    async def send(self, endpoint: Endpoint, message: Message, timeout: float = 1) -> None:
        raise AssertionError("nothing is only sent")

    async def call(self, endpoint: Endpoint, message: Message, timeout: float = 1) -> Message:
        if not isinstance(message, StatusRequest):
            raise Unavailable("nothing is handed out")
        self._asked[endpoint] += 1
        if min(self._asked.values()) > 2:
            self.everybody_asked.set()
        none = Hash32(bytes(32))
        return LedgerStatus(self._genesis.hash, Height(900), none, View(1), Height(self._oldest[endpoint]))


@pytest.mark.parametrize(("pruned", "outrun"), [(1, False), (2, True), (3, True)])
async def test_one_liar_makes_nobody_take_a_snapshot(
    pruned: int, outrun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koinon.ledger.catchup._LOOK_SECONDS", 0.0)
    genesis = make_genesis(4, RICH)
    places = [Endpoint(Keys.of(number).node.node_id, "127.0.0.1", number + 1) for number in range(1, 4)]
    network = _Claims({place: 500 if each < pruned else 1 for each, place in enumerate(places)}, genesis)
    taken = asyncio.Event()

    async def overtake() -> None:
        taken.set()

    async def feed(event: object) -> None:
        assert isinstance(event, TimerFired), "there is nothing to feed"

    chain = Chain(MemoryStore(), genesis)
    catch_up = CatchUp(chain, network, {place.node_id: place for place in places}, feed, time.monotonic, overtake)
    looking = asyncio.create_task(catch_up.keep_up())
    async with asyncio.timeout(60):
        await network.everybody_asked.wait()
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await catch_up.close()
    assert taken.is_set() == outrun


def test_a_chain_stands_where_it_stood_when_a_snapshot_is_worth_nothing(grown: GrowingChain) -> None:
    def fail() -> None:
        raise Forged("the snapshot is damaged")

    other = GrowingChain(MemoryStore(), RICH, genesis=grown.genesis)
    other.grow([sign(RICH, 0, STRANGER, value=5)])
    header, view = other.chain.final_header, other.chain.state.view()
    with pytest.raises(Forged, match="damaged"):
        other.chain.replace(fail)
    assert (other.chain.final_header, other.chain.is_half_replaced) == (header, False)
    assert read_account(other.chain.state.view(), Address(bytes.fromhex(STRANGER[2:]))).balance == 5
    with pytest.raises(Unavailable, match="no longer kept"):
        view.get(account_key(bytes.fromhex(STRANGER[2:])))


def _koinon(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from koinon.cli.main import main; main()", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(koinon.__file__).parent.parent)}
    return subprocess.run(program, capture_output=True, text=True, env=environment, check=False, timeout=120)


def test_the_command_exports_beside_a_running_node_and_imports_elsewhere(
    grown: GrowingChain, file: Path, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for home in (old, new):
        home.mkdir()
        (home / "genesis").write_bytes(encode(grown.genesis))
    running = LmdbStore.open(old / "ledger")
    take(running, file, grown.genesis)
    target = tmp_path / "state"
    exported = _koinon("node", "snapshot", "export", "--home", old, target)
    assert "after block 5 to state" in exported.stdout, exported.stderr
    running.close()
    assert target.read_bytes() == file.read_bytes()
    imported = _koinon("node", "snapshot", "import", "--home", new, target)
    assert "took over the state after block 5" in imported.stdout, imported.stderr
    again = _koinon("node", "snapshot", "import", "--home", new, target)
    assert again.returncode != 0
    assert "would take it back" in again.stderr
    assert len(again.stderr.strip().splitlines()) == 1
    with LmdbStore.reading_only(new / "ledger") as store:
        assert state_of(store) == state_of(grown.store)
    assert _koinon("node", "snapshot", "export", "--home", tmp_path / "none", target).returncode != 0


async def test_a_snapshot_carries_the_validators_through_the_epochs(tmp_path: Path, rich: LocalAccount) -> None:
    async with asyncio.timeout(120), open_staked_network(4, 4, tmp_path, rich, PROFILES["dev"]) as network:
        genesis, nonce = network[0].chain.genesis, 0
        while network[0].chain.final_height < 22:
            height = network[0].chain.final_height
            network[0].submit(sign(rich, nonce, STRANGER, value=1))
            nonce += 1
            await network[0].wait_final(height + 1)
    held = LmdbStore.open(tmp_path / "0")
    file = tmp_path / "state"
    manifest = write_snapshot(held, file, genesis.last_height)
    assert len(manifest.epochs) == 1
    store = MemoryStore()
    header = import_snapshot(store, file, genesis.hash, manifest_check(genesis.validator_set()))
    chain = Chain(store, genesis)
    assert header.epoch == chain.epoch == 1
    assert chain.validators.hash == header.validators
    again = write_snapshot(store, tmp_path / "again", genesis.last_height)
    assert again == manifest
    held.close()
    check = manifest_check(genesis.validator_set())
    end = manifest.epochs[0]
    others = encode(tuple(reversed(decode(tuple[Validator, ...], end.members))))
    swapped = msgspec.structs.replace(end.proof, certificates=manifest.proof.certificates)
    for epochs, says in (
        ((), "does not show how validators came to it"),
        ((end, end), "does not name the validators of the next|another validator set"),
        ((msgspec.structs.replace(end, members=others),), "does not name the validators of the next"),
        ((msgspec.structs.replace(end, proof=swapped),), "for another block"),
    ):
        with pytest.raises(Forged, match=says):
            check(msgspec.structs.replace(manifest, epochs=epochs))
