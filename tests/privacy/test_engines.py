"""One study on every engine that a study may name, beside the reference: the same model within a stated tolerance."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from privacy_scenes import cancer_columns
from test_privacy_programs import cancer, pooled_scores, scores

from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import reveal, run, table
from koinon.privacy.differential.accountant import spent_epsilon
from koinon.privacy.differential.logistic import STUDY_DELTA
from koinon.privacy.encrypted.local import LocalEncrypted
from koinon.privacy.engines import ENGINES, Network, engine_named
from koinon.privacy.federated import studies
from koinon.privacy.federated.local import LocalFederated
from koinon.privacy.programs import naive_bayes, registry
from koinon.privacy.programs.logistic_regression import NAME, Settings, to_raw_units
from koinon.privacy.programs.offer import Layout, Parameters
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.simulation import SimulatedRep4

BACKENDS: dict[str, Callable[[], Backend]] = {
    "clear": ClearBackend,
    "rep4": SimulatedRep4,
    "federated": LocalFederated,
    "he": LocalEncrypted,
}
BY_BAYES = ("clear", "rep4", "he")
TOLERANCE = 0.01
"""Mean difference of the predicted probabilities on rows that nobody trained on; shares know a coarse sigmoid."""


def of(parts: list[np.ndarray], **changes: Any) -> Parameters:
    columns = cancer_columns(np.concatenate(parts)[:, :-1])
    layout = Layout(tuple(len(part) for part in parts), columns, columns[-1].name)
    given = Parameters(layout, encode(Settings()), ("coefficients", "intercept"))
    return msgspec.structs.replace(given, **changes)


@pytest.fixture(scope="module")
def chances() -> Callable[[str], np.ndarray]:
    """Probabilities of the held-out rows by the model of an engine, computed once."""
    parts, held_out = cancer(1)
    given, found = of(parts), dict[str, np.ndarray]()

    def chance(engine: str) -> np.ndarray:
        if engine not in found:
            inputs = [PlainInput(given.layout.columns, part) for part in parts]
            program = registry.load(NAME, encode(given))
            outputs = BACKENDS[engine]().run(program, inputs, SeededRng(b"engines")).outputs
            slopes, bias = to_raw_units(outputs["coefficients"], outputs["intercept"][0], given.layout.columns[:-1])
            found[engine] = 1 / (1 + np.exp(-(held_out[:, :-1] @ slopes + bias)))
        return found[engine]

    return chance


@pytest.mark.parametrize("engine", ["rep4", "federated"])
def test_every_engine_comes_to_the_model_of_the_reference(engine: str, chances: Callable[[str], np.ndarray]) -> None:
    assert np.abs(chances(engine) - chances("clear")).mean() < TOLERANCE


@pytest.mark.parametrize("engine", ["clear", "federated"])
def test_every_engine_predicts_as_the_model_of_the_pooled_rows(
    engine: str, chances: Callable[[str], np.ndarray]
) -> None:
    parts, held_out = cancer(1)
    area, loss = scores(held_out, chances(engine))
    want_area, want_loss = pooled_scores(parts, held_out)
    assert abs(area - want_area) < 0.002
    assert abs(loss - want_loss) < 0.01


def test_each_engine_that_a_study_may_name_has_a_backend_an_offer_and_a_hash_of_its_own() -> None:
    named = [one.name for one in ENGINES if one.worker]
    assert tuple(named) == registry.engines()
    assert set(named) == set(BACKENDS) - {"clear"}
    assert len({registry.algorithm_hash(NAME, name) for name in named}) == len(named)
    for name in named:
        backend = BACKENDS[name]()
        assert (backend.name, backend.adversary) == (name, engine_named(name).adversary)


@pytest.mark.parametrize("name", ["", "clear", "spu", "Rep4", "x" * 500])
def test_an_engine_that_no_study_may_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="no engine is called"):
        engine_named(name)
    with pytest.raises(InvalidInput, match="there is no engine"):
        registry.algorithm_hash(NAME, name)


@pytest.mark.parametrize("engine", BY_BAYES[1:])
def test_every_engine_comes_to_the_same_classes(engine: str) -> None:
    parts, _ = cancer(1)
    given = of(parts, settings=b"", outputs=("priors", "means", "variances"))
    program = registry.load(naive_bayes.NAME, encode(given))
    inputs = [PlainInput(given.layout.columns, part) for part in parts]
    found, wanted = (BACKENDS[name]().run(program, inputs, SeededRng(b"classes")).outputs for name in (engine, "clear"))
    for name in given.outputs:
        assert np.abs(found[name] - wanted[name]).max() < 1e-3, name


@pytest.mark.parametrize("engine", ["rep4", "federated"])
def test_an_offer_grows_with_distance_and_with_columns(engine: str) -> None:
    parts, _ = cancer(1)
    given, offer = of(parts), engine_named(engine)
    narrow = msgspec.structs.replace(
        given, layout=msgspec.structs.replace(given.layout, columns=given.layout.columns[-4:])
    )

    def cost(parameters: Parameters, network: Network) -> Any:
        return offer.cost(registry.load(NAME, encode(parameters)), parameters, network)

    assert offer.refusal(NAME, given) == ""
    near, far, slow = (cost(given, Network(*one)) for one in ((1e-4, 1e9), (0.05, 1e9), (1e-4, 1e6)))
    assert near.seconds < far.seconds
    assert near.seconds < slow.seconds
    assert near.traffic_bytes == far.traffic_bytes > cost(narrow, Network()).traffic_bytes > 0
    assert near.rounds > 0


REFUSED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "another program": ("federated", "k-nearest-neighbours/1", {}, "where their rows lie"),
    "groups that one person moves": ("federated", "k-means/1", {}, "as little as one person"),
    "half a model": ("federated", NAME, {"outputs": ("coefficients",)}, "only these"),
    "worth": ("federated", NAME, {"outputs": ("coefficients", "intercept", "worth")}, "only these"),
    "noise that hides little": ("federated", NAME, {"epsilon": 17.0}, "at most 16"),
    "clear": ("clear", NAME, {}, "reference for tests"),
    "a program that is no sum": ("he", "decision-tree/1", {}, "not follow from sums"),
    "a program of several rounds": ("he", NAME, {}, "in several rounds"),
    "half of the sums": ("he", naive_bayes.NAME, {"outputs": ("means",), "settings": b""}, "open all of them"),
    "noise on ciphertexts": (
        "he",
        naive_bayes.NAME,
        {"outputs": ("priors", "means", "variances"), "settings": b"", "epsilon": 1.0},
        "noise that nobody knows",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_engine_says_why_it_does_not_run_a_study(case: str) -> None:
    engine, name, changes, sentence = REFUSED[case]
    offer = next(one for one in ENGINES if one.name == engine)
    assert sentence in offer.refusal(name, of(cancer(1)[0], **changes))


def test_columns_split_by_owner_stay_on_shares() -> None:
    given = of(cancer(1)[0])
    layout = msgspec.structs.replace(given.layout, rows=(90, 90), sources=((0, 1), tuple(range(2, 31))))
    assert "all columns" in engine_named("federated").refusal(NAME, msgspec.structs.replace(given, layout=layout))


@pytest.mark.parametrize("engine", ["federated", "he"])
def test_a_function_is_left_to_shares(engine: str) -> None:
    with pytest.raises(Refused, match="that a study can name"):
        run(lambda rows: reveal(mean=rows.mean(0)), [table(np.ones((4, 2)))], BACKENDS[engine]())


def test_a_training_with_noise_is_as_private_as_the_ledger_is_told() -> None:
    """One owner replaced moves the sum by two clipped updates, so half of the noise's multiplier is charged."""
    parts, _ = cancer(1)
    found = {}
    for epsilon in (1.0, 8.0):
        plan = studies.plan_of(NAME, of(parts, epsilon=epsilon))
        charged = studies.mechanism(NAME, b"", epsilon)
        assert plan.noise is not None
        assert plan.noise.multiplier == 2 * charged.multiplier
        assert plan.rounds == charged.count
        assert plan.noise.colluders == plan.threshold - 1
        assert spent_epsilon([charged], STUDY_DELTA / 2) <= epsilon * 1.01
        program = registry.load(NAME, encode(of(parts, epsilon=epsilon)))
        inputs = [PlainInput(program.columns, part) for part in parts]
        found[epsilon] = [
            LocalFederated().run(program, inputs, SeededRng(seed)).outputs["coefficients"] for seed in (b"a", b"b")
        ]
    apart = {epsilon: np.abs(one - other).mean() for epsilon, (one, other) in found.items()}
    assert apart[1.0] > apart[8.0] > 0.1
