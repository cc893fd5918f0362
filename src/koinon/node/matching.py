"""Which people are in the data of all owners of a study, found out by the owners' nodes before anything is shared.

The first owner asks. It goes from one to the next with those whom all so far have, and learns alone who they are; only
where they are enough does it come again with those who are in everybody's data, and each of the others learns who they
are:

    first owner     who is in its own and the second's data, who of these in the third's, and so on; how many people
                    each of the others has
    other owners    where enough are in everybody's data, who they are; else nothing but how many the first came with
    nobody else     nothing, but that too few are in everybody's data where that is so

Against owners who follow the protocol; one that claims to have guessed people learns of those too.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from koinon.crypto.hash import tagged_hash
from koinon.jobs.sessions import study_key
from koinon.jobs.study import StudyFile
from koinon.kernel.errors import Expired, Forged
from koinon.kernel.quantities import Seconds
from koinon.node.context import Context
from koinon.node.intersections import Occasion, intersection

if TYPE_CHECKING:
    from koinon.node.intersections import IndexArray

NARROWING = b"narrow"
TELLING = b"tell"


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
        left = until - context.clock.monotonic()
        if left <= 0:
            raise Expired("the owners' nodes did not find out in time who is in all their data")
        answering = place if position == 0 else position
        session = tagged_hash(
            "koinon/study/intersection/1", study_key(study, number), purpose, answering.to_bytes(2, "big")
        )
        occasion = Occasion(
            peer=study.owners[place].node_id,
            session=session,
            asks=position == 0,
            both_learn=purpose == TELLING,
            most=MOST_ITEMS,
        )
        found = await intersection(context, occasion, [identifiers[row] for row in rows], Seconds(left))
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
