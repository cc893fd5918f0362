"""Another framework beside ours, in an environment of its own that ``make peers`` installs.

SPU runs here with three honest-but-curious parties and without TLS (see ``peers/spu_jobs.py``): a weaker adversary and
less to send, so its seconds are lower bounds of what the same promise would take.
"""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import numpy as np

PYTHON: Final = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
SCRIPT: Final = Path(__file__).parent / "peers" / "spu_jobs.py"
LONGEST_SECONDS: Final = 900.0


def spu(repetitions: int) -> list[dict[str, Any]]:
    """Rows of SPU 0.9.5 with sf-sml; one that says why, where it is not installed.

    Raises:
        CalledProcessError: it is installed and fails.
    """
    if not PYTHON.exists():
        return [{"peer": "SPU", "job": "all", "answer": "not installed; `make peers` installs it (needs CPython 3.11)"}]
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    standard = (data.data - data.data.mean(0)) / data.data.std(0)
    done = subprocess.run(
        [str(PYTHON), str(SCRIPT), str(repetitions)],
        input=json.dumps(np.column_stack([standard, data.target]).tolist()),
        capture_output=True,
        text=True,
        check=True,
        timeout=LONGEST_SECONDS,
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    for row in rows:
        loss = f", log-loss {row['log_loss']:.3f}" if "log_loss" in row else ""
        row |= {"peer": "SPU 0.9.5, ABY3", "answer": f"{row['seconds']:.4f} s{loss}"}
    return rows
