"""Sums under the result party's key: what owners, adding members and the result party refuse, and who is outvoted."""

import os
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, MalformedMessage, Refused, Unavailable
from koinon.privacy.encrypted import ckks, keeper, studies
from koinon.privacy.encrypted.member import agreed
from koinon.privacy.opening import public_package, reconstruct_words
from koinon.privacy.programs import naive_bayes, registry
from koinon.privacy.programs.offer import Layout, Parameters
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.seats import certify
from koinon.privacy.sharing import Dealing, attest, deal, sealed_commitments
from koinon.wire.catalogue import from_frame, to_frame
from koinon.wire.committee import POSITIONS, Column, Input, Listening, Output, Peer, Prepare, Run
from koinon.worker import Limits, Worker

SESSION = bytes([5]) * 32
COLUMNS = (Column("age", 0.0, 100.0), Column("pulse", 40.0, 200.0), Column("ill", 0.0, 1.0))
ROWS = (24, 30, 20)
LAYOUT = Layout(ROWS, COLUMNS, "ill")
GIVEN = Parameters(LAYOUT, b"", ("priors", "means", "variances"))
PROGRAM = studies.check(naive_bayes.NAME, GIVEN)
SMOOTHING = naive_bayes.Settings().smoothing


def rows(owner: int) -> np.ndarray:
    draw = np.random.default_rng(owner)
    count = ROWS[owner]
    return np.column_stack([draw.uniform(10, 90, count), draw.uniform(50, 150, count), np.arange(count) % 2])


@pytest.fixture(scope="module")
def keys() -> ckks.Keys:
    return ckks.generate(studies.DEPTH)


@pytest.fixture(scope="module")
def sealed(keys: ckks.Keys) -> list[bytes]:
    sums = [studies.sums_of(rows(owner), LAYOUT, PROGRAM) for owner in range(3)]
    return [ckks.encrypt_numbers(keys.public, each, studies.DEPTH) for each in sums]


def test_the_total_is_that_of_all_rows_and_the_outputs_are_its_moments(keys: ckks.Keys, sealed: list[bytes]) -> None:
    total = keys.decrypt([ckks.added(sealed, studies.DEPTH)], PROGRAM.length, studies.DECIMALS)[:, 0]
    pooled = np.concatenate([rows(owner) for owner in range(3)])
    assert np.abs(total - studies.sums_of(pooled, LAYOUT, PROGRAM)).max() <= 1e-4
    found = studies.outputs_of(total, GIVEN, PROGRAM)
    scaled = (pooled[:, :2] - [50.0, 120.0]) / [50.0, 80.0]
    classes = [scaled[pooled[:, 2] == code] for code in (0, 1)]
    means, variances = ([getattr(own, what)(0) for own in classes] for what in ("mean", "var"))
    expected = np.concatenate([[len(own) / len(pooled) for own in classes], *means, *variances])
    assert np.abs(found - expected).max() < 2 * SMOOTHING


def test_adding_needs_no_key_and_gives_the_same_bytes_everywhere(sealed: list[bytes]) -> None:
    assert len({ckks.added(sealed, studies.DEPTH) for _ in range(3)}) == 1


def test_a_member_that_adds_otherwise_is_outvoted_and_named(sealed: list[bytes]) -> None:
    right, wrong = (studies.as_words(ckks.added(some, studies.DEPTH)) for some in (sealed, sealed[:2]))
    made = [public_package(SESSION, i, wrong if i == 2 else right, 0, bytes(32)) for i in POSITIONS]
    digests = [digest for _, digest in made]
    assert [digest == digests[0] for digest in digests] == [True, True, False, True]
    words, _, liars = reconstruct_words([package for package, _ in made], SESSION, digests[0])
    assert studies.from_words(words) == studies.from_words(right)
    assert liars == (2,)


BAD_ROWS: dict[str, tuple[Callable[[np.ndarray], None], type[KoinonError]]] = {
    "a missing value": (lambda own: own.__setitem__((0, 0), np.nan), InvalidInput),
    "out of range": (lambda own: own.__setitem__((0, 1), 500.0), InvalidInput),
    "a target between": (lambda own: own.__setitem__((0, 2), 0.5), InvalidInput),
    "too few in a class": (lambda own: own.__setitem__((slice(None), 2), 1.0), Refused),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_an_owner_encrypts_no_sums_of_unfit_rows(case: str) -> None:
    change, kind = BAD_ROWS[case]
    own = rows(0)
    change(own)
    with pytest.raises(kind):
        studies.sums_of(own, LAYOUT, PROGRAM)


BAD_TOTALS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "too short": lambda total: total[:-1],
    "not finite": lambda total: total * np.inf,
    "other people": lambda total: total + 1.0,
    "an empty class": lambda total: np.append(total[:5] * 0, total[5:] + total[:5]),
    "means out of range": lambda total: total * np.array([1, 99, 1, 1, 1, 1, 99, 1, 1, 1]),
    "variances out of range": lambda total: total * np.array([1, 1, 1, 99, 99, 1, 1, 1, 99, 99]),
}


@pytest.mark.parametrize("case", BAD_TOTALS)
def test_a_total_that_no_rows_have_is_not_opened_to_anybody(case: str) -> None:
    total = studies.sums_of(np.concatenate([rows(owner) for owner in range(3)]), LAYOUT, PROGRAM)
    studies.outputs_of(total, GIVEN, PROGRAM)
    with pytest.raises(MalformedMessage):
        studies.outputs_of(BAD_TOTALS[case](total), GIVEN, PROGRAM)


def test_what_is_no_ciphertext_is_not_added(keys: ckks.Keys, sealed: list[bytes]) -> None:
    longer = ckks.encrypt_numbers(keys.public, np.ones(11), studies.DEPTH)
    for bad in ([], [b""], [b"x" * 1000], [sealed[0], sealed[1][:-20]], [sealed[0], longer], [sealed[0], b""]):
        with pytest.raises(MalformedMessage):
            ckks.added(bad, studies.DEPTH)


TOO_MUCH = [np.ones(0), np.ones(5000), np.ones((2, 2)), np.full(3, np.nan), np.full(3, 2.0**21)]


@pytest.mark.parametrize("numbers", TOO_MUCH, ids=["none", "too many", "a matrix", "not finite", "too large"])
def test_what_does_not_fit_is_not_encrypted(keys: ckks.Keys, numbers: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        ckks.encrypt_numbers(keys.public, numbers, studies.DEPTH)


def test_keys_open_only_what_is_theirs(keys: ckks.Keys, sealed: list[bytes]) -> None:
    again = ckks.keys_from(ckks.secret_bytes(keys), studies.DEPTH)
    assert (again.decrypt(sealed[:1], 10, 4) == keys.decrypt(sealed[:1], 10, 4)).all()
    for bad in (b"", keys.public, b"x" * 100):
        with pytest.raises(MalformedMessage):
            ckks.keys_from(bad, studies.DEPTH)
    with pytest.raises(MalformedMessage, match="secret"):
        ckks.encrypt_numbers(ckks.secret_bytes(keys), np.ones(2), studies.DEPTH)


@pytest.mark.parametrize("words", [[9], [2**60, 1], [0, 1], [16, 1], [1, 2**40]])
def test_words_that_hold_no_bytes_are_refused(words: list[int]) -> None:
    with pytest.raises(MalformedMessage):
        studies.from_words(np.array(words, np.uint64))


async def test_the_child_makes_keys_encrypts_and_opens_and_survives_nonsense() -> None:
    pair = await keeper.make_keys()
    numbers = np.array([1.5, -2.25, 1e6])
    sealed = await keeper.encrypt(pair.public, numbers)
    assert np.abs(await keeper.open_total(pair.secret, sealed, 3) - numbers).max() <= 1e-3
    for attempt in (
        keeper.encrypt(b"no key", numbers),
        keeper.open_total(pair.public, sealed, 3),
        keeper.open_total(pair.secret, b"none", 3),
        keeper.open_total(pair.secret, sealed, 4),
    ):
        with pytest.raises((MalformedMessage, Unavailable)):
            await attempt


# ------------------------------------------------------------------------------------------------------- a member


def node(position: int) -> NodeKey:
    return NodeKey.from_seed(bytes([60 + position]) * 32)


def owner_key(number: int) -> NodeKey:
    return NodeKey.from_seed(bytes([80 + number]) * 32)


def order(ciphertexts: list[bytes], first: NodeKey) -> Run:
    keys = [first, *(NodeKey.from_seed(bytes([i]) * 32) for i in (1, 2, 3))]
    peers = [
        Peer(node(i).node_id, keys[i].node_id, certify(node(i), SESSION, i, keys[i].node_id), "127.0.0.1", 0)
        for i in POSITIONS
    ]
    dealing = Dealing(SESSION, 0, bytes(32))
    return Run(
        peers=(peers[0], peers[1], peers[2], peers[3]),
        program=naive_bayes.NAME,
        algorithm=registry.algorithm_hash(naive_bayes.NAME, registry.HE),
        parameters=encode(GIVEN),
        result_party=bytes(32),
        inputs=tuple(
            Input(attest(ROWS[i], COLUMNS, 20, dealing, owner_key(i), sealed_commitments(each)), None, each)
            for i, each in enumerate(ciphertexts)
        ),
        deadline_seconds=60.0,
        silence_seconds=60.0,
    )


async def test_a_member_adds_and_hands_over_the_sum(sealed: list[bytes]) -> None:
    async with Worker.start("koinon.privacy.encrypted.member:main", Limits(network=True)) as worker:
        seed = os.urandom(32)
        await worker.send(to_frame(Prepare(SESSION, 0, seed, "127.0.0.1")))
        assert isinstance(from_frame(await worker.receive()), Listening)
        await worker.send(to_frame(order(sealed, NodeKey.from_seed(seed))))
        told = from_frame(await worker.receive())
    assert isinstance(told, Output)
    words = studies.as_words(ckks.added(sealed, studies.DEPTH))
    assert told.package.count == words.size
    assert told.package.components[0].index == 1
    other, digest = public_package(SESSION, 1, words, 0, studies.salt_of(studies.from_words(words)))
    assert digest == told.output_digest
    opened, _, liars = reconstruct_words([told.package, other], SESSION, digest)
    assert (opened == words).all()
    assert liars == ()


def with_first(change: Callable[[Input], Input]) -> Callable[[Run], Run]:
    return lambda run: msgspec.structs.replace(run, inputs=(change(run.inputs[0]), *run.inputs[1:]))


def dealt(_: Input) -> Input:
    manifest, packages = deal(rows(0), COLUMNS, 20, Dealing(SESSION, 0, bytes(32)), owner_key(0), SeededRng(b"d"))
    return Input(manifest, packages[0])


def replaced(**changes: Any) -> Callable[[Run], Run]:
    return lambda run: msgspec.structs.replace(run, **changes)


NONSENSE: dict[str, tuple[Callable[[Run], Run], type[KoinonError]]] = {
    "rep4's hash": (replaced(algorithm=registry.algorithm_hash(naive_bayes.NAME)), InvalidInput),
    "another program": (replaced(program="k-means/1"), InvalidInput),
    "parameters that are none": (replaced(parameters=b"\xc0"), MalformedMessage),
    "half the outputs": (replaced(parameters=encode(msgspec.structs.replace(GIVEN, outputs=("means",)))), Refused),
    "no deadline": (replaced(deadline_seconds=0.0), InvalidInput),
    "an owner too few": (lambda run: msgspec.structs.replace(run, inputs=run.inputs[:2]), InvalidInput),
    "an owner twice": (lambda run: msgspec.structs.replace(run, inputs=(run.inputs[0],) * 3), InvalidInput),
    "another ciphertext": (with_first(lambda one: msgspec.structs.replace(one, sealed=one.sealed + b"x")), Forged),
    "no ciphertext": (with_first(lambda one: msgspec.structs.replace(one, sealed=b"")), Forged),
    "dealt shares": (with_first(dealt), Forged),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_a_member_adds_nothing_for_an_order_that_makes_no_sense(case: str) -> None:
    change, kind = NONSENSE[case]
    first = NodeKey.from_seed(bytes([9]) * 32)
    prepare, run = Prepare(SESSION, 0, bytes([9]) * 32, "127.0.0.1"), order([b"a", b"b", b"c"], first)
    assert agreed(prepare, run, first) == [b"a", b"b", b"c"]
    with pytest.raises(KoinonError) as problem:
        agreed(prepare, change(run), first)
    assert type(problem.value) is kind
