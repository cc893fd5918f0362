"""Which people are in the data of all owners of a study, found out by the owners' nodes before anything is shared.

The first owner asks. It goes from one to the next with those whom all so far have, and learns alone who they are; only
where they are enough does it come again with those who are in everybody's data, and each of the others learns who they
are:

    first owner     who is in its own and the second's data, who of these in the third's, and so on; how many people
                    each of the others has
    other owners    where enough are in everybody's data, who they are; else nothing but how many the first came with
    nobody else     nothing, but that too few are in everybody's data where that is so

Where rows and columns are both split, owners of the same columns have nobody in common to look for. Each owner of the
first columns meets each of the other columns, one after the other, with those of its people whom it has not met yet:

    both owners of such a pair    who of these is in both their data, and how many the other came with
    nobody else                   nothing but how many each pair found, once the study runs

An owner that claims to have guessed people learns of those too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from koinon.crypto.hash import tagged_hash
from koinon.jobs.sessions import study_key
from koinon.jobs.study import StudyFile, is_crossed
from koinon.kernel.errors import Expired, Forged
from koinon.kernel.quantities import Seconds
from koinon.node.context import Context
from koinon.node.intersections import Occasion, intersection

if TYPE_CHECKING:
    from koinon.node.intersections import IndexArray

_DOMAIN = "koinon/study/intersection/1"
NARROWING = b"narrow"
TELLING = b"tell"
PAIRING = b"pair"


@dataclass(frozen=True)
class Matched:
    """Whom an owner brings to a study.

    Attributes:
        rows: numbers of its rows, in the order in which it shares them.
        parts: where rows and columns are both split, how many of them each owner of the other columns has, in party
            order; else empty.
    """

    rows: "IndexArray"
    parts: tuple[int, ...] = ()


async def matched(context: Context, number: int, study: StudyFile, identifiers: Sequence[str], until: float) -> Matched:
    """Which rows of this owner are of people that the study's other owners have too; see ``common_rows``."""
    if is_crossed(study):
        return await _paired(context, number, study, identifiers, until)
    return Matched(await common_rows(context, number, study, identifiers, until))


async def _paired(context: Context, number: int, study: StudyFile, identifiers: Sequence[str], until: float) -> Matched:
    """The rows that this owner has in common with each owner of the other columns, a row with the first of them only.

    All pairs go in one order, so that no two owners wait for each other.
    """
    import numpy as np

    from koinon.privacy.joins.states import MOST_ITEMS

    position = [party.account for party in study.owners].index(context.account)
    asks = study.held[position] == study.held[0]
    left, parts = np.arange(len(identifiers)), []
    for place, held in enumerate(study.held):
        if held == study.held[position]:
            continue
        first, second = (position, place) if asks else (place, position)
        pair = first.to_bytes(2, "big") + second.to_bytes(2, "big")
        session = tagged_hash(_DOMAIN, study_key(study, number), PAIRING, pair)
        # Whoever has met everybody comes with one name that nobody has.
        names = [identifiers[int(row)] for row in left] or [context.rng.bytes(32).hex()]
        occasion = Occasion(study.owners[place].node_id, session, asks, both_learn=True, most=MOST_ITEMS)
        found = await intersection(context, occasion, names, Seconds(_left(context, until)))
        assert found is not None
        here = left[found] if len(left) else left
        parts.append(here)
        left = np.setdiff1d(left, here)
    return Matched(np.concatenate(parts), tuple(len(part) for part in parts))


def _left(context: Context, until: float) -> float:
    left = until - context.clock.monotonic()
    if left <= 0:
        raise Expired("the owners' nodes did not find out in time who is in their data")
    return left


async def common_rows(
    context: Context, number: int, study: StudyFile, identifiers: Sequence[str], until: float
) -> "IndexArray":
    """Numbers of this owner's rows whose people are in the data of all owners, ascending.

    With fewer people than the study asks for nobody is told more than that: the study ends there.

    Args:
        until: when to give up, by the clock's monotonic time.

    Raises:
        Refused, Forged, MalformedMessage: another owner's node does not follow the protocol, or comes with other people
            the second time.
        Unavailable: it broke off; Expired, a case of it: it was not there in time.
    """
    import numpy as np

    from koinon.privacy.joins.states import MOST_ITEMS

    position = [party.account for party in study.owners].index(context.account)
    here = np.arange(len(identifiers))

    async def with_(place: int, purpose: bytes, rows: "IndexArray") -> "IndexArray | None":
        answering = place if position == 0 else position
        session = tagged_hash(_DOMAIN, study_key(study, number), purpose, answering.to_bytes(2, "big"))
        occasion = Occasion(
            peer=study.owners[place].node_id,
            session=session,
            asks=position == 0,
            both_learn=purpose == TELLING,
            most=MOST_ITEMS,
        )
        found = await intersection(
            context, occasion, [identifiers[row] for row in rows], Seconds(_left(context, until))
        )
        return None if found is None else rows[found]

    if position > 0:
        await with_(0, NARROWING, here)
        told = await with_(0, TELLING, here)
        return here[:0] if told is None else told
    for place in range(1, len(study.owners)):
        found = await with_(place, NARROWING, here)
        here = here[:0] if found is None else found
        if len(here) < study.minimum_rows:
            return here
    for place in range(1, len(study.owners)):
        found = await with_(place, TELLING, here)
        if found is None or len(found) != len(here):
            raise Forged("an owner's node came with other people than before; the owners' nodes do not agree")
    return here
