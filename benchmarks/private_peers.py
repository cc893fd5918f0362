"""Other frameworks beside ours, in an environment of their own that ``make peers`` installs, and what papers say.

SPU and MPyC run here with three honest-but-curious parties and without TLS (see ``peers/``): a weaker adversary and
less to send, so their seconds are lower bounds of what the same promise would take. MP-SPDZ is no Python package; its
authors' own figures stand for it, on their machines.
"""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import numpy as np

PYTHON: Final = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
SCRIPTS: Final = Path(__file__).parent / "peers"
LONGEST_SECONDS: Final = 900.0


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


def peers(repetitions: int) -> list[dict[str, Any]]:
    """Rows of every peer; one that says why, where they are not installed.

    Raises:
        CalledProcessError: a peer is installed and fails.
    """
    if not PYTHON.exists():
        missing = "not installed; `make peers` installs it (needs CPython 3.11)"
        return [{"peer": "SPU and MPyC", "job": "all", "answer": missing}, *PUBLISHED]
    # MPyC computes with Python's integers: one run of it takes longer than five of the others.
    return [
        *_measured("SPU 0.9.5, ABY3", "spu_jobs.py", repetitions),
        *_measured("MPyC 0.11, Shamir", "mpyc_jobs.py", 1),
        *PUBLISHED,
    ]


def _measured(peer: str, script: str, repetitions: int) -> list[dict[str, Any]]:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    standard = (data.data - data.data.mean(0)) / data.data.std(0)
    done = subprocess.run(
        [str(PYTHON), str(SCRIPTS / script), str(repetitions)],
        input=json.dumps(np.column_stack([standard, data.target]).tolist()),
        capture_output=True,
        text=True,
        check=True,
        timeout=LONGEST_SECONDS,
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    for row in rows:
        loss = f", log-loss {row['log_loss']:.3f}" if "log_loss" in row else ""
        row |= {"peer": peer, "answer": f"{row['seconds']:.4f} s{loss}"}
    return rows
