"""Answers on encrypted rows: processor seconds and bytes of both sides, in one process.

    PYTHONPATH=src python benchmarks/encrypted.py --json

Sums of 3 and 16 owners as a study adds them; a logistic regression on all 569 rows of scikit-learn's breast-cancer
set, and a 30-16-2 network with squares between its layers on the same rows; medians of the repeats.
"""

import argparse
import json
import os
import platform
import statistics
import time

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from koinon.privacy.encrypted import ckks, studies
from koinon.privacy.encrypted.models import EncryptedModel, Link, layer, linked


def once(model: EncryptedModel, rows: np.ndarray) -> dict[str, float]:
    times = [time.process_time()]
    keys = ckks.generate(model.depth)
    times.append(time.process_time())
    columns = tuple(keys.encrypt(rows))
    times.append(time.process_time())
    outputs = ckks.evaluate(model, keys.public, columns)
    times.append(time.process_time())
    answers = linked(keys.decrypt(list(outputs), len(rows), 4), model.link)
    times.append(time.process_time())
    names = ("key_seconds", "encrypt_seconds", "evaluate_seconds", "decrypt_seconds")
    return {
        **{name: later - earlier for name, earlier, later in zip(names, times[:-1], times[1:], strict=True)},
        "sent_mib": (len(keys.public) + sum(map(len, columns))) / 2**20,
        "answer_mib": sum(map(len, outputs)) / 2**20,
        "largest_error": float(np.abs(answers - model.in_the_clear(rows)).max()),
    }


def sums(owners: int, numbers: int) -> dict[str, float]:
    """A study on ciphertexts: what the result party, one owner, one member and the result party again spend."""
    times = [time.process_time()]
    keys = ckks.generate(studies.DEPTH)
    times.append(time.process_time())
    one = ckks.encrypt_numbers(keys.public, np.ones(numbers), studies.DEPTH)
    times.append(time.process_time())
    total = ckks.added([one] * owners, studies.DEPTH)
    times.append(time.process_time())
    keys.decrypt([total], numbers, studies.DECIMALS)
    times.append(time.process_time())
    names = ("key_seconds", "encrypt_seconds", "add_seconds", "open_seconds")
    return {
        **{name: later - earlier for name, earlier, later in zip(names, times[:-1], times[1:], strict=True)},
        "key_bytes": len(keys.public),
        "ciphertext_bytes": len(one),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows, target = load_breast_cancer(return_X_y=True)
    rows = StandardScaler().fit_transform(rows)
    fitted = LogisticRegression().fit(rows, target)
    random = np.random.default_rng(1)
    hidden = layer(random.normal(size=(16, 30)) / 6, random.normal(size=16) / 4, square=True)
    models = {
        "logistic regression": EncryptedModel((layer(fitted.coef_, fitted.intercept_),), Link.SIGMOID),
        "network 30-16-2": EncryptedModel((hidden, layer(random.normal(size=(2, 16)) / 4, np.zeros(2))), Link.SOFTMAX),
    }
    report: dict[str, object] = {
        "rows": len(rows),
        "repeats": options.repeats,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
    }
    for name, model in models.items():
        runs = [once(model, rows) for _ in range(options.repeats)]
        report[name] = {key: float(f"{statistics.median(run[key] for run in runs):.3g}") for key in runs[0]}
    for owners in (3, 16):
        runs = [sums(owners, studies.MOST_NUMBERS) for _ in range(options.repeats)]
        found = {key: float(f"{statistics.median(run[key] for run in runs):.6g}") for key in runs[0]}
        report[f"sums of {owners}"] = found
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:20} {value}")


if __name__ == "__main__":
    main()
