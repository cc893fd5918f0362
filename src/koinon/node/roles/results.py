"""What a publisher's node remembers of each study: the result of every finished step, so that the next can be ordered
by the study's number or the model's name, today or after a restart.
"""

from typing import Final, TypeVar

from koinon.journey.results import Hardened, Named, Published, Served, Study, Trained, Validated
from koinon.kernel.codec import Record, encode
from koinon.kernel.effects import Store
from koinon.kernel.errors import InvalidInput, Refused

Result = Study | Trained | Published | Hardened | Validated | Named | Served
RESULTS: Final[dict[str, type[Record]]] = {
    "study": Study,
    "train": Trained,
    "publish": Published,
    "harden": Hardened,
    "validate": Validated,
    "name": Named,
    "serve": Served,
}
"""The publisher's steps in order, and what each gives."""
STEPS: Final = tuple(RESULTS)
LARGEST_STUDY: Final = 2**63 - 1

_R = TypeVar("_R", bound=Result)


def study_number(result: Result) -> int:
    """The study at the beginning of a result."""
    match result:
        case Study():
            return result.number
        case Trained():
            return result.study.number
        case Published():
            return study_number(result.trained)
        case Hardened():
            return study_number(result.published)
        case Validated():
            return study_number(result.hardened)
        case Named():
            return study_number(result.validated)
        case Served():
            return study_number(result.named)


def keep(memory: Store, result: _R) -> _R:
    """Remember a step's result, and forget those of later steps: they came from another one. Gives it back."""
    step = next(step for step, kind in RESULTS.items() if isinstance(result, kind))
    number = study_number(result)
    entries = {_key(number, step): encode(result)}
    if isinstance(result, Published | Named):
        name = result.name_hint if isinstance(result, Published) else result.name
        entries[_name_key(name)] = number.to_bytes(8, "big")
    memory.write(entries, [_key(number, later) for later in STEPS[STEPS.index(step) + 1 :]])
    return result


def kept(memory: Store, number: int) -> tuple[tuple[str, bytes], ...]:
    """The remembered results of a study, in the order of the steps."""
    found = ((step, memory.get(_key(number, step))) for step in STEPS)
    return tuple((step, encoded) for step, encoded in found if encoded is not None)


def find_study(memory: Store, subject: str) -> int:
    """The number of a study, given as digits or by its model's name.

    Raises:
        InvalidInput: digits that are no study's number.
        Refused: this node published nothing under that name.
    """
    if subject.isascii() and subject.isdigit():
        if not 1 <= int(subject[:20]) <= LARGEST_STUDY:
            raise InvalidInput(f"{subject[:20]} is no study's number; they start at 1")
        return int(subject)
    number = memory.get(_name_key(subject[:200]))
    if number is None:
        raise Refused(f"this node published no model called {subject[:64]!r}; give the study's number instead")
    return int.from_bytes(number, "big")


def _key(number: int, step: str) -> bytes:
    return b"result/" + number.to_bytes(8, "big") + b"/" + step.encode()


def _name_key(name: str) -> bytes:
    return b"result-of-name/" + name.encode()
