"""What a study's program is to the engine ``he``: sums over each owner's rows, added up while encrypted.

Each owner encrypts the sums of its rows under a key of the result party's (CKKS), the four members add the ciphertexts,
and the result party opens the total, from which the outputs follow (``privacy.sums``).
"""

from importlib.util import find_spec
from typing import Final

import numpy as np

from koinon.crypto.hash import tagged_hash
from koinon.kernel.codec import decode
from koinon.kernel.errors import MalformedMessage, Refused
from koinon.privacy.backend import Adversary
from koinon.privacy.programs.offer import Layout, Parameters
from koinon.privacy.sharing import encoded
from koinon.privacy.sums import table
from koinon.privacy.sums.form import RowSums

LIBRARY: Final = "tenseal"
DEPTH: Final = 1
"""Of the parameters: nothing is multiplied, and these are the smallest there are."""
MOST_NUMBERS: Final = 4096
"""That one ciphertext holds."""
DECIMALS: Final = 4
"""Kept of every total; the encryption's noise is below 10⁻⁵ and is dropped before anybody is told."""
ADVERSARY: Final = Adversary(
    4,
    4,
    False,
    "All four members together, and whoever watches, learn nothing of rows or result: they add ciphertexts under the"
    " result party's key. The result party together with any one member, or with whoever has an owner's ciphertext,"
    " learns that owner's sums. A member that adds wrongly is outvoted by three that do not; an owner that encrypts"
    " false sums is not noticed.",
)
_LONGEST_PARAMETERS: Final = 1024 * 1024
_WORD_BYTES: Final = 8
_SALT_DOMAIN: Final = "koinon/encrypted/output/1"


def refusal(name: str, parameters: Parameters) -> str:
    """Why this is not computed on ciphertexts; empty where it is."""
    if reason := table.refusal(name, parameters):
        return reason
    program = table.sums_of(name, parameters)
    if program.sensitivity:
        return "noise that nobody knows is added inside a computation; choose rep4, or federated"
    if program.rounds > 1:
        return f"{name} adds up sums in several rounds, and ciphertexts are added once; choose federated or rep4"
    if program.length > MOST_NUMBERS:
        return f"a ciphertext holds {MOST_NUMBERS} sums, and this study needs {program.length}; choose fewer columns"
    return ""


def missing() -> str:
    """What must be installed on this machine before it can take part; empty where nothing is."""
    if find_spec(LIBRARY) is None:
        return "the engine he needs TenSEAL here: pip install 'koinon[encrypted]', and start the node again"
    return ""


def check(name: str, parameters: Parameters) -> RowSums:
    """The program as sums over rows. Raises Refused where the engine does not run it so."""
    if reason := refusal(name, parameters):
        raise Refused(f"{name} does not run on the engine he: {reason}")
    return table.sums_of(name, parameters)


def parameters_of(encoded_parameters: bytes) -> Parameters:
    """From their canonical encoding. Raises MalformedMessage where it is none."""
    return decode(Parameters, encoded_parameters, limit=_LONGEST_PARAMETERS)


def sums_of(matrix: np.ndarray, layout: Layout, program: RowSums) -> np.ndarray:
    """An owner's sums (length,) over its matrix (n, columns), the target last; columns scaled to [−1, 1].

    Raises:
        InvalidInput: a value that is not finite, outside its column's range, or not one that the program takes.
        Refused: fewer people than the study's least in a group.
    """
    words = encoded(matrix, layout.columns, layout.fraction_bits)
    return program.add(program.start(), words.view(np.int64) / 2.0**layout.fraction_bits)


def outputs_of(total: np.ndarray, parameters: Parameters, program: RowSums) -> np.ndarray:
    """The declared outputs, one after the other in the program's order, from the sums (length,) of all owners.

    Raises:
        MalformedMessage: sums that no rows have, such as of another number of people than the manifests say.
    """
    state, _, _ = program.move(program.start(), np.zeros(0), total, parameters.layout.people)
    found = program.outputs(state)
    return np.concatenate([found[name].ravel() for name in parameters.outputs])


def as_words(data: bytes) -> np.ndarray:
    """Bytes as words (uint64): how many there are, and then they, filled up with zeros."""
    filled = data + bytes(-len(data) % _WORD_BYTES)
    return np.concatenate([[np.uint64(len(data))], np.frombuffer(filled, "<u8")])


def salt_of(total: bytes) -> bytes:
    """What the members' digests are salted with: nobody can guess a ciphertext, so a hash of it does."""
    return tagged_hash(_SALT_DOMAIN, total)


def from_words(words: np.ndarray) -> bytes:
    """The bytes again. Raises MalformedMessage for words that are none."""
    length, data = int(words[0]), words[1:].astype("<u8").tobytes()
    if not len(data) - _WORD_BYTES < length <= len(data) or any(data[length:]):
        raise MalformedMessage("the committee's words hold no ciphertext")
    return data[:length]
