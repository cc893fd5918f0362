"""The result party's keys in a study on ciphertexts: made once, kept on its disk, and used to open the total."""

import asyncio
from typing import TYPE_CHECKING, Final

from koinon.jobs.inputs import parameters
from koinon.jobs.study import StudyFile
from koinon.kernel.codec import decode, encode
from koinon.kernel.effects import Store
from koinon.kernel.errors import Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_KEYS: Final = b"encryption-key/"


class KeyDesk:
    """One pair of keys for each study, made when the first owner asks."""

    def __init__(self, memory: Store) -> None:
        self._memory = memory
        self._making = asyncio.Lock()

    async def public_key(self, study: int) -> bytes:
        """What owners encrypt under. Raises Unavailable where the extra is not installed."""
        from koinon.privacy.encrypted.keeper import KeyPair, make_keys

        async with self._making:
            kept = self._memory.get(_key(study))
            if kept is None:
                kept = encode(await make_keys())
                self._memory.write({_key(study): kept})
        return decode(KeyPair, kept, limit=len(kept)).public


async def opened(
    memory: Store, study: StudyFile, number: int, rows: tuple[int, ...], words: "NDArray[np.uint64]"
) -> "NDArray[np.float64]":
    """The declared outputs, one after the other, from the committee's words.

    Raises:
        MalformedMessage: the words hold no ciphertext under this study's key, or sums that no rows have.
        Unavailable: the key is lost.
    """
    from koinon.privacy.encrypted import keeper, studies

    kept = memory.get(_key(number))
    if kept is None:
        raise Unavailable(f"this node has lost its key of study {number}; nobody else can open the result")
    secret = decode(keeper.KeyPair, kept, limit=len(kept)).secret
    given = studies.parameters_of(parameters(study, rows))
    program = studies.check(study.algorithm, given)
    total = await keeper.open_total(secret, studies.from_words(words), program.length)
    return studies.outputs_of(total, given, program)


def _key(study: int) -> bytes:
    return _KEYS + study.to_bytes(8, "big")
