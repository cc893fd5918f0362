"""The whole suite on one model and one evaluator's rows: data, performance, ordinary trouble, attacks, fairness,
privacy, load.

Every random choice follows from the task's seed, one stream per stage, so that leaving a stage out changes no other.
Only the load criteria depend on the machine. Budgets are counted in queries, never in seconds: a deadline that passes
means no result, not a cheaper one.
"""

import asyncio
import platform
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

import koinon
from koinon.crypto.hash import tagged_hash
from koinon.data.table import Table
from koinon.kernel.codec import Record
from koinon.kernel.errors import Expired, InvalidInput
from koinon.kernel.ids import Hash32
from koinon.models.card import ModelCard, card_hash, check_card
from koinon.trust import data, fairness, load, metrics, privacy
from koinon.trust.attacks import canary
from koinon.trust.attacks.hop_skip_jump import hop_skip_jump
from koinon.trust.attacks.square import square
from koinon.trust.evidence import (
    EvaluationSettings,
    Evidence,
    Finding,
    check_settings,
    evidence_hash,
    finding_hash,
)
from koinon.trust.metrics import FloatArray, Interval
from koinon.trust.perturbations import PERTURBATIONS
from koinon.trust.queries import Box, Predict, ask, probabilities
from koinon.trust.vector import KINDS, Criterion, TrustVector, millionths

TASK: Final = "binary-classification"
_MILLION: Final = 1_000_000
_MEASURED_WITH: Final = ("numpy", "onnxruntime")


class Progress(Record, frozen=True):
    """How far an evaluation has come: ``done`` of ``stages`` are finished and ``stage`` begins."""

    stage: str
    done: int
    stages: int


Report: TypeAlias = Callable[[Progress], Awaitable[None]]
"""Told of every stage as it begins."""


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be evaluated.

    Attributes:
        card: of the model; its features must be the columns of the rows.
        weights_hash: SHA-256 of the ONNX bytes that answer.
        table: the evaluator's rows.
        rows_root: dataset hash of the table, as the evaluator committed to it.
        settings: of the suite.
        seed: 32 bytes.
        members: rows known to have been in the training data, where the evaluator has any; None leaves
            membership inference out.
    """

    card: ModelCard
    weights_hash: Hash32
    table: Table
    rows_root: Hash32
    settings: EvaluationSettings
    seed: bytes
    members: Table | None = None


@dataclass(frozen=True)
class Evaluation:
    """The outcome: what goes on the chain, and what shows how it came about."""

    vector: TrustVector
    evidence: Evidence


def check_task(task: Task) -> None:
    """Refuse a task that cannot be carried out as a whole. Raises InvalidInput."""
    check_card(task.card)
    check_settings(task.settings)
    if task.card.task != TASK:
        raise InvalidInput(f"the suite evaluates {TASK}; the card says {task.card.task[:60]!r}")
    if len(task.seed) != 32 or len(task.weights_hash) != 32 or len(task.rows_root) != 32:
        raise InvalidInput("seed, weights hash and dataset hash have 32 bytes each")
    for table, whose in ((task.table, "evaluator's rows"), (task.members, "member rows")):
        if table is not None and table.schema != task.card.schema:
            raise InvalidInput(f"the {whose} have other columns or ranges than the model card declares")
    task.card.schema.index(task.settings.fairness_column)
    if not 0 < task.table.target.sum() < task.table.rows:
        raise InvalidInput("the evaluator's rows must hold both answers")


async def evaluate(predict: Predict, task: Task, report: Report | None = None) -> Evaluation:
    """Run the suite.

    Args:
        predict: the model, best in a sandbox of its own; called with at most a few ten thousand rows at once.
        task: what to evaluate.
        report: told of every stage; may be awaited on.

    Raises:
        InvalidInput: the task cannot be carried out, or the model answers with something unusable.
        Refused: an attack failed on the canary, so that the evaluation proves nothing.
        Expired: the deadline of the settings passed.
        Whatever ``predict`` raises.
    """
    check_task(task)
    bench = _Bench(task, predict)
    try:
        async with asyncio.timeout(task.settings.deadline_milliseconds / 1000):
            for done, (name, stage) in enumerate(_STAGES):
                if report is not None:
                    await report(Progress(name, done, len(_STAGES)))
                await stage(bench)
    except TimeoutError:
        seconds = task.settings.deadline_milliseconds / 1000
        raise Expired(
            f"the evaluation did not end within {seconds:g} seconds; lower its budgets or extend it"
        ) from None
    return bench.conclude()


class _Bench:
    """The state of one evaluation: rows, answers so far, findings so far."""

    def __init__(self, task: Task, predict: Predict) -> None:
        self.task = task
        self.settings = task.settings
        self.box = Box.of(task.card.features)
        self.threshold = task.card.threshold_ppm / _MILLION
        self.target = task.table.target
        self.features = task.table.features
        self.scores: FloatArray = np.empty(0)
        self.findings: dict[str, Finding] = {}
        self.absent: dict[str, str] = {}
        self.asked = 0
        self.distances: FloatArray | None = None
        self.attacked: NDArray[np.intp] = np.empty(0, np.intp)
        self.right: NDArray[np.bool_] = np.empty(0, bool)
        self.unbroken: NDArray[np.bool_] = np.empty(0, bool)
        self._predict = predict

    async def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        self.asked += len(rows)
        return await self._predict(rows)

    def rng(self, stage: str) -> np.random.Generator:
        """The stage's own random stream."""
        digest = tagged_hash("koinon/trust/random/1", self.task.seed, stage.encode())
        return np.random.default_rng(int.from_bytes(digest, "big"))

    def find(self, name: str, interval: Interval, method: str, **numbers: "tuple[int, ...]") -> None:
        """Record a criterion; ``asked`` since the last record are its queries."""
        self.findings[name] = Finding(
            name,
            method,
            self.asked,
            millionths(interval.value),
            millionths(interval.low),
            millionths(interval.high),
            tuple(sorted(numbers.items())),
        )

    def conclude(self) -> Evaluation:
        findings = tuple(self.findings[name] for name in KINDS if name in self.findings)
        evidence = Evidence(
            self.task.weights_hash,
            card_hash(self.task.card),
            self.task.rows_root,
            self.task.table.rows,
            self.task.seed,
            self.settings,
            findings,
            tuple((name, self.absent[name]) for name in KINDS if name in self.absent),
            (("koinon", koinon.__version__), *((package, version(package)) for package in _MEASURED_WITH)),
            platform.machine(),
        )
        criteria = tuple(Criterion(f.criterion, f.value, f.low, f.high, bytes(finding_hash(f))) for f in findings)
        return Evaluation(TrustVector(self.task.weights_hash, evidence_hash(evidence), criteria), evidence)


async def _examine_data(bench: _Bench) -> None:
    found = data.examine(bench.features, bench.target, bench.box.low, bench.box.high)
    for name, value in (
        ("data_duplicates", found.duplicates),
        ("data_missing", found.missing),
        ("data_constant", found.constant),
        ("data_outside", found.outside),
        ("data_minority", found.minority),
    ):
        bench.find(name, Interval(value, value, value), "counted over the evaluator's rows")


async def _measure_performance(bench: _Bench) -> None:
    bench.asked = 0
    bench.scores = await probabilities(bench.predict, bench.features)
    found = metrics.performance(
        bench.target, bench.scores, bench.threshold, bench.settings.resamples, bench.rng("performance")
    )
    method = f"percentile bootstrap within classes, {bench.settings.resamples} resamples"
    for name, interval in found.items():
        bench.find(name, interval, method)


async def _disturb(bench: _Bench) -> None:
    strengths = {
        "auc_noise": bench.settings.noise_ppm,
        "auc_missing": bench.settings.missing_ppm,
        "auc_swap": bench.settings.swap_ppm,
    }
    strata = bench.target.astype(np.intp)
    for name, perturb in PERTURBATIONS.items():
        rng = bench.rng(name)
        bench.asked = 0
        disturbed = perturb(bench.features, bench.box, strengths[name] / _MILLION, rng)
        scores = await probabilities(bench.predict, disturbed)

        def auc(weights: FloatArray, scores: FloatArray = scores) -> FloatArray:
            return metrics.auc(bench.target, scores, weights)

        interval = metrics.bootstrap(strata, auc, bench.settings.resamples, rng)
        bench.find(name, interval, f"one draw per row at {strengths[name]} ppm, then bootstrapped AUC")


async def _attack_with_square(bench: _Bench) -> None:
    settings, rng = bench.settings, bench.rng("square")
    epsilon = settings.epsilon_ppm / _MILLION
    bench.attacked = _draw_by_class(bench.target, settings.attack_rows, bench.rng("attacked rows"))
    bench.right = (bench.scores >= bench.threshold)[bench.attacked] == (bench.target[bench.attacked] == 1)
    broken_canaries = canary.check_square(bench.box, epsilon, settings.square_queries, bench.rng("square canary"))
    bench.asked = 0
    rows = bench.features[bench.attacked]
    found = await ask(square(rows, bench.box, bench.threshold, epsilon, settings.square_queries, rng), bench.predict)
    bench.unbroken = bench.right & ~found.broken
    bench.find(
        "robustness_square",
        metrics.proportion(int(bench.unbroken.sum()), len(rows)),
        f"Square, epsilon {settings.epsilon_ppm} ppm, {settings.square_queries} queries per row, Wilson interval",
        right_at_first=(int(bench.right.sum()),),
        rows=(len(rows),),
        canary_broken_ppm=(millionths(broken_canaries),),
    )


async def _attack_with_hop_skip_jump(bench: _Bench) -> None:
    settings, rng = bench.settings, bench.rng("hop skip jump")
    budget, epsilon = settings.hop_skip_jump_queries, settings.epsilon_ppm / _MILLION
    factor = canary.check_hop_skip_jump(bench.box, epsilon, budget, bench.rng("hop skip jump canary"))
    bench.asked = 0
    rows = bench.features[bench.attacked]
    found = await ask(hop_skip_jump(rows, bench.box, bench.threshold, budget, rng), bench.predict)
    withstood = bench.unbroken & (found.distance > epsilon)
    bench.find(
        "robustness_suite",
        metrics.proportion(int(withstood.sum()), len(rows)),
        f"rows broken by neither Square nor HopSkipJump within {settings.epsilon_ppm} ppm, Wilson interval",
        rows=(len(rows),),
    )
    # Nothing in the box is farther than 1, so a row whose answer never turned counts as 1.
    distance = np.minimum(found.distance[bench.right], 1.0)
    if not distance.size:
        bench.absent["robustness_distance"] = "no attacked row was answered rightly to begin with"
        return
    interval = metrics.bootstrap(
        np.zeros(len(distance), np.intp), lambda weights: _weighted_median(distance, weights), settings.resamples, rng
    )
    bench.find(
        "robustness_distance",
        interval,
        f"median over rows answered rightly, HopSkipJump, L-infinity, {budget} queries per row at most; no guarantee",
        curve_queries=tuple(queries for queries, _ in found.curve),
        curve_median_ppm=tuple(millionths(min(median, 1.0)) for _, median in found.curve),
        canary_factor_ppm=(millionths(factor),),
    )


async def _compare_groups(bench: _Bench) -> None:
    column = bench.features[:, bench.task.card.schema.index(bench.settings.fairness_column)]
    bench.asked = 0
    try:
        found = fairness.gaps(
            bench.target, bench.scores, column, bench.threshold, bench.settings.resamples, bench.rng("fairness")
        )
    except InvalidInput as problem:
        bench.absent |= dict.fromkeys(
            ("fairness_recall_gap", "fairness_false_positive_gap", "fairness_auc_gap"), str(problem)
        )
        return
    bench.absent |= found.absent
    for name, interval in found.gaps.items():
        bench.find(
            name,
            interval,
            f"largest difference between tertiles of {bench.settings.fairness_column}, bootstrap in group and class",
            positive_rows=tuple(positive for positive, _ in found.group_rows),
            negative_rows=tuple(negative for _, negative in found.group_rows),
        )


async def _probe_privacy(bench: _Bench) -> None:
    budget = bench.settings.extraction_queries
    bench.asked = 0
    if budget > len(bench.box.low):
        stealing = privacy.extraction(bench.features, bench.box, bench.threshold, budget, bench.rng("extraction"))
        bench.find(
            "extraction_fidelity",
            await ask(stealing, bench.predict),
            f"logistic surrogate of {budget} answers to uniform queries in the public ranges, Wilson interval",
        )
    else:
        bench.absent["extraction_fidelity"] = "the query budget is smaller than the number of columns"
    members = bench.task.members
    if members is None:
        bench.absent["membership_advantage"] = "the evaluator has no rows that are known to have been trained on"
        return
    bench.asked = 0
    inside = privacy.losses(members.target, await probabilities(bench.predict, members.features))
    outside = privacy.losses(bench.target, bench.scores)
    try:
        interval = privacy.membership_advantage(inside, outside, bench.settings.resamples, bench.rng("membership"))
    except InvalidInput as problem:
        bench.absent["membership_advantage"] = str(problem)
        return
    bench.find("membership_advantage", interval, "loss threshold chosen on one half, measured on the other")


async def _load(bench: _Bench) -> None:
    settings = bench.settings
    if not settings.load_rates:
        bench.absent |= dict.fromkeys(("load_p99", "load_rate"), "the settings leave the load test out")
        return
    bench.asked = 0
    rows = np.ascontiguousarray(bench.features, np.float32)
    turn = 0

    async def call() -> None:
        nonlocal turn
        turn = (turn + 1) % len(rows)
        await bench.predict(rows[turn : turn + 1])

    rates = tuple(float(rate) for rate in settings.load_rates)
    found = await load.ramp(
        call, rates, settings.load_calls, settings.objective_microseconds / _MILLION, bench.rng("load")
    )
    first = found.steps[0]
    numbers = {
        "rates": settings.load_rates[: len(found.steps)],
        "p99_microseconds": tuple(millionths(step.p99) for step in found.steps),
        "late_microseconds": tuple(millionths(step.lateness) for step in found.steps),
        "failed": tuple(step.failed for step in found.steps),
        "undecided": tuple(int(step.verdict == "undecided") for step in found.steps),
    }
    method = f"open loop, Poisson arrivals, {settings.load_calls} single-row calls per rate, from the scheduled time"
    if np.isfinite(first.p99):
        milliseconds = Interval(1000 * first.p99, 1000 * first.p99_low, 1000 * first.p99_high)
        bench.find("load_p99", milliseconds, method, **numbers)
    else:
        bench.absent["load_p99"] = "no call was answered at the lowest rate"
    bench.find("load_rate", Interval(found.best_rate, found.best_rate, found.next_rate), method, **numbers)


_STAGES: Final[tuple[tuple[str, Callable[[_Bench], Awaitable[None]]], ...]] = (
    ("data", _examine_data),
    ("performance", _measure_performance),
    ("natural trouble", _disturb),
    ("Square attack", _attack_with_square),
    ("HopSkipJump attack", _attack_with_hop_skip_jump),
    ("fairness", _compare_groups),
    ("privacy", _probe_privacy),
    ("load", _load),
)


def _draw_by_class(target: FloatArray, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """About ``count`` rows, half of each class where there are enough, in the table's order."""
    positive, negative = (rng.permutation(np.flatnonzero(target == value)) for value in (1, 0))
    from_positive = min(len(positive), max(count // 2, count - len(negative)))
    return np.sort(np.concatenate([positive[:from_positive], negative[: count - from_positive]]))


def _weighted_median(values: FloatArray, weights: FloatArray) -> FloatArray:
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[:, order], axis=1)
    middle = (cumulative >= cumulative[:, -1:] / 2).argmax(axis=1)
    return np.asarray(values[order][middle])
