"""Between epochs: which epoch a message belongs to, and what to do with one that comes early.

Each epoch is a Giskard of its own, with its own validator set; a driver opens the next when ``EpochEnded`` tells it
to. The validators do so within a message delay of each other, so the first messages of an epoch reach some of them
before they are there; without ``EarlyMessages`` the first view of every epoch would be lost to its timer.
"""

from collections import defaultdict
from typing import Final

from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Epoch
from koinon.ledger.types import Certified, EpochSync, PrepareBlock, PrepareVote, ViewChange, ViewSync
from koinon.wire.consensus import ConsensusMessage

EARLY_MESSAGES: Final = 64
"""Messages of the next epoch that are kept of each validator."""
EARLY_BYTES: Final = 4 * 1024 * 1024
"""Bytes of transactions in the early blocks that are kept of each validator."""


def message_epoch(message: ConsensusMessage) -> Epoch | None:
    """The epoch a message speaks of; None for one that speaks of nothing."""
    match message:
        case PrepareBlock():
            return message.block.header.epoch
        case PrepareVote() | ViewChange():
            return message.epoch
        case Certified():
            return message.certificate.epoch
        case EpochSync():
            return message.proof.headers[0].epoch
        case ViewSync():
            entry = message.entry.certificate or message.entry.view_change
            return None if entry is None else entry.epoch


class EarlyMessages:
    """Messages of the epoch after the current one, by sender, until it is opened. Bounded for each sender."""

    def __init__(self) -> None:
        self._messages: defaultdict[NodeId, list[ConsensusMessage]] = defaultdict(list)
        self._bytes: defaultdict[NodeId, int] = defaultdict(int)

    def add(self, sender: NodeId, message: ConsensusMessage) -> bool:
        """Keep a message; False if its sender has used up its space, and the message is dropped."""
        size = 0
        if isinstance(message, PrepareBlock):
            size = sum(map(len, message.block.transactions))
        if len(self._messages[sender]) >= EARLY_MESSAGES or self._bytes[sender] + size > EARLY_BYTES:
            return False
        self._messages[sender].append(message)
        self._bytes[sender] += size
        return True

    def take(self) -> list[tuple[NodeId, ConsensusMessage]]:
        """Remove and give everything, in the order of each sender."""
        taken = [(sender, message) for sender, messages in self._messages.items() for message in messages]
        self._messages.clear()
        self._bytes.clear()
        return taken
