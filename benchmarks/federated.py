"""Federated learning: accuracy beside pooled rows, what privacy costs, and what secure aggregation costs.

    PYTHONPATH=src python benchmarks/federated.py --json
    PYTHONPATH=src python benchmarks/federated.py --rounds 10

Real data of scikit-learn (breast cancer 569 × 30, digits 1797 × 64), five owners, a quarter of the rows held out. Every
round runs the whole protocol of secure aggregation in one process. ``spread`` is how rows are divided: evenly, or by
class, so that every owner has few classes. ``curve`` is the mean loss on owners' held-back rows, round by round.
Seconds are of the processor; for aggregation they are all owners' and the aggregator's together.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from koinon.crypto.random import SystemRng
from koinon.privacy.estimate import estimate
from koinon.privacy.federated import training
from koinon.privacy.federated.lockstep import gather
from koinon.privacy.federated.models import perceptron
from koinon.privacy.federated.noise import NoisePlan
from koinon.privacy.federated.robust import Parameters, Rule, program
from koinon.privacy.federated.strategies import ADAM, LocalPlan, ServerPlan
from koinon.privacy.federated.training import Rows, TrainingPlan
from koinon.wire.federated import RoundTerms

OWNERS = 5
SEED = 7
BARS = "▁▂▃▄▅▆▇█"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "owners": OWNERS,
        "rounds": options.rounds,
        "accuracy": [row for data in (cancer, digits) for row in accuracies(data, options.rounds)],
        "privacy": privacy(options.rounds),
        "aggregation": [aggregation(owners, length) for owners, length in ((3, 1000), (10, 10_000), (30, 100_000))],
        "robust": [robust(rule) for rule in Rule],
    }
    if options.json:
        print(json.dumps(report))
        return
    for name, rows in report.items():
        print(f"{name}: {rows}" if not isinstance(rows, list) else name)
        for row in rows if isinstance(rows, list) else ():
            shown = {key: bars(value) if key == "curve" else value for key, value in row.items()}
            print("   ", "  ".join(f"{key} {value}" for key, value in shown.items()))


# ----------------------------------------------------------------------------------------------------- accuracy


def cancer() -> tuple[str, Rows, Rows]:
    features, targets = load_breast_cancer(return_X_y=True)
    return "breast cancer", *split(StandardScaler().fit_transform(features), targets)


def digits() -> tuple[str, Rows, Rows]:
    features, targets = load_digits(return_X_y=True)
    return "digits", *split(features / 16.0, targets)


def split(features: np.ndarray, targets: np.ndarray) -> tuple[Rows, Rows]:
    order = np.random.default_rng(SEED).permutation(len(targets))
    kept, held = order[: len(order) * 3 // 4], order[len(order) * 3 // 4 :]
    return Rows(features[kept], targets[kept]), Rows(features[held], targets[held])


def evenly(rows: Rows, owners: int) -> list[Rows]:
    return [Rows(rows.features[k::owners], rows.targets[k::owners]) for k in range(owners)]


def by_class(rows: Rows, owners: int) -> list[Rows]:
    parts = np.array_split(np.argsort(rows.targets, kind="stable"), owners)
    return [Rows(rows.features[part], rows.targets[part]) for part in parts]


def plan_for(rows: Rows, rounds: int) -> TrainingPlan:
    classes = int(rows.targets.max()) + 1
    return TrainingPlan(
        features=rows.features.shape[1], hidden=(), classes=classes, penalty=1e-3, rounds=rounds,
        local=LocalPlan(epochs=2, batch=32, rate=0.2), server=ServerPlan(), clip=16.0, most_rows=1000, threshold=3,
        seed=SEED,
    )  # fmt: skip


def accuracies(data: Callable[[], tuple[str, Rows, Rows]], rounds: int) -> list[dict[str, Any]]:
    name, rows, held = data()
    base = plan_for(rows, rounds)
    pooled = LogisticRegression(C=1 / (base.penalty * len(rows.targets)), max_iter=2000)
    pooled.fit(rows.features, rows.targets)
    found = [
        {
            "data": name,
            "method": "pooled, scikit-learn",
            "accuracy": round(float(pooled.score(held.features, held.targets)), 4),
            "log_loss": round(float(log_loss(held.targets, pooled.predict_proba(held.features))), 4),
        }
    ]
    methods = {
        "FedAvg": (base.local, base.server),
        "FedProx": (LocalPlan(epochs=2, batch=32, rate=0.2, proximal=0.1), base.server),
        "FedAdam": (base.local, ServerPlan(ADAM, rate=0.1)),
    }
    for spread in (evenly, by_class):
        for method, (local, server) in methods.items():
            agreed = msgspec.structs.replace(base, local=local, server=server)
            found.append(
                {
                    "data": name,
                    "method": method,
                    "spread": spread.__name__,
                    **trained(agreed, spread(rows, OWNERS), held),
                }
            )
    return found


def trained(agreed: TrainingPlan, owners: list[Rows], held: Rows) -> dict[str, Any]:
    began = time.process_time()
    state = training.train(agreed, owners, SystemRng(), summed)
    model = perceptron(agreed.features, agreed.hidden, agreed.classes)
    chances = model.predict(state.joint.parameters, held.features)
    return {
        "accuracy": round(float((chances.argmax(1) == held.targets).mean()), 4),
        "log_loss": round(float(log_loss(held.targets, chances)), 4),
        "seconds": round(time.process_time() - began, 2),
        "curve": [round(report.loss, 4) for report in state.history if np.isfinite(report.loss)],
    }


def summed(terms: RoundTerms, words: dict[int, np.ndarray]) -> tuple[tuple[int, ...], np.ndarray]:
    return gather(terms, words, SystemRng())


# ----------------------------------------------------------------------------------------------------- privacy


def privacy(rounds: int) -> list[dict[str, Any]]:
    """Twenty owners, one of whom may collude; the fewer owners, the dearer the privacy of one of them."""
    _, rows, held = cancer()
    found = []
    for multiplier in (2.0, 4.0, 8.0, 16.0):
        agreed = msgspec.structs.replace(
            plan_for(rows, min(rounds, 10)), noise=NoisePlan(multiplier, 1, 1e-5), most_rows=0, clip=0.5, threshold=15
        )
        told = training.privacy_of(agreed)
        assert told is not None
        result = trained(agreed, evenly(rows, 20), held)
        found.append(
            {"multiplier": multiplier, "epsilon": round(told[0], 2), "delta": told[1], "accuracy": result["accuracy"]}
        )
    return found


# ----------------------------------------------------------------------------------------------------- aggregation


def aggregation(owners: int, length: int) -> dict[str, Any]:
    """One round with all owners, and one in which a tenth (at least one) drops out after sharing its keys."""
    terms = RoundTerms(
        bytes(32), 0, bytes(32), bytes(32), (), owners * 2 // 3 + 1 if owners > 3 else 2, length, 64, 20, 1 << 30
    )
    words = {owner: np.arange(length, dtype="<u8") for owner in range(owners)}
    leaving = dict.fromkeys(range(max(1, owners // 10)), 2)
    return {
        "owners": owners,
        "length": length,
        "seconds": round(processor(lambda: gather(terms, words, SystemRng())), 3),
        "seconds_with_drop_outs": round(processor(lambda: gather(terms, words, SystemRng(), leaving)), 3),
    }


def processor(work: Callable[[], Any]) -> float:
    times = []
    for _ in range(3):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return sorted(times)[1]


def robust(rule: Rule) -> dict[str, Any]:
    """Rounds and traffic of one robust aggregate of seven owners' 62 numbers in rep4."""
    cost = estimate(program(Parameters(7, 62, 4.0, rule.value, 2)))
    return {"rule": rule.value, "owners": 7, "length": 62, "rounds": cost.rounds, "traffic_bytes": cost.traffic_bytes}


def bars(values: list[float]) -> str:
    top = max(values, default=0.0) or 1.0
    return "".join(BARS[min(7, int(8 * value / top))] for value in values)


if __name__ == "__main__":
    main()
