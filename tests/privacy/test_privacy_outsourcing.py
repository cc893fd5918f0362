"""Work given to strangers: what liars, silence and late answers can do, and evidence that anybody can check."""

from contextlib import AsyncExitStack
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.kernel.errors import Forged, InvalidInput, Unavailable
from koinon.kernel.ids import NodeId
from koinon.net.transport import Transport
from koinon.privacy.encrypted import replication
from koinon.privacy.encrypted.freivalds import PRIMES, is_product
from koinon.privacy.encrypted.models import EncryptedModel, Link, layer
from koinon.privacy.encrypted.outsourcing import outsource
from koinon.privacy.encrypted.parts import divided, most_parts, whole
from koinon.privacy.encrypted.replication import Answered, Ask, Begin, Event, Lost, Named, Settled, State, step
from koinon.privacy.encrypted.service import is_wrong, serve
from koinon.privacy.encrypted.work_estimate import estimate_work
from koinon.privacy.rep4.adversary import SeededRng
from koinon.wire.encrypted import EncryptedQuestion

MODEL = EncryptedModel((layer(np.array([[0.5, -2.0]]), np.array([0.25])),), Link.IDENTITY)
LIAR = EncryptedModel((layer(np.array([[0.5, -2.0 + 1e-6]]), np.array([0.25])),), Link.IDENTITY)

WHOLE = whole(MODEL, lambda _: "risk")


def played(
    pieces: int, strangers: int, agree: int, liars: set[int], silent: set[int], seed: int, parts: int = 1
) -> tuple[State, list[Settled], list[Named], int]:
    """The whole work with strangers that answer in any order; each liar has an answer of its own."""
    rng = SeededRng(str(seed).encode())
    state = replication.begin(pieces, strangers, agree, rng, parts)
    waiting: list[Event] = [Begin()]
    settled: list[Settled] = []
    named: list[Named] = []
    asked = 0
    while waiting:
        state, effects = step(state, waiting.pop(rng.below(len(waiting))))
        for effect in effects:
            match effect:
                case Ask(stranger, piece) if stranger in silent:
                    asked += 1
                    waiting.append(Lost(stranger, piece))
                case Ask(stranger, piece):
                    asked += 1
                    said = b"lie %d" % stranger if stranger in liars else b"truth"
                    waiting.append(Answered(stranger, piece, said))
                case Settled():
                    settled.append(effect)
                case Named():
                    named.append(effect)
    return state, settled, named, asked


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_piece_is_right_and_only_liars_are_named(data: st.DataObject) -> None:
    strangers = data.draw(st.integers(3, 7))
    agree = data.draw(st.integers(2, 3))
    bad = data.draw(st.sets(st.integers(0, strangers - 1), max_size=strangers - agree))
    liars = data.draw(st.sets(st.sampled_from(sorted(bad)))) if bad else set()
    seed = data.draw(st.integers(0, 2**20))
    state, settled, named, asked = played(6, strangers, agree, liars, bad - liars, seed)
    assert state.is_done
    assert sorted(each.piece for each in settled) == list(range(6))
    assert all(each.stranger not in bad for each in settled)
    assert {each.stranger for each in named} <= liars
    assert state.silent <= bad - liars
    assert asked >= 6 * agree
    paid = replication.shares(state, strangers)
    assert all(paid[liar] == 0 for liar in state.liars)
    assert sum(paid) <= 6 * agree


def test_with_honest_strangers_nobody_is_asked_needlessly() -> None:
    _, _, named, asked = played(50, 6, 2, set(), set(), 1)
    assert asked == 100
    assert not named


def test_every_liar_that_was_asked_is_named() -> None:
    state, _, named, _ = played(200, 5, 2, {1, 3}, set(), 2)
    assert state.liars == {1, 3} == {each.stranger for each in named}


def test_strangers_who_lie_together_and_are_drawn_together_win_which_is_the_stated_limit() -> None:
    state = replication.begin(1, 3, 2, SeededRng(b""))
    state, effects = step(state, Begin())
    for effect in effects:
        assert isinstance(effect, Ask)
        state, last = step(state, Answered(effect.stranger, 0, b"the same lie"))
    assert state.pieces[0].settled == b"the same lie"
    assert isinstance(last[0], Settled)


def test_too_few_answers_end_the_work_with_a_reason() -> None:
    with pytest.raises(Unavailable, match="piece 1 was answered by 1 of 3 strangers, of whom no 2 agree"):
        played(1, 3, 2, set(), {0, 1}, 3)


def test_answers_nobody_asked_for_change_nothing() -> None:
    state, _ = step(replication.begin(2, 3, 2, SeededRng(b"")), Begin())
    asked = state.pieces[0].order[0]
    never = state.pieces[0].order[2]
    for event in (Answered(never, 0, b""), Answered(asked, 7, b""), Answered(99, 0, b""), Lost(never, 1), Lost(0, -1)):
        expected = step(state, event)[0]
        assert expected == state or (event == Lost(never, 1) and never in state.pieces[1].order[:2])
    state, _ = step(state, Answered(asked, 0, b"x"))
    assert step(state, Answered(asked, 0, b"y")) == (state, ())
    assert step(state, Begin()) == (state, ())


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_of_a_model_in_parts_nobody_is_asked_about_all_whoever_lies(data: st.DataObject) -> None:
    agree = data.draw(st.integers(2, 3))
    bad = data.draw(st.integers(0, 2))
    strangers = data.draw(st.integers(agree + bad + 1, 8))
    parts = data.draw(st.integers(strangers, strangers + 2))
    liars = data.draw(st.sets(st.integers(0, strangers - 1), min_size=bad, max_size=bad))
    cuts, seed = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 2**20))
    state, settled, named, _ = played(cuts * parts, strangers, agree, liars, set(), seed, parts)
    assert sorted(each.piece for each in settled) == list(range(cuts * parts))
    assert {each.stranger for each in named} <= liars
    seen: dict[int, set[int]] = {stranger: set() for stranger in range(strangers)}
    for number, piece in enumerate(state.pieces):
        for stranger in piece.order[: piece.asked]:
            seen[stranger].add(number % parts)
    assert max(map(len, seen.values())) < parts


@pytest.mark.parametrize(("workers", "agree"), [(3, 2), (4, 2), (5, 3), (7, 2)])
def test_an_estimate_says_what_is_asked_and_shown_where_nobody_fails(workers: int, agree: int) -> None:
    model = random_model((7, 9, 3), Link.IDENTITY, 1)
    found = estimate_work(model, "model", 25, 10, workers, agree)
    state, _, _, asked = played(found.pieces, workers, agree, set(), set(), 3, found.parts)
    seen = [
        {number % found.parts for number, piece in enumerate(state.pieces) if worker in piece.order[: piece.asked]}
        for worker in range(workers)
    ]
    assert (found.parts, found.pieces, found.answers) == (workers, 3 * workers, asked)
    assert max(map(len, seen)) == found.shown <= found.most_shown == workers - 1
    assert (found.whole_products, found.products) == (9 * 10, -(-9 // workers) * 10)
    rows = estimate_work(model, "rows", 25, 10, workers, agree)
    assert (rows.parts, rows.pieces, rows.shown, rows.most_shown, rows.products) == (1, 3, 1, 1, 90)


@pytest.mark.parametrize(
    ("sizes", "split", "workers", "sentence"),
    [
        ((1, 1), "model", 4, "one input and one output cannot be cut"),
        ((4, 1), "model", 2, "2 workers are too few"),
        ((4, 1), "model", 1, "1 workers are too few"),
        ((2, 1), "model", 3, "3 workers are too few"),
        ((4, 1), "columns", 4, "split by rows or by model"),
    ],
)
def test_work_that_cannot_be_split_so_is_refused(
    sizes: tuple[int, ...], split: str, workers: int, sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        estimate_work(random_model(sizes, Link.IDENTITY, 1), split, 5, 5, workers, 2)


def test_too_few_strangers_for_parts_are_refused() -> None:
    with pytest.raises(InvalidInput, match="where each of 4 strangers misses one of 2 parts, 3 cannot agree"):
        replication.begin(4, 4, 3, SeededRng(b""), 2)


@pytest.mark.parametrize(("pieces", "strangers", "agree"), [(0, 3, 2), (10**9, 3, 2), (1, 3, 1), (1, 1, 2)])
def test_work_that_cannot_be_shared_out_is_refused(pieces: int, strangers: int, agree: int) -> None:
    with pytest.raises(InvalidInput):
        replication.begin(pieces, strangers, agree, SeededRng(b""))


# ------------------------------------------------------------------------------------------------------- for real


async def test_a_stranger_that_computes_something_else_is_found_and_anybody_can_check_it() -> None:
    rng, rows = SystemRng(), np.random.default_rng(1).normal(size=(9, 2))
    keys = [NodeKey.generate(rng) for _ in range(3)]
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(Transport.open(key, "127.0.0.1", 0)) for key in keys]
        client = await stack.enter_async_context(Transport.open(NodeKey.generate(rng), "127.0.0.1", 0))
        for number, (node, key) in enumerate(zip(nodes, keys, strict=True)):
            serve(node.handle, key, {"risk": LIAR if number == 1 else MODEL})
        endpoints = [node.endpoint for node in nodes]
        # With this draw the liar is asked about one piece or more.
        result = await outsource(client, endpoints, WHOLE, rows, SeededRng(b"draw"), piece_rows=3)
    np.testing.assert_allclose(result.answers, MODEL.in_the_clear(rows), atol=1e-3)
    assert {wrong.node for wrong in result.evidence} == {keys[1].node_id}
    assert result.earned[1] == 0 < min(result.earned[0], result.earned[2])
    assert result.silent == ()
    wrong = result.evidence[0]
    assert await is_wrong(wrong.node, MODEL, wrong.question, wrong.answer)
    assert not await is_wrong(wrong.node, LIAR, wrong.question, wrong.answer)
    with pytest.raises(Forged):
        await is_wrong(NodeId(keys[0].node_id), MODEL, wrong.question, wrong.answer)
    other = EncryptedQuestion("another", wrong.question.public, wrong.question.columns)
    with pytest.raises(Forged):
        await is_wrong(wrong.node, MODEL, other, wrong.answer)
    changed = msgspec.structs.replace(wrong.answer, columns=(b"put in its mouth",))
    with pytest.raises(Forged):
        await is_wrong(wrong.node, MODEL, wrong.question, changed)


async def test_a_stranger_that_is_gone_is_replaced() -> None:
    rng, rows = SystemRng(), np.ones((4, 2))
    keys = [NodeKey.generate(rng) for _ in range(3)]
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(Transport.open(key, "127.0.0.1", 0)) for key in keys]
        client = await stack.enter_async_context(Transport.open(NodeKey.generate(rng), "127.0.0.1", 0))
        for node, key in zip(nodes[:2], keys[:2], strict=True):
            serve(node.handle, key, {"risk": MODEL})
        endpoints = [node.endpoint for node in nodes]
        result = await outsource(client, endpoints, WHOLE, rows, SeededRng(b"draw"), piece_rows=2)
        np.testing.assert_allclose(result.answers, MODEL.in_the_clear(rows), atol=1e-3)
        assert set(result.silent) <= {keys[2].node_id}
        assert not result.evidence
        with pytest.raises(Unavailable, match="no 3 agree"):
            await outsource(client, endpoints, WHOLE, rows, SeededRng(b"draw"), agree=3)
        with pytest.raises(InvalidInput, match="takes rows of 2 numbers"):
            await outsource(client, endpoints, WHOLE, np.ones((4, 3)), SeededRng(b"draw"))


# ---------------------------------------------------------------------------------------------------------- parts


def random_model(sizes: tuple[int, ...], link: Link, seed: int) -> EncryptedModel:
    """Layers of these sizes, the first of which are the inputs, with squares between them."""
    random = np.random.default_rng(seed)
    layers = [
        layer(random.normal(size=(after, before)), random.normal(size=after), square=number < len(sizes) - 2)
        for number, (before, after) in enumerate(pairwise(sizes))
    ]
    return EncryptedModel(tuple(layers), link)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 7), min_size=2, max_size=4),
    st.sampled_from(Link),
    st.integers(2, 7),
    st.integers(0, 2**20),
)
def test_parts_add_up_to_the_model_and_none_is_it(sizes: list[int], link: Link, count: int, seed: int) -> None:
    model = random_model(tuple(sizes), link, seed)
    if count > most_parts(model):
        with pytest.raises(InvalidInput, match="cannot be cut into"):
            divided(model, count, lambda _: "")
        return
    rows = np.random.default_rng(seed).normal(size=(5, sizes[0]))
    division = divided(model, count, lambda part: str(part.layers))
    answers = [part.model.in_the_clear(rows[:, list(part.columns)]) for part in division.parts]
    np.testing.assert_allclose(division.together(answers), model.in_the_clear(rows), atol=1e-9)
    assert len({part.name for part in division.parts}) == len(division.parts) == count
    weights = sum(np.size(each.weights) for each in model.layers)
    for part in division.parts:
        part.model.check()
        assert (part.model.depth, part.model.link) == (model.depth, Link.IDENTITY)
        assert sum(np.size(each.weights) for each in part.model.layers) < weights
        assert not np.any(part.model.layers[-1].bias)


@pytest.mark.long
@pytest.mark.parametrize("sizes", [(3, 4), (4, 1), (2, 4, 2)], ids=["outputs", "inputs", "hidden units"])
async def test_a_sample_of_strangers_with_parts_and_a_liar(
    sizes: tuple[int, ...],
) -> None:
    model = random_model(sizes, Link.IDENTITY, 5)
    rng, rows = SystemRng(), np.random.default_rng(2).normal(size=(4, sizes[0]))
    keys = [NodeKey.generate(rng) for _ in range(4)]
    division = divided(model, 4, lambda part: str(hash(part.layers)))
    seen: list[set[int]] = [set() for _ in keys]
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(Transport.open(key, "127.0.0.1", 0)) for key in keys]
        client = await stack.enter_async_context(Transport.open(NodeKey.generate(rng), "127.0.0.1", 0))
        served: list[dict[str, EncryptedModel]] = [{} for _ in keys]
        for node, key, models in zip(nodes, keys, served, strict=True):
            serve(node.handle, key, models)

        async def give(stranger: int, part: int) -> None:
            assert part not in seen[stranger]
            seen[stranger].add(part)
            given = division.parts[part].model
            if stranger == 2:
                last = given.layers[-1]
                given = EncryptedModel(
                    (*given.layers[:-1], layer(np.asarray(last.weights) + 1e-5, np.asarray(last.bias))), given.link
                )
            served[stranger][division.parts[part].name] = given

        endpoints = [node.endpoint for node in nodes]
        result = await outsource(client, endpoints, division, rows, SeededRng(b"draw"), give=give)
    np.testing.assert_allclose(result.answers, model.in_the_clear(rows), atol=2e-3)
    assert {wrong.node for wrong in result.evidence} == {keys[2].node_id}
    assert all(0 < len(parts) < len(division.parts) for parts in seen)
    assert (result.silent, result.earned[2]) == ((), 0)


# ------------------------------------------------------------------------------------------------------- products


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32), st.booleans())
def test_a_product_is_recognised_and_one_wrong_number_is_found(
    rows: int, inner: int, columns: int, seed: int, huge: bool
) -> None:
    random = np.random.default_rng(seed)
    top = 2**27 if huge else 1000
    left, right = random.integers(-top, top, (rows, inner)), random.integers(-top, top, (inner, columns))
    claimed = left @ right
    assert is_product(left, right, claimed, SystemRng())
    row, column = random.integers(0, rows), random.integers(0, columns)
    for error in (1, -7, PRIMES[0], PRIMES[1], -PRIMES[0] * 5):
        wrong = claimed.copy()
        wrong[row, column] += error
        assert not is_product(left, right, wrong, SystemRng())


@pytest.mark.parametrize(
    ("left", "right", "claimed"),
    [
        (np.ones((2, 2)), np.ones((2, 2), np.int64), np.ones((2, 2), np.int64)),
        (np.ones(2, np.int64), np.ones((2, 2), np.int64), np.ones((2, 2), np.int64)),
        (np.ones((2, 3), np.int64), np.ones((2, 2), np.int64), np.ones((2, 2), np.int64)),
        (np.ones((2, 2), np.int64), np.ones((2, 2), np.int64), np.ones((2, 3), np.int64)),
        (np.full((2, 2), 2**30), np.full((2, 2), 2**30), np.ones((2, 2), np.int64)),
        (np.full((2, 2), -(2**63)), np.ones((2, 2), np.int64), np.ones((2, 2), np.int64)),
    ],
)
def test_what_cannot_be_checked_is_refused(left: np.ndarray, right: np.ndarray, claimed: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        is_product(left, right, claimed, SystemRng())


def test_a_claim_larger_than_any_product_is_wrong() -> None:
    one = np.ones((1, 1), np.int64)
    assert not is_product(one, one, one + PRIMES[0] * PRIMES[1], SystemRng())
