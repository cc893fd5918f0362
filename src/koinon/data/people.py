"""The same people in the same order, at owners who hold different columns of them.

Each owner hashes the ids in its own file, sorts its rows by the hashes, and names the result by one root. Owners with
the same root hold the same people in the same order, and nobody has shown an id. The root says nothing to somebody who
does not know all the ids; whoever can guess the whole list can confirm the guess, as with any agreed list.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from koinon.crypto.hash import tagged_hash
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Hash32

ID_DOMAIN: Final = "koinon/data/person/1"
PEOPLE_DOMAIN: Final = "koinon/data/people/1"
_LARGEST_ID: Final = 2.0**53


def agreed_order(ids: NDArray[np.float64], key: str) -> tuple[NDArray[np.intp], Hash32]:
    """Positions of the rows in the agreed order, and the root of the people.

    Args:
        ids: (n,) whole numbers, one a row.
        key: name of their column, for messages.

    Raises:
        InvalidInput: an id is no whole number or occurs twice; the sentence gives no id.
    """
    if not (ids == np.round(ids)).all() or (np.abs(ids) >= _LARGEST_ID).any():
        raise InvalidInput(f"the ids in column {key!r} must be whole numbers below 2^53; give every person a number")
    repeated = len(ids) - len(np.unique(ids))
    if repeated:
        raise InvalidInput(f"{repeated} ids in column {key!r} occur more than once; keep one row for every person")
    texts = [str(int(number)) for number in ids]
    hashes = [_hash_of(text) for text in texts]
    order = sorted(range(len(hashes)), key=hashes.__getitem__)
    return np.array(order, np.intp), root_of([texts[place] for place in order])


def root_of(ids: Sequence[str]) -> Hash32:
    """The root of people whose ids stand in the agreed order."""
    return tagged_hash(PEOPLE_DOMAIN, *(_hash_of(text) for text in ids))


def _hash_of(text: str) -> bytes:
    return bytes(tagged_hash(ID_DOMAIN, text.encode()))
