"""What one attempt of a study costs the rows of a data set, as an entry of its privacy ledger."""

from typing import Final

from koinon.jobs.study import StudyFile
from koinon.kernel.effects import Rng
from koinon.privacy.differential.budget import Entry, exact_entry, gaussian_entry

SALT_BYTES: Final = 32


def entry_of(study: StudyFile, number: int, attempt: int, rng: Rng) -> Entry:
    """The entry to be written before shares of this attempt may leave. ``check_study`` has passed.

    Every attempt costs: two members that delivered before it failed may have shown the result party its output, and
    the next attempt draws other noise.
    """
    salt = rng.bytes(SALT_BYTES)
    if not study.epsilon:
        return exact_entry(number, attempt, salt)
    from koinon.privacy.engines import engine_named
    from koinon.privacy.programs import registry
    from koinon.privacy.programs.offer import cost

    by_engine = engine_named(study.engine).noise
    if by_engine is not None:
        noise = by_engine(study.algorithm, study.settings, study.epsilon)
    else:
        noise = cost(registry.offer(study.algorithm), study.settings, study.epsilon)
    return gaussian_entry(number, attempt, noise.multiplier, noise.count, salt)
