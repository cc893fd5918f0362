"""What an estimate says of traffic and rounds, beside what the engines really send."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from test_engines_sums import COLUMNS, given, people

from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import encode
from koinon.privacy.encrypted import ckks
from koinon.privacy.encrypted import studies as encrypted
from koinon.privacy.engines import Network, engine_named
from koinon.privacy.federated import aggregator, lockstep, training, witness
from koinon.privacy.federated import studies as federated
from koinon.privacy.federated.approvals import ENOUGH_APPROVALS, Voucher, approve
from koinon.privacy.federated.worker import parameters_to
from koinon.privacy.programs import registry
from koinon.privacy.programs.offer import Layout, Parameters
from koinon.privacy.rep4 import lockstep as lockstep_of_four
from koinon.privacy.rep4 import simulation
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.party import Party
from koinon.privacy.sharing import Dealing, deal
from koinon.wire.catalogue import Message, to_frame
from koinon.wire.federated import RoundTerms, TrainingOver, TrainingRound

WITNESSES = 3
CLOSE = 1.05
"""Everything is counted; how long a signature's or a length's encoding is differs by little."""


def study(name: str, owners: int, outputs: tuple[str, ...] = (), target: str = "", **settings: Any) -> Parameters:
    found = given(name, outputs, target, **settings)
    return Parameters(Layout((80,) * owners, COLUMNS, target), found.settings, found.outputs)


def sent(parameters: Parameters, name: str, parts: Sequence[np.ndarray]) -> tuple[int, int]:
    """Bytes over all links and stages of all rounds of a federated run, counted frame by frame."""
    plan, rng = federated.plan_of(name, parameters), SeededRng(b"costs")
    rows = [federated.rows_of(plan, part, parameters.layout) for part in parts]
    count, stages = 0, 0
    voucher = Voucher(1, NodeKey.from_seed(bytes(32)), bytes(64))

    def gather(terms: RoundTerms, words: dict[int, np.ndarray]) -> tuple[tuple[int, ...], np.ndarray]:
        nonlocal count, stages
        approval = approve(terms, voucher)
        approvals = (approval,) * ENOUGH_APPROVALS if terms.round else ()
        if terms.round:
            count += WITNESSES * len(to_frame(approval))
            stages += 1
        events: list[aggregator.AggregatorEvent] = []

        def heard(message: Message) -> None:
            nonlocal count
            count += len(to_frame(message))

        found = lockstep.gather(terms, words, rng, heard=heard, watch=events.append)
        count += len(parts) * len(to_frame(TrainingRound(terms, bytes(8 * federated.model_size(plan)), approvals)))
        # Links tell the aggregator that all have answered: the end of a stage is an event only where time ends it.
        told = [event for event in events if not isinstance(event, aggregator.StageOver)]
        count += WITNESSES * len(to_frame(witness.written(0, told, is_last=False)))
        stages += sum(isinstance(event, aggregator.StageOver) for event in events)
        return found

    state = training.train(plan, rows, rng, gather)
    over = TrainingOver(state.finished, parameters_to(training.result(state, plan)))
    return count + len(parts) * len(to_frame(over)), stages


FEDERATED = {
    "statistics of two": ("statistics/1", study("statistics/1", 2, ("mean", "variance"))),
    "statistics of five": ("statistics/1", study("statistics/1", 5, ("mean", "variance", "correlation"))),
    "components of eight": ("principal-components/1", study("principal-components/1", 8)),
}


@pytest.mark.parametrize("case", FEDERATED)
def test_the_estimate_of_sums_is_what_is_sent(case: str) -> None:
    name, parameters = FEDERATED[case]
    owners = len(parameters.layout.rows)
    program = registry.load(name, encode(parameters))
    cost = engine_named("federated").cost(program, parameters, Network())
    count, stages = sent(parameters, name, np.split(people(80 * owners), owners))
    assert stages == cost.rounds
    assert count / CLOSE < cost.traffic_bytes < count * CLOSE


def test_the_estimate_of_rounds_until_nothing_moves_is_within_a_factor_of_three() -> None:
    name = "poisson-regression/1"
    parameters = study(name, 3, ("coefficients", "intercept"), "site", penalty=0.1)
    cost = engine_named("federated").cost(registry.load(name, encode(parameters)), parameters, Network())
    count, stages = sent(parameters, name, np.split(people(240), 3))
    assert stages / 3 < cost.rounds < stages * 3
    assert count / 3 < cost.traffic_bytes < count * 3


@pytest.mark.parametrize("owners", [2, 6])
def test_the_estimate_of_ciphertexts_is_what_is_handed_over(owners: int) -> None:
    """Keys to owners, a ciphertext from each to four members, and three components of its length from each of these."""
    name, parameters = "statistics/1", study("statistics/1", owners, ("mean", "variance"))
    program = encrypted.check(name, parameters)
    keys = ckks.generate(encrypted.DEPTH)
    parts = np.split(people(80 * owners), owners)
    sealed = [
        ckks.encrypt_numbers(keys.public, encrypted.sums_of(part, parameters.layout, program), encrypted.DEPTH)
        for part in parts
    ]
    words = encrypted.as_words(ckks.added(sealed, encrypted.DEPTH))
    count = owners * len(keys.public) + 4 * sum(map(len, sealed)) + 4 * 3 * 8 * words.size
    cost = engine_named("he").cost(registry.load(name, encode(parameters)), parameters, Network())
    assert count / CLOSE < cost.traffic_bytes < count * CLOSE


REP4 = {
    "means": ("statistics/1", study("statistics/1", 2, ("mean",))),
    "correlations": ("statistics/1", study("statistics/1", 3, ("mean", "variance", "correlation"))),
    "comparison": ("comparison/1", study("comparison/1", 2, (), "ill")),
}


@pytest.mark.parametrize("case", REP4)
def test_the_estimate_of_shares_is_what_is_dealt_sent_and_opened(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, parameters = REP4[case]
    owners, rng = len(parameters.layout.rows), SeededRng(b"shares")
    program = registry.load(name, encode(parameters))
    dealing = Dealing(rng.bytes(32), 0, rng.bytes(32))
    dealt = [
        deal(part, COLUMNS, program.fraction_bits, dealing, NodeKey.generate(rng), rng)
        for part in np.split(people(80 * owners), owners)
    ]
    among: list[int] = []
    send = Party.send_frames

    def counted(party: Party) -> dict[int, bytes]:
        frames = send(party)
        among.append(sum(map(len, frames.values())))
        return frames

    monkeypatch.setattr(Party, "send_frames", counted)
    outcomes = lockstep_of_four.finished(simulation.simulate(program, dealt, rng))
    handed = sum(len(encode(package)) for _, packages in dealt for package in packages)
    opened = sum(len(encode(outcome.package)) for outcome in outcomes)
    cost = engine_named("rep4").cost(program, parameters, Network())
    assert len(among) == 4 * cost.rounds
    count = sum(among) + handed + opened
    assert count / CLOSE < cost.traffic_bytes < count * CLOSE
