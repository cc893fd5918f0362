"""What a study's algorithm takes: each owner's matrix, its columns, and the public parameters."""

from typing import TYPE_CHECKING, Final

from koinon.jobs.study import StudyFile
from koinon.kernel.codec import encode
from koinon.wire.committee import Column

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

FRACTION_BITS: Final = 20


def share_columns(study: StudyFile) -> tuple[Column, ...]:
    """The columns that owners share: the features, and last the target, which is 0 or 1."""
    return (*study.columns, Column(study.target, 0.0, 1.0))


def share_matrix(features: "FloatArray", target: "FloatArray") -> "FloatArray":
    """One owner's rows as they are shared: float64 (rows, features + 1)."""
    import numpy as np

    return np.column_stack([features, target])


def parameters(study: StudyFile, rows: tuple[int, ...]) -> bytes:
    """Encoding of the algorithm's public parameters. ``rows`` are each owner's, in party order."""
    from koinon.privacy.programs.logistic_regression import Parameters

    return encode(
        Parameters(rows=rows, columns=share_columns(study), fraction_bits=FRACTION_BITS, epsilon=study.epsilon)
    )
