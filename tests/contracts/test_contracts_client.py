"""The chain client: transactions other tools can read, hostile answers, several addresses, refusals in one sentence."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from contracts_chain import EvmChain
from contracts_world import World, digest_of, key_of
from hypothesis import given
from hypothesis import strategies as st

from koinon.contracts import assets, evaluations, market, names, providers, receipts, studies, token
from koinon.contracts.abi import ARRAY, Interface, build, decode, encode, snake_case
from koinon.contracts.artifacts import SUITE, artifact, parse_artifact
from koinon.contracts.client import ChainClient
from koinon.contracts.contract import Credited, Event, Withdrawn, interface
from koinon.contracts.refusals import ADVICE, ERROR_STRING, PANIC, Reverted, explain
from koinon.contracts.rpc import HttpRpc, RpcError, binary, quantity, revert_data
from koinon.contracts.suite import parse_addresses
from koinon.contracts.tokens import format_amount, parse_amount
from koinon.contracts.transactions import Transaction, created_address, rlp_encode
from koinon.crypto.signature import AccountKey, recover_address
from koinon.kernel.errors import Expired, InvalidInput, MalformedMessage, Refused, Unavailable
from koinon.kernel.ids import Address, to_hex
from koinon.kernel.quantities import ChainId, Gas, Seconds, TokenAmount, Wei

MODULES = (assets, evaluations, market, names, providers, receipts, studies, token)


# ---------------------------------------------------------------------------------------------------- transactions


def test_rlp_matches_the_yellow_papers_examples() -> None:
    assert rlp_encode(b"dog") == b"\x83dog"
    assert rlp_encode([b"cat", b"dog"]) == bytes.fromhex("c88363617483646f67")
    assert rlp_encode(b"") == b"\x80"
    assert rlp_encode([]) == b"\xc0"
    assert rlp_encode(b"\x0f") == b"\x0f"
    assert rlp_encode(b"\x04\x00") == b"\x82\x04\x00"
    assert rlp_encode([[], [[]], [[], [[]]]]) == bytes.fromhex("c7c0c1c0c3c0c1c0")
    long = b"Lorem ipsum dolor sit amet, consectetur adipisicing elit"
    assert rlp_encode(long) == b"\xb8\x38" + long


@given(
    nonce=st.integers(0, 2**64 - 1),
    gas=st.integers(21_000, 30_000_000),
    value=st.integers(0, 10**24),
    data=st.binary(max_size=300),
    create=st.booleans(),
)
def test_other_tools_read_our_transactions(nonce: int, gas: int, value: int, data: bytes, create: bool) -> None:
    from eth.vm.forks.cancun.transactions import CancunTransactionBuilder

    key = key_of("somebody")
    to = None if create else Address(b"\x42" * 20)
    transaction = Transaction(ChainId(5), nonce, Wei(3), Wei(9), Gas(gas), to, Wei(value), data)
    signed = transaction.sign(key)
    read = CancunTransactionBuilder.decode(signed.raw)
    assert (read.nonce, read.gas, read.value, read.data) == (nonce, gas, value, data)
    assert read.sender == key.address
    assert read.hash == signed.hash
    assert read.to == (to or b"")


def test_created_addresses_match_the_known_example() -> None:
    sender = Address(bytes.fromhex("6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0"))
    assert created_address(sender, 0).hex() == "cd234a471b72ba2f1ccf0a70fcaba648a5eecd8d"
    assert created_address(sender, 1).hex() == "343c43a37d37dff08ae8c4a11544c718abb4fcf8"


def test_negative_amounts_do_not_become_transactions() -> None:
    with pytest.raises(InvalidInput, match="negative"):
        Transaction(ChainId(1), 0, Wei(0), Wei(0), Gas(21_000), None, Wei(-1), b"").sign(key_of("x"))


# ---------------------------------------------------------------------------------------------------- amounts


@given(amount=st.integers(0, 10**40))
def test_amounts_survive_being_written(amount: int) -> None:
    assert parse_amount(format_amount(amount)) == amount


@pytest.mark.parametrize(
    ("text", "units"), [("12.5", 12_500_000), ("0.000001", 1), ("7", 7_000_000), ("007", 7_000_000)]
)
def test_amounts_as_people_write_them(text: str, units: int) -> None:
    assert parse_amount(text) == units


@pytest.mark.parametrize("text", ["", "-1", "+1", "1e6", "1,5", "1.", ".5", "1.0000001", " 1", "1 ", "٣", "0x1", "1\n"])
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="at most 6 decimals"):
        parse_amount(text)


# ---------------------------------------------------------------------------------------------------- structs and ABI


def _events() -> list[tuple[str, type[Event]]]:
    found: list[tuple[str, type[Event]]] = [("Studies", Credited), ("Assets", Withdrawn)]
    for module in MODULES:
        contract = module.__name__.rpartition(".")[2].capitalize()
        found.extend(
            (contract, kind)
            for kind in vars(module).values()
            if isinstance(kind, type) and issubclass(kind, Event) and kind.__module__ == module.__name__
        )
    return found


RENAMED = {"from": ("sender", "payer", "former"), "to": ("recipient", "owner"), "value": ("amount",)}


@pytest.mark.parametrize(("contract", "kind"), _events(), ids=lambda value: getattr(value, "__name__", value))
def test_events_have_the_fields_of_the_source(contract: str, kind: type[Event]) -> None:
    inputs = interface(contract).events[kind.__name__].inputs
    ours = list(kind.__dataclass_fields__)  # type: ignore[attr-defined]  # every Event is a dataclass
    theirs = [snake_case(entry["name"]) for entry in inputs]
    assert len(ours) == len(theirs)
    for mine, source in zip(ours, theirs, strict=True):
        assert mine == source or mine in RENAMED.get(source, ())


STRUCTS = (
    ("Studies", "termsOf", studies.StudyTerms),
    ("Studies", "studyOf", studies.Study),
    ("Studies", "partyOf", studies.Party),
    ("Studies", "challengeOf", studies.Challenge),
    ("Evaluations", "termsOf", evaluations.EvaluationTerms),
    ("Evaluations", "requestOf", evaluations.EvaluationRequest),
    ("Evaluations", "reportOf", evaluations.Report),
    ("Assets", "assetOf", assets.Asset),
    ("Providers", "providerOf", providers.Provider),
    ("Market", "offerOf", market.Offer),
    ("Market", "passOf", market.Pass),
    ("Market", "channelOf", market.PaymentChannel),
    ("Receipts", "batchOf", receipts.Batch),
)


@pytest.mark.parametrize(("contract", "getter", "kind"), STRUCTS)
def test_structs_have_the_fields_of_the_source(contract: str, getter: str, kind: type) -> None:
    (output,) = interface(contract).functions[getter].outputs
    assert list(kind.__dataclass_fields__) == [snake_case(entry["name"]) for entry in output["components"]]  # type: ignore[attr-defined]


def test_every_error_of_the_suite_has_advice() -> None:
    own = {method.name for name in SUITE for method in interface(name).errors.values()}
    libraries = ("ERC20", "ERC721", "ERC2612", "ERC2981", "SafeERC20", "SafeCast", "ShortStrings", "StringTooLong")
    missing = {
        name for name in own - set(ADVICE) if not name.startswith((*libraries, "Invalid", "ECDSA", "ReentrancyGuard"))
    }
    assert not missing


def test_every_artefact_fits_a_block_and_names_its_source() -> None:
    for name in SUITE:
        compiled = artifact(name)
        assert 0 < len(compiled.runtime) <= 24_576
        assert compiled.compiler == "solc 0.8.37"
        assert len(compiled.input_sha256) == 64


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"name":1}',
        b"\xff",
        b'{"name":"x","compiler":"","input_sha256":"","abi":[],"bytecode":"0xzz","runtime":"0x","immutables":[]}',
    ],
)
def test_broken_artefacts_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="artefact"):
        parse_artifact(data)


def test_arguments_that_do_not_fit_are_named() -> None:
    calls = Interface(artifact("Token"))
    with pytest.raises(InvalidInput, match=r"Token\.transfer: to must be an address"):
        calls.encode_call("transfer", b"\x01" * 19, 5)
    with pytest.raises(InvalidInput, match=r"Token\.transfer: value is no uint256"):
        calls.encode_call("transfer", b"\x01" * 20, -5)
    with pytest.raises(InvalidInput, match="takes 2 arguments"):
        calls.encode_call("transfer", b"\x01" * 20)


@given(data=st.binary(max_size=400))
def test_hostile_return_data_is_refused_or_read(data: bytes) -> None:
    outputs = interface("Studies").functions["termsOf"].outputs
    try:
        (value,) = decode(outputs, data, "Studies.termsOf")
    except MalformedMessage:
        return
    assert isinstance(build(studies.StudyTerms, value), studies.StudyTerms)


def test_arrays_are_recognised() -> None:
    match = ARRAY.match("uint256[4][]")
    assert match is not None
    assert match.groups() == ("uint256[4]", "")


# ---------------------------------------------------------------------------------------------------- refusals


def test_refusals_are_sentences() -> None:
    string = ERROR_STRING + encode([{"type": "string", "name": "r"}], ["no more"], "x")
    assert str(explain(string, "Token refused transfer")) == "Token refused transfer: no more"
    panic = PANIC + (0x11).to_bytes(32, "big")
    assert "arithmetic" in str(explain(panic, "Studies refused propose"))
    assert "without a reason" in str(explain(b"", "Studies refused propose"))
    assert "cannot be read" in str(explain(ERROR_STRING + b"\xff", "Studies refused propose"))
    assert len(str(explain(ERROR_STRING + encode([{"type": "string", "name": "r"}], ["x" * 9_000], "x"), "T"))) < 400


@given(data=st.binary(max_size=200), known=st.sampled_from(sorted(interface("Studies").errors)))
def test_hostile_revert_data_gives_some_sentence(data: bytes, known: bytes) -> None:
    assert isinstance(explain(data, "X refused y"), Reverted)
    assert str(explain(known + data, "X refused y")).startswith("X refused y")


# ---------------------------------------------------------------------------------------------------- hostile nodes


class ScriptedRpc:
    """Answers in the order of a script; an exception in it is raised."""

    def __init__(self, **answers: object) -> None:
        self.answers = answers

    async def request(self, method: str, parameters: Sequence[object]) -> Any:
        answer = self.answers[method]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("answer", [None, 5, "5", "0x", "0xzz", "0x" + "f" * 65, [], {}, True])
async def test_numbers_that_are_none_are_refused(answer: object) -> None:
    client = ChainClient(ScriptedRpc(eth_blockNumber=answer))
    with pytest.raises(MalformedMessage, match="block number"):
        await client.block_number()


@pytest.mark.parametrize("answer", [None, 5, "zz", "0xz", "0x1", []])
async def test_bytes_that_are_none_are_refused(answer: object) -> None:
    with pytest.raises(MalformedMessage):
        await ChainClient(ScriptedRpc(eth_call=answer)).call(Address(bytes(20)), b"")


@pytest.mark.parametrize("answer", [None, {}, ["x"], [{}], [{"address": "0x00"}]])
async def test_logs_that_are_none_are_refused(answer: object) -> None:
    with pytest.raises(MalformedMessage):
        await ChainClient(ScriptedRpc(eth_getLogs=answer)).logs([Address(bytes(20))])


def test_revert_data_is_found_in_the_forms_of_several_clients() -> None:
    assert revert_data("0x0102") == b"\x01\x02"
    assert revert_data("Reverted 0x0102") == b"\x01\x02"
    assert revert_data({"data": "0x0102"}) == b"\x01\x02"
    assert revert_data({"result": "0x01"}) == b"\x01"
    for other in (None, 5, "text", {}, []):
        assert revert_data(other) == b""
    assert quantity("0x10", "x") == 16
    assert binary("0x10", "x") == b"\x10"


async def test_clients_without_a_key_only_read() -> None:
    client = ChainClient(ScriptedRpc())
    with pytest.raises(InvalidInput, match="no key"):
        await client.send(Address(bytes(20)), b"")


@pytest.mark.parametrize("urls", [[], ["ftp://x"], ["localhost:1"]])
def test_bad_addresses_of_chains_are_refused(urls: list[str]) -> None:
    with pytest.raises(InvalidInput):
        ChainClient(urls)


@asynccontextmanager
async def server(answer: bytes | None, status: bytes = b"200 OK") -> AsyncIterator[str]:
    """An HTTP server that gives one answer to everything, or none at all."""
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if answer is not None:
            head = (
                b"HTTP/1.1 "
                + status
                + b"\r\nContent-Length: "
                + str(len(answer)).encode()
                + b"\r\nConnection: close\r\n\r\n"
            )
            writer.write(head + answer)
            await writer.drain()
            writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with running:
        yield f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
        for writer in writers:
            writer.close()


GOOD = b'{"jsonrpc":"2.0","id":1,"result":"0x7"}'


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (b"<html>", b"200 OK", "no JSON-RPC"),
        (b"[]", b"200 OK", "no JSON-RPC"),
        (b'{"error":5}', b"200 OK", "no JSON-RPC"),
        (b"{}", b"503 Unavailable", "status 503"),
        (b'"' + b"x" * (33 * 1024 * 1024) + b'"', b"200 OK", "more than"),
    ],
    ids=["page", "list", "error of another form", "status", "33 MiB"],
)
async def test_answers_that_are_none_are_refused(answer: bytes, status: bytes, said: str) -> None:
    async with server(answer, status) as url, ChainClient([url]) as client:
        with pytest.raises(Unavailable, match=said):
            await client.block_number()


async def test_a_second_address_answers_for_the_first() -> None:
    async with server(b"nothing") as bad, server(GOOD) as good, ChainClient([bad, good]) as client:
        assert await client.block_number() == 7
        assert await client.block_number() == 7


async def test_a_silent_address_runs_into_its_deadline() -> None:
    async with server(None) as url:
        rpc = HttpRpc([url], timeout=Seconds(0.05))
        with pytest.raises(Expired, match="did not answer"):
            await rpc.request("eth_blockNumber", [])
        await rpc.close()


async def test_nobody_at_the_address() -> None:
    async with server(GOOD) as url:
        pass
    async with ChainClient([url, url]) as client:
        with pytest.raises(Unavailable, match="no address of the chain answers"):
            await client.block_number()


async def test_error_answers_carry_code_and_data() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"execution reverted","data":"0x08c379a0"}}'
    async with server(body) as url, ChainClient([url]) as client:
        with pytest.raises(RpcError) as caught:
            await client.block_number()
    assert (caught.value.code, caught.value.data) == (3, ERROR_STRING)


# ---------------------------------------------------------------------------------------------------- sending


async def test_transactions_of_many_tasks_get_consecutive_nonces(world: World) -> None:
    own = world.by("buyer").token
    receipts_ = await asyncio.gather(*(own.transfer(world.address("north"), TokenAmount(n + 1)) for n in range(8)))
    assert len({receipt.transaction_hash for receipt in receipts_}) == 8


async def test_no_gas_money_is_one_sentence(world: World) -> None:
    poor = world.client.with_key(AccountKey.from_secret(digest_of("poor")))
    with pytest.raises(Refused, match=r"funds|balance"):
        await poor.send(world.address("north"), b"")


class Vanishing:
    """A chain that takes transactions and puts them nowhere."""

    def __init__(self, chain: EvmChain) -> None:
        self.chain = chain

    async def request(self, method: str, parameters: Sequence[object]) -> Any:
        if method == "eth_sendRawTransaction":
            return "0x" + "00" * 32
        if method == "eth_getTransactionReceipt":
            return None
        return await self.chain.request(method, parameters)

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_transaction_in_no_block_expires(world: World, chain: EvmChain) -> None:
    client = ChainClient(Vanishing(chain), key_of("buyer"), receipt_timeout=Seconds(0.05))
    with pytest.raises(Expired, match="in no block"):
        await client.send(world.address("north"), b"")


class FailsAfterTaking(Vanishing):
    """A chain node that takes a transaction and then answers with an error."""

    async def request(self, method: str, parameters: Sequence[object]) -> Any:
        answer = await self.chain.request(method, parameters)
        if method == "eth_sendRawTransaction":
            raise RpcError(method, -32000, "already known")
        return answer


async def test_a_transaction_that_was_taken_is_not_sent_twice(world: World, chain: EvmChain) -> None:
    client = ChainClient(FailsAfterTaking(chain), key_of("buyer"))
    before = await world.suite.token.balance_of(world.address("north"))
    own = world.suite.through(client)
    await own.token.transfer(world.address("north"), TokenAmount(5))
    assert await world.suite.token.balance_of(world.address("north")) == before + 5
    assert chain.requests.count("eth_sendRawTransaction") >= 1


class RunsAhead(Vanishing):
    """A chain on which somebody else's transaction gets in between estimate and execution."""

    def __init__(self, chain: EvmChain, other: Any) -> None:
        super().__init__(chain)
        self.other = other

    async def request(self, method: str, parameters: Sequence[object]) -> Any:
        if method == "eth_sendRawTransaction" and self.other is not None:
            other, self.other = self.other, None
            await other
        return await self.chain.request(method, parameters)


async def test_a_transaction_that_fails_in_its_block_says_why(world: World, chain: EvmChain) -> None:
    study_id = await world.propose()
    rpc = RunsAhead(chain, world.by("north").studies.refuse(study_id, digest_of("no")))
    client = ChainClient(rpc, key_of("publisher"), now=chain.now)
    with pytest.raises(Reverted, match="Studies refused cancel: WrongPhase"):
        await world.suite.through(client).studies.cancel(study_id)


async def test_a_chain_behind_the_clock_is_pushed(world: World, chain: EvmChain) -> None:
    study_id = await world.propose()
    chain.sleep(1_002)
    height = await world.client.block_number()
    await world.by("stranger").studies.expire(study_id)
    assert await world.client.block_number() == height + 2  # one empty block, one with the call


async def test_far_heights_are_not_pushed(world: World) -> None:
    with pytest.raises(InvalidInput, match="blocks away"):
        await world.by("stranger").client.advance_past(10_000)


async def test_events_are_found_by_indexed_fields(world: World) -> None:
    first, second = await world.propose(), await world.propose()
    found = await world.suite.studies.events(studies.Proposed, study_id=second)
    assert [entry.event.study_id for entry in found] == [second]
    by_publisher = await world.suite.studies.events(studies.Proposed, publisher=world.address("publisher"))
    assert [entry.event.study_id for entry in by_publisher] == [first, second]
    with pytest.raises(TypeError, match="colour"):
        await world.suite.studies.events(studies.Proposed, colour=1)


def test_addresses_of_a_suite_are_read_whole() -> None:
    good = {name.lower(): "0x" + "ab" * 20 for name in SUITE}
    assert parse_addresses(good).token == b"\xab" * 20
    with pytest.raises(InvalidInput, match="token"):
        parse_addresses({name: text for name, text in good.items() if name != "token"})
    with pytest.raises(InvalidInput, match="40 hexadecimal"):
        parse_addresses({**good, "names": "0x12"})


def test_signatures_of_results_recover(world: World) -> None:
    digest = digest_of("anything")
    assert recover_address(digest, key_of("north").sign_digest(digest)) == world.address("north")
    assert to_hex(world.address("north")).startswith("0x")


async def test_a_request_that_was_put_off_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy node says so; the client waits for its turn, and gives the error on when it never comes."""
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
        await reader.readexactly(length)
        asked += 1
        busy = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"too many calls wait"}}'
        body = busy if asked < calm else b'{"jsonrpc":"2.0","id":1,"result":"0x7"}'
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    monkeypatch.setattr("koinon.contracts.rpc._PAUSES", (0.0, 0.0, 0.0))
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as running:
        url = f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
        rpc, calm = HttpRpc([url]), 3
        assert await rpc.request("eth_blockNumber", []) == "0x7"
        assert asked == 3
        asked, calm = 0, 100
        with pytest.raises(RpcError, match="too many calls wait"):
            await rpc.request("eth_blockNumber", [])
        assert asked == 4
        await rpc.close()
