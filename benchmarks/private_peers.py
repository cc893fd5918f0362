"""Other frameworks beside ours, in an environment of their own that ``make peers`` installs, and what papers say.

SPU and MPyC run here with three honest-but-curious parties and without TLS (see ``peers/``): a weaker adversary and
less to send, so their seconds are lower bounds of what the same promise would take. A regression counts only where it
came to scikit-learn's log-loss + 0.02. MP-SPDZ is no Python package; its authors' own figures stand for it, on their
machines.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

PYTHON: Final = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
SCRIPTS: Final = Path(__file__).parent / "peers"
CLOSE: Final = 1e-2
"""Between two answers in fixed-point numbers; SPU keeps 18 bits of fraction."""
LONGEST_SECONDS: Final = 1800.0
CONVERGED: Final = 0.02
"""Above scikit-learn's log-loss, at most."""

PUBLISHED: Final = (
    {
        "peer": "MP-SPDZ",
        "job": "CNN of 2 + 2 layers on MNIST, training",
        "answer": "99.2 % accuracy in 3.5 hours, 99 % in under one",
        "source": "M. Keller, K. Sun, Secure Quantized Training for Deep Learning, ICML 2022 (ePrint 2022/933),"
        " abstract; on the authors' machines",
    },
)
"""Figures of papers, which were not measured here."""


def peers(repetitions: int, round_trip: float) -> list[dict[str, Any]]:
    """Rows of every peer; one that says why, where they are not installed.

    Args:
        repetitions: runs of each of SPU's jobs but k-means, which takes a minute; MPyC's run once.
        round_trip: milliseconds, between SPU's parties for a second measurement of answers and regression.

    Raises:
        CalledProcessError: a peer is installed and fails.
    """
    if not PYTHON.exists():
        missing = "not installed; `make peers` installs it (needs CPython 3.11)"
        return [{"peer": "SPU and MPyC", "job": "all", "answer": missing}, *PUBLISHED]
    # MPyC computes with Python's integers: one run of it takes longer than five of the others.
    return [
        *_measured("SPU 0.9.5, ABY3", "spu_jobs.py", str(repetitions), str(round_trip)),
        *_measured("MPyC 0.11, Shamir", "mpyc_jobs.py", "1"),
        *PUBLISHED,
    ]


def _measured(peer: str, script: str, *settings: str) -> list[dict[str, Any]]:
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    data = load_breast_cancer()
    standard = (data.data - data.data.mean(0)) / data.data.std(0)
    done = subprocess.run(
        [str(PYTHON), str(SCRIPTS / script), *settings],
        input=json.dumps(np.column_stack([standard, data.target]).tolist()),
        capture_output=True,
        text=True,
        check=True,
        timeout=LONGEST_SECONDS,
    )
    plain = LogisticRegression(max_iter=5000).fit(standard, data.target)
    most = log_loss(data.target, plain.predict_proba(standard)[:, 1]) + CONVERGED
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    for row in rows:
        found = [f"{row['seconds']:.4f} s"]
        if row.get("rtt_milliseconds"):
            found.append(f"{row['rtt_milliseconds']:g} ms RTT")
        if "checked" in row:
            row["farthest_from_ours"] = _farthest(**row.pop("checked"))
            found.append(f"answers within {row['farthest_from_ours']:.0e} of ours")
        if "log_loss" in row:
            row["converged"] = row["log_loss"] <= most
            found.append(f"log-loss {row['log_loss']:.4f}" + ("" if row["converged"] else ", not converged"))
        row |= {"peer": peer, "answer": ", ".join(found)}
    return rows


def _farthest(inputs: Sequence[Any], output: Any) -> float:
    """How far a peer's answer of the perceptron is from ours on the same secrets.

    Raises:
        ValueError: too far for fixed-point arithmetic.
    """
    import jax

    from koinon import privacy

    def perceptron(x: Any, first: Any, bias: Any, second: Any, shift: Any) -> Any:
        return jax.nn.relu(x @ first + bias) @ second + shift

    ours = privacy.run(perceptron, [np.array(each) for each in inputs])
    farthest = float(np.abs(ours - np.array(output)).max())
    if farthest > CLOSE:
        raise ValueError(f"a peer and we differ by {farthest:g} on the same perceptron")
    return farthest
