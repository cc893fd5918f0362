"""What a study's program is to the engine ``he``: sums over each owner's rows, added up while encrypted.

Each owner encrypts the sums of its rows under a key of the result party's (CKKS), the four members add the ciphertexts,
and the result party opens the total. For naive Bayes these totals are the model and nothing more: of each class the
number of people, and of every column the sum and the sum of squares.
"""

from typing import Final

import numpy as np

from koinon.crypto.hash import tagged_hash
from koinon.kernel.codec import decode
from koinon.kernel.errors import InvalidInput, MalformedMessage, Refused
from koinon.privacy.backend import Adversary
from koinon.privacy.programs import naive_bayes
from koinon.privacy.programs.groups import check_minimum
from koinon.privacy.programs.offer import Layout, Parameters
from koinon.privacy.sharing import encoded
from koinon.privacy.statistics import SMALLEST_VARIANCE

DEPTH: Final = 1
"""Of the parameters: nothing is multiplied, and these are the smallest there are."""
MOST_COLUMNS: Final = 512
DECIMALS: Final = 4
"""Kept of every total; the encryption's noise is below 10⁻⁵ and is dropped before anybody is told."""
CLASSES: Final = (0, 1)
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
    layout = parameters.layout
    if name != naive_bayes.NAME:
        return f"ciphertexts are only added, so the result must follow from sums over rows; {naive_bayes.NAME} does"
    if layout.sources:
        return "every owner must bring all columns of its own people; owners of different columns choose rep4"
    if set(parameters.outputs) != {"priors", "means", "variances"}:
        return "the result party opens sums that say all three of priors, means and variances; open all of them"
    if parameters.epsilon:
        return "noise that nobody knows is added inside a computation; choose rep4, or exact outputs"
    if not 2 <= len(layout.columns) <= MOST_COLUMNS + 1:
        return f"the sums of at most {MOST_COLUMNS} columns fit into a ciphertext; choose rep4"
    return ""


def check(name: str, parameters: Parameters) -> naive_bayes.Settings:
    """The program's settings.

    Raises:
        Refused: the engine does not run the program so.
        InvalidInput: settings out of range.
    """
    if reason := refusal(name, parameters):
        raise Refused(f"{name} does not run on the engine he: {reason}")
    settings = decode(naive_bayes.Settings, parameters.settings) if parameters.settings else naive_bayes.Settings()
    if not SMALLEST_VARIANCE <= settings.smoothing <= 1.0:
        raise InvalidInput(f"{name}: smoothing is from {SMALLEST_VARIANCE:g} to 1; got {settings.smoothing:g}")
    check_minimum(settings.minimum_group, parameters.layout.people)
    return settings


def parameters_of(encoded_parameters: bytes) -> Parameters:
    """From their canonical encoding. Raises MalformedMessage where it is none."""
    return decode(Parameters, encoded_parameters, limit=_LONGEST_PARAMETERS)


def length_of(layout: Layout) -> int:
    """Numbers that an owner encrypts: of each class a count, and of every column a sum and a sum of squares."""
    return len(CLASSES) * (1 + 2 * (len(layout.columns) - 1))


def sums_of(matrix: np.ndarray, layout: Layout, minimum_group: int) -> np.ndarray:
    """An owner's sums (length,) over its matrix (n, columns), the target last; columns scaled to [−1, 1].

    Raises:
        InvalidInput: a value that is not finite, outside its column's range, or a target other than 0 and 1.
        Refused: fewer people than the study's least in a class. Nobody could refuse afterwards: whoever opens the total
            sees it whatever it is, so every owner makes sure of its own part.
    """
    words = encoded(matrix, layout.columns, layout.fraction_bits)
    numbers = words.view(np.int64) / 2.0**layout.fraction_bits
    rows, target = numbers[:, :-1], numbers[:, -1]
    if not np.isin(target, (-1.0, 1.0)).all():
        raise InvalidInput(f"the target {layout.columns[-1].name!r} may hold only 0 and 1; recode it")
    members = [rows[target == 2 * code - 1] for code in CLASSES]
    if min(len(own) for own in members) < minimum_group:
        raise Refused(f"a class of this owner's has fewer than the {minimum_group} people the study asks for")
    return np.concatenate([np.concatenate([[len(own)], own.sum(0), (own**2).sum(0)]) for own in members])


def outputs_of(total: np.ndarray, parameters: Parameters, settings: naive_bayes.Settings) -> np.ndarray:
    """The declared outputs, one after the other in the program's order, from the sums (length,) of all owners.

    Raises:
        MalformedMessage: sums that no rows have, such as of another number of people than the manifests say.
    """
    features, people = len(parameters.layout.columns) - 1, parameters.layout.people
    if total.shape != (length_of(parameters.layout),) or not np.isfinite(total).all():
        raise MalformedMessage("the opened sums are not those that the study's owners encrypt")
    classes = total.reshape(len(CLASSES), 1 + 2 * features)
    counts = np.round(classes[:, 0])
    if int(counts.sum()) != people or counts.min() < 1:
        raise MalformedMessage("the opened sums are of another number of people than the owners' manifests say")
    means = classes[:, 1 : 1 + features] / counts[:, None]
    variances = np.maximum(classes[:, 1 + features :] / counts[:, None] - means**2, 0.0) + settings.smoothing
    if np.abs(means).max() > 1.0 + 1e-3 or variances.max() > 1.0 + settings.smoothing + 1e-3:
        raise MalformedMessage("the opened sums are of numbers outside the columns' ranges; an owner lied about them")
    found = {"priors": counts / people, "means": means, "variances": variances}
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
