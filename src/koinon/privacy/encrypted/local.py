"""The engine ``he`` in one process: owners, adding members and result party as in a study. For notebooks and tests."""

from collections.abc import Sequence
from typing import Final

from koinon.kernel.effects import Rng
from koinon.kernel.errors import Refused
from koinon.privacy.backend import PlainInput, Program, Result, check_inputs, named_outputs
from koinon.privacy.encrypted import ckks, studies


class LocalEncrypted:
    """Runs a study's program on ciphertexts of all owners' sums, all owners being here."""

    name: Final = "he"
    adversary: Final = studies.ADVERSARY

    def run(self, program: Program, inputs: Sequence[PlainInput], rng: Rng) -> Result:
        """See ``Backend.run``; the library draws its own randomness.

        Raises:
            Refused: a function in place of a program that studies name, one that this engine does not run, or an owner
                with too few people in a group.
            Unavailable: the extra is not installed.
        """
        del rng
        check_inputs(program, inputs)
        if not program.parameters:
            raise Refused("only programs that a study can name are computed on ciphertexts; choose another engine")
        given = studies.parameters_of(program.parameters)
        sums = studies.check(program.name, given)
        keys = ckks.generate(studies.DEPTH)
        sealed = [
            ckks.encrypt_numbers(keys.public, studies.sums_of(each.values, given.layout, sums), studies.DEPTH)
            for each in inputs
        ]
        opened = keys.decrypt([ckks.added(sealed, studies.DEPTH)], sums.length, studies.DECIMALS)[:, 0]
        return Result(named_outputs(program, studies.outputs_of(opened, given, sums)))
