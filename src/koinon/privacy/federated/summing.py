"""Programs that follow from sums over rows, as what owners of a training give in a round.

Where owners of a training send updates, owners here send the means of their sums over rows, weighed by rows as updates
are, so that what comes out of a round are the sums over all owners' rows: whole counts to the last one, sums of numbers
to 2⁻²¹ for each owner.
"""

from dataclasses import dataclass

import numpy as np

from koinon.kernel.codec import decode
from koinon.kernel.errors import InvalidInput, ProtocolAbort
from koinon.privacy.programs.offer import Parameters
from koinon.privacy.sums.form import RowSums
from koinon.privacy.sums.table import sums_of

_LONGEST_PARAMETERS = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SummedModel:
    """The joint state of a program as a round's parameters."""

    program: RowSums

    @property
    def size(self) -> int:
        return self.program.start().size

    def initial(self, seed: int) -> np.ndarray:
        """The state before the first round."""
        del seed
        return self.program.start()

    def loss_and_gradient(
        self, parameters: np.ndarray, rows: np.ndarray, targets: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Raises InvalidInput: sums have no loss."""
        raise InvalidInput("a program of sums has no loss; ask for its outputs")

    def predict(self, parameters: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Raises InvalidInput: sums predict nothing."""
        raise InvalidInput("a program of sums predicts nothing; ask for its outputs")

    def means(self, parameters: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """An owner's sums (length,) over its (n, columns) rows, divided by n. See ``RowSums.add``."""
        return self.program.add(parameters, rows) / len(rows)

    def moved(
        self, parameters: np.ndarray, memory: np.ndarray, totals: np.ndarray, people: float
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """See ``RowSums.move``. Raises ProtocolAbort for totals that no rows have."""
        if people < 1.0:
            raise ProtocolAbort("the owners' rows add up to less than one; somebody sent no weight")
        try:
            return self.program.move(parameters, memory, totals, round(people))
        except InvalidInput as problem:
            raise ProtocolAbort(str(problem)) from None


def summed_model(name: str, parameters: bytes) -> SummedModel:
    """The program that a plan names. Raises InvalidInput for one that does not follow from sums."""
    return SummedModel(sums_of(name, decode(Parameters, parameters, limit=_LONGEST_PARAMETERS)))
