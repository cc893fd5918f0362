"""Several validators over real connections in one process: gossip, catching up, forged and foreign messages."""

from pathlib import Path

import httpx
import pytest
from eth_account.signers.local import LocalAccount
from ledger_network import Keys, final_place, make_genesis, open_network, sign

from koinon.crypto.bls import BlsKey
from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage, Refused
from koinon.kernel.quantities import Height
from koinon.ledger.catchup import CatchUp
from koinon.ledger.chain import Chain
from koinon.ledger.finality import verify_finality
from koinon.ledger.genesis import Genesis, funded
from koinon.ledger.validator import Validator, ValidatorConfig
from koinon.net.transport import Transport
from koinon.store.keyvalue import LmdbStore, MemoryStore
from koinon.wire.discovery import Endpoint
from koinon.wire.ledger import BlockRange, LedgerStatus, RangeRequest, StatusRequest, TransactionBatch

STRANGER = "0x" + "00" * 19 + "99"


async def settle_everywhere(validators: list[Validator], raw: bytes, at: int) -> int:
    """Submit at one validator; the height at which all of them hold it as final."""
    sent = validators[at].submit(raw)
    places = {await final_place(validator, sent.hash) for validator in validators}
    assert len(places) == 1
    return places.pop().height


async def test_every_validator_gives_the_same_answer(tmp_path: Path, rich: LocalAccount) -> None:
    async with open_network(4, tmp_path, rich) as validators:
        heights = [await settle_everywhere(validators, sign(rich, n, STRANGER, value=1), n % 4) for n in range(8)]
        assert heights == sorted(heights)
        views = {validator.chain.header_at(heights[-1]) for validator in validators}
        assert len(views) == 1
        proof = validators[1].chain.finality_proof(heights[0])
        assert verify_finality(proof.headers, proof.certificates, validators[2].chain.validators).height == heights[0]


async def test_a_validator_that_is_behind_says_how_far(
    tmp_path: Path, rich: LocalAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_network(1, tmp_path, rich) as (validator,):
        assert validator.rpc_url is not None
        async with httpx.AsyncClient() as client:

            async def syncing() -> object:
                asked = {"jsonrpc": "2.0", "id": 1, "method": "eth_syncing", "params": []}
                return (await client.post(validator.rpc_url or "", json=asked)).json()["result"]

            assert await syncing() is False
            # As after the word of another validator that has more blocks.
            monkeypatch.setattr(CatchUp, "known_height", Height(100))
            assert await syncing() == {"startingBlock": "0x0", "currentBlock": "0x0", "highestBlock": "0x64"}


async def test_a_stranger_can_read_blocks_but_not_take_part(tmp_path: Path, rich: LocalAccount) -> None:
    async with open_network(1, tmp_path, rich) as validators, Transport.open(NodeKey.from_seed(b"s" * 32)) as stranger:
        (validator,) = validators
        height = await settle_everywhere(validators, sign(rich, 0, STRANGER), 0)
        place = validator.chain.genesis.validators[0]
        endpoint = Endpoint(place.node_id, place.host, place.port)
        status = await stranger.call(endpoint, StatusRequest())
        assert isinstance(status, LedgerStatus)
        assert status.final_height >= height
        blocks = await stranger.call(endpoint, RangeRequest(Height(1), 64))
        assert isinstance(blocks, BlockRange)
        assert blocks.blocks[0] == validator.chain.block_at(1)
        empty = await stranger.call(endpoint, RangeRequest(Height(1000), 64))
        assert empty == BlockRange((), (), None)
        await stranger.send(endpoint, TransactionBatch((sign(rich, 1, STRANGER),)))
        await stranger.call(endpoint, StatusRequest())
        assert len(validator.mempool) == 0


async def test_the_wrong_key_or_folder_is_refused(tmp_path: Path, rich: LocalAccount) -> None:
    keys, other = Keys.of(0), Keys.of(1)
    genesis = make_genesis(1, rich)
    async with Transport.open(keys.node) as transport:
        for bls, node_id, says in (
            (other.bls, keys.node.node_id, "BLS key of this node is not the one"),
            (keys.bls, other.node.node_id, "not among the validators"),
        ):
            with pytest.raises(InvalidInput, match=says):
                async with Validator.open(ValidatorConfig(), bls, transport, node_id, tmp_path / "x", genesis):
                    pytest.fail("it opened")
    assert not (tmp_path / "x").exists()
    store = MemoryStore()
    Chain(store, genesis)
    with pytest.raises(InvalidInput, match="belongs to another genesis"):
        Chain(store, Genesis(genesis.chain_id, genesis.timestamp, genesis.validators, ()))


def test_a_damaged_state_is_noticed(tmp_path: Path, rich: LocalAccount) -> None:
    store = LmdbStore.open(tmp_path / "ledger")
    genesis = make_genesis(1, rich)
    Chain(store, genesis)
    store.write({b"m/accumulator": bytes(2048)})
    with pytest.raises(InvalidInput, match="does not match its last block"):
        Chain(store, genesis)
    store.close()


def test_a_bad_genesis_is_refused(rich: LocalAccount) -> None:
    good = make_genesis(2, rich)
    first, second = good.validators
    stolen = type(second)(second.node_id, second.account, first.bls_key, first.possession, "h", 1)
    unproven = type(second)(
        second.node_id, second.account, BlsKey.from_seed(b"u" * 32).public_key, second.possession, "h", 1
    )
    short = type(second)(second.node_id, second.account[:19], second.bls_key, second.possession, "h", 1)  # type: ignore[arg-type]
    for validators, error, says in (
        ((first, stolen), InvalidInput, "same BLS key"),
        ((first, first), InvalidInput, "same node id"),
        ((first, unproven), Forged, "proof of possession"),
        ((first, short), InvalidInput, "account of 20"),
    ):
        with pytest.raises(error, match=says):
            Genesis(good.chain_id, good.timestamp, validators, good.accounts).check()
    twice = (*good.accounts, funded(good.accounts[0].address, 5))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="names an account twice"):
        Genesis(good.chain_id, good.timestamp, good.validators, twice).check()
    with pytest.raises(MalformedMessage, match="not a Genesis"):
        decode(Genesis, encode((0, *encode(good)[1:5])))
    assert decode(Genesis, encode(good)) == good


async def test_a_future_block_is_dropped_with_a_reason(tmp_path: Path, rich: LocalAccount) -> None:
    from msgspec.structs import replace

    from koinon.ledger.consensus import CLOCK_TOLERANCE, is_timely
    from koinon.ledger.types import Block, PrepareBlock

    async with open_network(1, tmp_path, rich) as (validator,):
        header = validator.chain.header_at(0)
        ahead = replace(header, timestamp=header.timestamp + CLOCK_TOLERANCE + 1000)
        for made, timely in ((header, True), (ahead, False)):
            assert is_timely(PrepareBlock(Block(made, ()), None, None, b"x")) is timely
        validator.submit(sign(rich, 5, STRANGER))
        with pytest.raises(Refused, match="already known"):
            validator.submit(sign(rich, 5, STRANGER))
