"""A federated training: what all agree on, an owner's part of a round, and the coordinator's between rounds.

In each round an owner trains on its rows, clips its update to the agreed norm, weighs it by its rows and gives it, with
its loss and its weight, to secure aggregation; nobody sees more than the three sums. The coordinator divides, moves the
joint model and stops when the mean loss on rows that owners held back no longer falls. These functions are pure: the
same ones run in a simulation (``train``) and in real nodes (``links``, ``contributing``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, isfinite
from typing import Final

import numpy as np

from koinon.crypto.hash import tagged_hash
from koinon.kernel.codec import Record
from koinon.kernel.codec import encode as encode_record
from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Hash32
from koinon.privacy.federated import encoding
from koinon.privacy.federated.models import MOST_PARAMETERS, BroughtModel, Model, Perceptron, perceptron
from koinon.privacy.federated.noise import NoisePlan, check_noise, deviation, draw, furthest, guarantee, whole_within
from koinon.privacy.federated.session import check_threshold
from koinon.privacy.federated.strategies import (
    SUMS,
    JointModel,
    LocalPlan,
    ServerPlan,
    check_plans,
    combine,
    train_locally,
)
from koinon.privacy.federated.strategies import (
    begin as begin_model,
)
from koinon.privacy.federated.summing import SummedModel, summed_model
from koinon.wire.federated import RoundTerms

_MODEL_DOMAIN: Final = "koinon/federated/model/1"
_SEED_DOMAIN: Final = "koinon/federated/training-seed/1"
LARGEST_LOSS: Final = 64.0
"""A larger loss of an owner counts as this."""
METRICS: Final = 2
"""Numbers beside the update: the weight, and the weighted loss."""
HELD_BACK: Final = 5
"""An owner holds back every fifth row to judge the joint model by."""


class TrainingPlan(Record, frozen=True):
    """What all owners and the coordinator agree on before they start.

    Attributes:
        features, hidden, classes, penalty: of the perceptron that is trained.
        size: number of parameters of a model that owners bring themselves, in place of a perceptron; else 0.
        rounds: at most so many.
        clip: an update longer than this (L2) is shortened to it.
        most_rows: an owner's weight is its rows over this, at most 1; 0 weighs all owners alike.
        threshold: owners that must remain in every round.
        patience: rounds without a better mean loss before the training stops; 0 never stops early.
        seed: of the first parameters and of the order of rows.
        noise: differential privacy of whole owners, or None.
        program, parameters: where owners give a program's sums, its name and the encoding of its parameters; then
            ``features`` are all columns, and there are no other targets.
    """

    features: int
    hidden: tuple[int, ...]
    classes: int
    penalty: float
    rounds: int
    local: LocalPlan
    server: ServerPlan
    clip: float
    most_rows: int
    threshold: int
    patience: int = 0
    seed: int = 0
    fraction_bits: int = 24
    word_bits: int = 64
    size: int = 0
    noise: NoisePlan | None = None
    program: str = ""
    parameters: bytes = b""


TrainedModel = Perceptron | BroughtModel | SummedModel


@dataclass(frozen=True, slots=True)
class RoundReport:
    """What is known of one round. ``loss`` is the mean on held-back rows before it; NaN where it is kept private."""

    round: int
    survivors: tuple[int, ...]
    loss: float
    step: float


@dataclass(frozen=True, slots=True)
class Coordinator:
    """Between rounds.

    Attributes:
        round: number of the next one.
        best: the model with the least loss so far, and that loss.
        finished: why no further round follows; empty while one does.
    """

    joint: JointModel
    round: int = 0
    history: tuple[RoundReport, ...] = ()
    best: tuple[np.ndarray, float] | None = field(default=None)
    finished: str = ""


def model_of(plan: TrainingPlan) -> TrainedModel:
    """What is trained. Raises InvalidInput for a model that is none."""
    if plan.server.kind == SUMS:
        return summed_model(plan.program, plan.parameters)
    if not plan.size:
        return perceptron(plan.features, plan.hidden, plan.classes, plan.penalty)
    if not 1 <= plan.size <= MOST_PARAMETERS:
        raise InvalidInput(f"a model has 1 to {MOST_PARAMETERS} parameters; got {plan.size}")
    return BroughtModel(plan.size)


def check_plan(plan: TrainingPlan, owners: int) -> TrainedModel:
    """The model of a plan. Raises InvalidInput naming the first setting that cannot be used by so many owners."""
    model = model_of(plan)
    check_plans(plan.local, plan.server)
    if not 1 <= plan.rounds <= 10_000:
        raise InvalidInput(f"a training has 1 to 10000 rounds; got {plan.rounds}")
    if not (isfinite(plan.clip) and 0.0 < plan.clip <= 2.0**16):
        raise InvalidInput(f"updates are clipped to a norm above 0 and up to 65536; got {plan.clip:g}")
    if not 0 <= plan.most_rows <= 1 << 40 or not 0 <= plan.patience <= plan.rounds:
        raise InvalidInput("most_rows is not negative, and patience is 0 to the number of rounds")
    if plan.noise is not None:
        check_noise(plan.noise, plan.threshold, _noise_norm(plan), plan.fraction_bits)
        if plan.server.kind != SUMS and (plan.most_rows or plan.patience):
            raise InvalidInput("with noise owners weigh alike and losses stay private: set most_rows and patience to 0")
    whole = plan.server.kind == SUMS
    if whole and (plan.size or plan.patience or not plan.most_rows):
        raise InvalidInput("sums take no patience or brought model, and owners by their rows")
    wants_noise = isinstance(model, SummedModel) and model.program.sensitivity > 0.0
    if whole and wants_noise != (plan.noise is not None):
        raise InvalidInput("noise is added to sums of clipped gradients, always, and to no others")
    check_threshold(plan.threshold, owners)
    encoding.check_range(owners, limit_of(plan), plan.word_bits)
    return model


def limit_of(plan: TrainingPlan) -> int:
    """Largest size of a word of an honest owner: a clipped coordinate, or a metric, and its noise."""
    if plan.noise is None:
        return ceil(max(plan.clip, 1.0) * 2.0**plan.fraction_bits) + 1
    return ceil(plan.clip * 2.0**plan.fraction_bits) + 1 + furthest(_units(plan, plan.noise))


def privacy_of(plan: TrainingPlan) -> tuple[float, float] | None:
    """(ε, δ) if all rounds are run: of each owner as a whole, or in sums of each row; None without noise.

    Raises InvalidInput where that promises nothing.
    """
    if plan.noise is None:
        return None
    length = length_of(plan, model_of(plan))
    return guarantee(plan.noise, plan.rounds, length, plan.threshold, _noise_norm(plan), plan.fraction_bits)


def _units(plan: TrainingPlan, noise: NoisePlan) -> int:
    return deviation(noise, plan.threshold, _noise_norm(plan), plan.fraction_bits)


def _noise_norm(plan: TrainingPlan) -> float:
    """What noise hides: an owner's whole update, or in its sums one row in another's place."""
    model = model_of(plan)
    return model.program.sensitivity / plan.most_rows if isinstance(model, SummedModel) else plan.clip


def length_of(plan: TrainingPlan, model: Model) -> int:
    """Words of one owner's contribution."""
    size = model.program.length if isinstance(model, SummedModel) else model.size
    return size + (METRICS if _tells_weights(plan) else 0)


def _tells_weights(plan: TrainingPlan) -> bool:
    """Whether owners weigh their words by their rows, and say how many; with noise for whole owners they do not."""
    return plan.noise is None or plan.server.kind == SUMS


def round_terms(
    plan: TrainingPlan, study: bytes, number: int, parameters: np.ndarray, aggregator: bytes, owners: Sequence[bytes]
) -> RoundTerms:
    """The terms of one round: everybody who trains from other parameters is in another session."""
    return RoundTerms(
        study=study,
        round=number,
        model=model_hash(plan, parameters),
        aggregator=aggregator,
        owners=tuple(owners),
        threshold=plan.threshold,
        length=length_of(plan, model_of(plan)),
        word_bits=plan.word_bits,
        fraction_bits=plan.fraction_bits,
        limit=limit_of(plan),
    )


def model_hash(plan: TrainingPlan, parameters: np.ndarray) -> Hash32:
    """Names a plan and the parameters that a round starts from."""
    return tagged_hash(_MODEL_DOMAIN, encode_record(plan), np.asarray(parameters, "<f8").tobytes())


# ----------------------------------------------------------------------------------------------------- an owner


@dataclass(frozen=True, slots=True)
class Rows:
    """One owner's rows: features (n, d) and targets (n,), in the order the owner keeps them."""

    features: np.ndarray
    targets: np.ndarray

    def training(self, plan: TrainingPlan) -> "Rows":
        """All rows, or all but the held-back ones where losses are told."""
        if plan.noise is not None or plan.server.kind == SUMS or len(self.targets) < HELD_BACK:
            return self
        kept = np.arange(len(self.targets)) % HELD_BACK != HELD_BACK - 1
        return Rows(self.features[kept], self.targets[kept])

    def held_back(self) -> "Rows":
        """Every fifth row; all of fewer than five."""
        start = HELD_BACK - 1 if len(self.targets) >= HELD_BACK else 0
        step = HELD_BACK if len(self.targets) >= HELD_BACK else 1
        return Rows(self.features[start::step], self.targets[start::step])


def check_rows(plan: TrainingPlan, rows: Rows) -> None:
    """Raises InvalidInput for rows that this plan cannot use; names what is wrong, never a value."""
    if rows.features.ndim != 2 or rows.features.shape != (len(rows.targets), plan.features) or not len(rows.targets):
        raise InvalidInput(f"the rows must be a table of {plan.features} features with one target each")
    if not np.isfinite(rows.features).all():
        raise InvalidInput("the rows hold a value that is missing or not finite; clean them")
    if not np.isin(rows.targets, np.arange(plan.classes)).all():
        raise InvalidInput(f"targets are the classes 0 to {plan.classes - 1}; recode them")


def contribution(
    plan: TrainingPlan, model: Model, parameters: np.ndarray, rows: Rows, owner: int, number: int, rng: Rng
) -> np.ndarray:
    """One owner's words for round ``number``: clipped, weighed, noised where agreed, encoded.

    Args:
        rng: for noise only; without noise the words are the same every time.

    Raises:
        InvalidInput: training diverged.
    """
    used = rows.training(plan)
    update = local_update(plan, model, parameters, used, owner, number)
    if isinstance(model, SummedModel):
        return words_of(plan, update, len(used.targets), 0.0, rng)
    if plan.noise is not None:
        return words_of(plan, update, len(used.targets), float("nan"), rng)
    judged = rows.held_back()
    loss, _ = model.loss_and_gradient(parameters, judged.features, judged.targets)
    return words_of(plan, update, len(used.targets), loss, rng)


def words_of(plan: TrainingPlan, update: np.ndarray, rows: int, loss: float, rng: Rng) -> np.ndarray:
    """A clipped update as words: noised where that is agreed, else weighed, with its weight and its loss behind it.

    Args:
        update: (size,), not longer than the plan's clip.
        rows: how many it was trained on.
        loss: of the joint model before it; ignored with noise. A loss that is not finite counts as the largest.
        rng: for noise only.
    """
    if plan.noise is not None and not _tells_weights(plan):
        whole = whole_within(update, plan.clip, plan.fraction_bits)
        return encoding.as_words(whole + draw(whole.size, _units(plan, plan.noise), rng), plan.word_bits)
    weight = min(1.0, rows / plan.most_rows) if plan.most_rows else 1.0
    bounded = min(LARGEST_LOSS, max(0.0, loss)) if isfinite(loss) else LARGEST_LOSS
    values = np.concatenate([update * weight, [weight, weight * bounded / LARGEST_LOSS]])
    words = encoding.encode(values, plan.fraction_bits, limit_of(plan), plan.word_bits)
    if plan.noise is not None:
        noise = draw(update.size, _units(plan, plan.noise), rng)
        words[: update.size] += encoding.as_words(noise, plan.word_bits)
    return words


def local_update(
    plan: TrainingPlan, model: Model, parameters: np.ndarray, rows: Rows, owner: int, number: int
) -> np.ndarray:
    """What training on these rows changes (size,), clipped; or the mean sums over them, whatever the owner and the
    round. Raises InvalidInput if training diverged.
    """
    if isinstance(model, SummedModel):
        return clip_norm(model.means(parameters, rows.features), plan.clip)
    seed = int.from_bytes(tagged_hash(_SEED_DOMAIN, encode_record([plan.seed, number, owner]))[:8], "big")
    update = train_locally(model, parameters, rows.features, rows.targets, plan.local, seed)
    return clip_norm(update, plan.clip)


def clip_norm(update: np.ndarray, norm: float) -> np.ndarray:
    """The update, shortened to ``norm`` (L2) if it is longer."""
    length = float(np.linalg.norm(update))
    return update if length <= norm else update * (norm / length)


# ----------------------------------------------------------------------------------------------------- the coordinator


def start(plan: TrainingPlan, model: Model, parameters: np.ndarray | None = None) -> Coordinator:
    """Before the first round, from the model's own start or from given parameters (size,)."""
    return Coordinator(begin_model(model.initial(plan.seed) if parameters is None else parameters))


def finish_round(state: Coordinator, plan: TrainingPlan, survivors: tuple[int, ...], words: np.ndarray) -> Coordinator:
    """Take the sum of a round.

    Raises:
        ProtocolAbort: the sum is beyond what honest updates can give; the model stays as it was.
    """
    total = encoding.decode_sum(words, plan.fraction_bits, limit_of(plan), len(survivors))
    if not _tells_weights(plan):
        update, weight, loss = total, float(len(survivors)), float("nan")
    else:
        update, weight = total[:-METRICS], float(total[-METRICS])
        loss = float(total[-1]) / weight * LARGEST_LOSS if weight > 0.0 else float("nan")
    mean = update / weight if weight > 0.0 else np.zeros_like(update)
    if plan.server.kind == SUMS:
        return _summed(state, plan, survivors, update * plan.most_rows, weight * plan.most_rows)
    return advance(state, plan, survivors, mean, loss)


def advance(
    state: Coordinator, plan: TrainingPlan, survivors: tuple[int, ...], mean: np.ndarray, loss: float = float("nan")
) -> Coordinator:
    """Take the mean update (size,) of a round, however it was computed; see also ``privacy.federated.robust``."""
    report = RoundReport(state.round, survivors, loss, float(np.linalg.norm(mean)))
    best = state.best
    if isfinite(loss) and (best is None or loss < best[1]):
        best = state.joint.parameters, loss
    following = replace(
        state,
        joint=combine(state.joint, mean, plan.server),
        round=state.round + 1,
        history=(*state.history, report),
        best=best,
    )
    return replace(following, finished=_finished(following, plan))


def _summed(
    state: Coordinator, plan: TrainingPlan, survivors: tuple[int, ...], totals: np.ndarray, people: float
) -> Coordinator:
    joint, model = state.joint, summed_model(plan.program, plan.parameters)
    parameters, memory, change = model.moved(joint.parameters, joint.second, totals, people)
    following = replace(
        state,
        joint=JointModel(parameters, joint.first, memory),
        round=state.round + 1,
        history=(*state.history, RoundReport(state.round, survivors, float("nan"), change)),
    )
    ended = "the joint model moves no more" if not change else ""
    return replace(following, finished=ended or _finished(following, plan))


def result(state: Coordinator, plan: TrainingPlan) -> np.ndarray:
    """The parameters to keep: the best ones seen where the training stops early, else the last."""
    return state.best[0] if plan.patience and state.best is not None else state.joint.parameters


def _finished(state: Coordinator, plan: TrainingPlan) -> str:
    if state.round >= plan.rounds:
        return f"all {plan.rounds} rounds are done"
    if plan.patience and len(state.history) > plan.patience:
        losses = [report.loss for report in state.history]
        if min(losses[-plan.patience :]) >= min(losses[: -plan.patience]):
            return f"the mean loss has not fallen for {plan.patience} rounds"
    return ""


# ----------------------------------------------------------------------------------------------------- in one process

Gather = Callable[[RoundTerms, dict[int, np.ndarray]], tuple[tuple[int, ...], np.ndarray]]
"""Adds up the words of the owners that remain: who remained, and the sum."""


def train(
    plan: TrainingPlan, owners: Sequence[Rows], rng: Rng, gather: Gather, model: Model | None = None
) -> Coordinator:
    """A whole training in this process, for notebooks, tests and measurements.

    Args:
        gather: how words are added up, such as ``simulation.gather``, which runs the whole protocol.
        model: another model than the plan's perceptron; only its size must be the same.

    Raises:
        InvalidInput: unusable plan or rows, or training that diverges.
    """
    made = check_plan(plan, len(owners))
    trained = made if model is None else model
    for rows in owners:
        check_rows(plan, rows)
    names = tuple(tagged_hash(_SEED_DOMAIN, b"owner", number.to_bytes(4, "big")) for number in range(len(owners)))
    state = start(plan, trained)
    while not state.finished:
        terms = round_terms(plan, bytes(32), state.round, state.joint.parameters, bytes(32), names)
        words = {
            number: contribution(plan, trained, state.joint.parameters, rows, number, state.round, rng)
            for number, rows in enumerate(owners)
        }
        survivors, total = gather(terms, words)
        state = finish_round(state, plan, survivors, total)
    return state
