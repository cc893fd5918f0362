"""Answers on encrypted rows: right, over the network, and unharmed by whatever a caller or a node sends."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, MalformedMessage, Refused, Unavailable
from koinon.net.transport import Transport
from koinon.privacy.encrypted import ckks, service
from koinon.privacy.encrypted.models import EncryptedModel, Link, layer, linked, standardised
from koinon.privacy.encrypted.service import EncryptedPredictor, serve
from koinon.privacy.encrypted.worker import LIMITS, answer
from koinon.wire.catalogue import Message
from koinon.wire.discovery import Endpoint
from koinon.wire.encrypted import EncryptedAnswer, EncryptedOffer, EncryptedQuestion

SMALL = EncryptedModel((layer(np.array([[0.5, -2.0, 0.0]]), np.array([0.25])),), Link.IDENTITY)
ROWS = np.array([[1.0, 2.0, 3.0], [-4.0, 0.5, 100.0]])


@pytest.fixture(scope="module")
def keys() -> ckks.Keys:
    return ckks.generate(1)


@pytest.fixture(scope="module")
def question(keys: ckks.Keys) -> EncryptedQuestion:
    return EncryptedQuestion("small", keys.public, tuple(keys.encrypt(ROWS)))


def test_a_logistic_regression_answers_as_in_the_clear() -> None:
    rows, target = load_breast_cancer(return_X_y=True)
    scaler = StandardScaler().fit(rows)
    fitted = LogisticRegression().fit(scaler.transform(rows), target)
    inner = EncryptedModel((layer(fitted.coef_, fitted.intercept_),), Link.SIGMOID)
    model = standardised(inner, scaler.mean_, scaler.scale_)
    keys = ckks.generate(model.depth)
    outputs = ckks.evaluate(model, keys.public, tuple(keys.encrypt(rows)))
    answers = linked(keys.decrypt(list(outputs), len(rows), 4), model.link)
    np.testing.assert_allclose(answers[:, 0], fitted.predict_proba(scaler.transform(rows))[:, 1], atol=2e-4)


def test_a_network_with_squares_between_its_layers_answers_as_in_the_clear() -> None:
    rows, target = load_breast_cancer(return_X_y=True)
    rows = StandardScaler().fit_transform(rows)[:, :6]
    fitted = MLPClassifier((4,), activation="identity", random_state=1, max_iter=50, tol=1.0).fit(rows, target)
    first, last = zip(fitted.coefs_, fitted.intercepts_, strict=True)
    model = EncryptedModel((layer(first[0].T, first[1], square=True), layer(last[0].T, last[1])), Link.SIGMOID)
    assert model.depth == 3
    keys = ckks.generate(model.depth)
    outputs = ckks.evaluate(model, keys.public, tuple(keys.encrypt(rows[:50])))
    answers = linked(keys.decrypt(list(outputs), 50, 4), model.link)
    np.testing.assert_allclose(answers, model.in_the_clear(rows[:50]), atol=1e-3)


async def test_two_nodes_and_rows_that_one_of_them_never_sees() -> None:
    rng = SystemRng()
    key = NodeKey.generate(rng)
    async with (
        Transport.open(key, "127.0.0.1", 0) as node,
        Transport.open(NodeKey.generate(rng), "127.0.0.1", 0) as caller,
    ):
        serve(node.handle, key, {"small": SMALL})
        predictor = await EncryptedPredictor.find(caller, node.endpoint, "small")
        np.testing.assert_allclose(await predictor.predict(ROWS), SMALL.in_the_clear(ROWS), atol=1e-3)
        many = np.random.default_rng(1).normal(size=(ckks.rows_for(1) + 3, 3))
        np.testing.assert_allclose(await predictor.predict(many), SMALL.in_the_clear(many), atol=1e-3)
        with pytest.raises(Refused, match="no encrypted questions to 'other'"):
            await EncryptedPredictor.find(caller, node.endpoint, "other")
        with pytest.raises(InvalidInput, match="takes rows of 3 numbers"):
            await predictor.predict(ROWS[:, :2])


def test_what_is_sent_holds_no_secret_key_and_never_the_same_bytes_twice(keys: ckks.Keys) -> None:
    assert not ckks.library().context_from(keys.public).has_secret_key()
    assert keys.encrypt(ROWS)[0] != keys.encrypt(ROWS)[0]


def test_another_callers_keys_open_nothing(question: EncryptedQuestion) -> None:
    """Decrypting under other keys gives numbers that have nothing to do with the rows."""
    outputs = ckks.evaluate(SMALL, question.public, question.columns)
    foreign = ckks.generate(1).decrypt(list(outputs), len(ROWS), 4)
    assert np.abs(foreign - SMALL.in_the_clear(ROWS)).min() > 1.0


def test_the_digits_that_would_betray_the_key_are_dropped(keys: ckks.Keys, question: EncryptedQuestion) -> None:
    outputs = ckks.evaluate(SMALL, question.public, question.columns)
    decrypted = keys.decrypt(list(outputs), len(ROWS), 4)
    np.testing.assert_array_equal(decrypted, np.round(SMALL.in_the_clear(ROWS), 4))


# ------------------------------------------------------------------------------------------------------- bad input

MODELS: dict[str, tuple[EncryptedModel, str]] = {
    "no layers": (EncryptedModel((), Link.IDENTITY), "1 to 3 layers"),
    "no units": (EncryptedModel((layer(np.ones((1, 2)), np.ones(2)),), Link.IDENTITY), "a row of weights for each"),
    "layers that do not fit": (
        EncryptedModel((layer(np.ones((2, 2)), np.ones(2)), layer(np.ones((1, 3)), np.ones(1))), Link.IDENTITY),
        "not what comes before",
    ),
    "a weight that is no number": (EncryptedModel((layer(np.array([[np.nan]]), np.ones(1)),), Link.IDENTITY), "finite"),
    "a huge weight": (EncryptedModel((layer(np.array([[1e9]]), np.ones(1)),), Link.IDENTITY), "above 1048576"),
    "too many products": (
        EncryptedModel((layer(np.ones((1024, 1024)), np.ones(1024)),), Link.IDENTITY),
        "1048576 products",
    ),
    "a square at the end": (EncryptedModel((layer(np.ones((1, 1)), np.ones(1), square=True),), Link.IDENTITY), "last"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_cannot_be_evaluated_is_refused(name: str) -> None:
    model, reason = MODELS[name]
    with pytest.raises(InvalidInput, match=reason):
        model.check()


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (np.ones(3), "array of shape"),
        (np.ones((0, 3)), "encrypt 1 to 4096 rows"),
        (np.ones((4097, 1)), "encrypt 1 to 4096 rows"),
        (np.array([[1.0, np.nan]]), "finite"),
        (np.array([[1e9]]), "up to 262144"),
    ],
)
def test_rows_that_cannot_be_encrypted_are_refused(rows: np.ndarray, reason: str, keys: ckks.Keys) -> None:
    with pytest.raises(InvalidInput, match=reason):
        keys.encrypt(rows)


def private(keys: ckks.Keys) -> bytes:
    return bytes(keys.context.serialize(save_public_key=True, save_secret_key=True, save_galois_keys=False))


QUESTIONS: dict[str, tuple[Callable[[EncryptedQuestion, ckks.Keys], dict[str, Any]], type[KoinonError]]] = {
    "no keys": (lambda _q, _k: {"public": b""}, MalformedMessage),
    "garbage for keys": (lambda _q, _k: {"public": b"\x0a" * 5000}, MalformedMessage),
    "half the keys": (lambda q, _k: {"public": q.public[: len(q.public) // 2]}, MalformedMessage),
    "keys without end": (lambda _q, _k: {"public": bytes(17 << 20)}, MalformedMessage),
    "a ciphertext as keys": (lambda q, _k: {"public": q.columns[0]}, MalformedMessage),
    "the secret key": (lambda _q, k: {"public": private(k)}, MalformedMessage),
    "keys for another depth": (lambda _q, _k: {"public": ckks.generate(3).public}, MalformedMessage),
    "too few columns": (lambda q, _k: {"columns": q.columns[:2]}, InvalidInput),
    "a column that is none": (lambda q, _k: {"columns": (b"\x00" * 100, *q.columns[1:])}, MalformedMessage),
    "half a column": (lambda q, _k: {"columns": (q.columns[0][:-100_000], *q.columns[1:])}, MalformedMessage),
    "a column without end": (lambda q, _k: {"columns": (bytes(5 << 20), *q.columns[1:])}, MalformedMessage),
    "columns of two lengths": (
        lambda q, k: {"columns": (*q.columns[:2], *k.encrypt(np.ones((7, 1))))},
        MalformedMessage,
    ),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_hostile_question_is_refused(name: str, question: EncryptedQuestion, keys: ckks.Keys) -> None:
    change, kind = QUESTIONS[name]
    hostile = msgspec.structs.replace(question, **change(question, keys))
    with pytest.raises(kind):
        ckks.evaluate(SMALL, hostile.public, hostile.columns)


async def test_a_refusal_comes_out_of_the_child_with_its_reason(question: EncryptedQuestion) -> None:
    with pytest.raises(MalformedMessage, match="the keys are not what TenSEAL writes"):
        await answer(SMALL, msgspec.structs.replace(question, public=b"\x0a" * 5000))


async def test_a_child_that_wants_too_much_dies_alone(question: EncryptedQuestion) -> None:
    starved = msgspec.structs.replace(LIMITS, memory_bytes=100 * 1024**2)
    with pytest.raises(Unavailable):
        await answer(SMALL, question, starved)
    assert len(await answer(SMALL, question)) == 1


@pytest.mark.parametrize("changes", [{"features": 0}, {"outputs": 10**9}, {"depth": 99}, {"link": "eval"}])
async def test_a_node_that_describes_nonsense_is_not_asked(changes: dict[str, Any]) -> None:
    class Nonsense:
        async def call(self, *_: Any) -> EncryptedOffer:
            return msgspec.structs.replace(EncryptedOffer(3, 1, 1, "identity"), **changes)

    with pytest.raises(MalformedMessage, match="none can be"):
        await EncryptedPredictor.find(Nonsense(), None, "small")  # type: ignore[arg-type]


async def test_an_answer_that_is_none_is_refused(keys: ckks.Keys) -> None:
    node = NodeKey.from_seed(bytes(32))
    endpoint = Endpoint(node_id=node.node_id, host="127.0.0.1", port=1)
    offer = EncryptedOffer(3, 1, 1, "identity")
    deeper = tuple(ckks.generate(3).encrypt(ROWS)[:1])
    for columns, signer, kind in (
        ((), node, MalformedMessage),
        ((b"garbage",), node, MalformedMessage),
        (deeper, node, MalformedMessage),
        ((b"garbage",), NodeKey.from_seed(b"\x01" * 32), Forged),
    ):
        caller = Answers(columns, signer)
        predictor = EncryptedPredictor(caller, endpoint, "small", offer, Link.IDENTITY, keys)
        with pytest.raises(kind):
            await predictor.predict(ROWS)


class Answers:
    """A node that says the same to whatever it is asked, and signs it."""

    def __init__(self, columns: tuple[bytes, ...], key: NodeKey) -> None:
        self.columns, self.key = columns, key

    async def call(self, _endpoint: Endpoint, message: Message, _timeout: float = 0.0, /) -> EncryptedAnswer:
        assert isinstance(message, EncryptedQuestion)
        statement = service._statement(message, self.columns)
        return EncryptedAnswer(self.columns, self.key.sign(service._DOMAIN, statement))
