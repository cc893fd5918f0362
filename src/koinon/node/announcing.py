"""Telling the directory where this node is: again before its record expires, and when others must read it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from koinon.kernel.errors import Unavailable
from koinon.net.discovery import Directory, NodeClaim, sign_record
from koinon.node.home import NodeKeys

RECORD_SECONDS: Final = 3600
RETRY_SECONDS: Final = 0.5
INCOMPLETE_SECONDS: Final = 2.0
"""Between two records while some who must read where this node listens have not told their keys yet."""
_journal: Final = logging.getLogger("koinon.node")


@dataclass(frozen=True)
class Confided:
    """A claim that tells only some where the node listens.

    Attributes:
        is_complete: whether all who must know can read it.
        outdated: returns once others must know.
    """

    claim: NodeClaim
    is_complete: bool
    outdated: Callable[[], Awaitable[object]]


Confide = Callable[[NodeClaim], Awaitable[Confided]]


async def keep_announced(
    directory: Directory, keys: NodeKeys, make_claim: Callable[[], NodeClaim], confide: Confide | None = None
) -> None:
    """Announce until cancelled. Nothing ends it: where no keeper takes the record, it is offered again.

    Args:
        make_claim: what is true now, with a higher sequence each time.
        confide: seals where the node listens; None where everybody may know.
    """
    while True:
        claim, pause = make_claim(), RECORD_SECONDS / 3
        outdated: Callable[[], Awaitable[object]] = asyncio.Event().wait
        try:
            if confide is not None:
                confided = await confide(claim)
                claim, outdated = confided.claim, confided.outdated
                pause = pause if confided.is_complete else INCOMPLETE_SECONDS
            await directory.announce(sign_record(keys.node, keys.account, claim))
        except Unavailable as problem:
            _journal.warning("cannot announce this node: %s", problem)
            pause = RETRY_SECONDS
        with suppress(TimeoutError):  # the record has lasted for as long as it should
            await asyncio.wait_for(outdated(), pause)
