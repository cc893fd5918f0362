"""The federated engine in one process: owners, masks and aggregator as in a study, without links."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from koinon.kernel.codec import decode
from koinon.kernel.effects import Rng
from koinon.kernel.errors import Refused
from koinon.privacy.backend import PlainInput, Program, Result, check_inputs, named_outputs
from koinon.privacy.federated import lockstep, studies, training
from koinon.privacy.programs.offer import Parameters
from koinon.wire.federated import RoundTerms


class LocalFederated:
    """Runs a study's program where each owner's rows lie, all owners being here."""

    name: Final = "federated"
    adversary: Final = studies.ADVERSARY

    def run(self, program: Program, inputs: Sequence[PlainInput], rng: Rng) -> Result:
        """See ``Backend.run``.

        Raises:
            Refused: a function instead of a program that studies name, or one that this engine does not run.
        """
        check_inputs(program, inputs)
        if not program.parameters:
            raise Refused("owners train programs that a study can name, not functions; choose another engine")
        given = decode(Parameters, program.parameters)
        plan = studies.plan_of(program.name, given)
        rows = [studies.rows_of(plan, each.values, given.layout) for each in inputs]

        def gather(terms: RoundTerms, words: dict[int, np.ndarray]) -> tuple[tuple[int, ...], np.ndarray]:
            return lockstep.gather(terms, words, rng)

        state = training.train(plan, rows, rng, gather)
        words = studies.outputs_of(state, plan, given, program.fraction_bits)
        return Result(named_outputs(program, words.view(np.int64) / 2.0**program.fraction_bits))
