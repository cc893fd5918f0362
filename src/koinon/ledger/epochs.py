"""When epochs end and elections happen: heights, known from the start.

An epoch is the tenure of one validator set (the *round* of PlatON's documents); epoch 0 has the heights 1 to
``length``. The next set is elected ``lead`` blocks before an epoch's end, so that everybody knows it in time.
"""

from typing import Annotated

from msgspec import Meta

from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.kernel.quantities import Epoch, Height


class Epochs(Record, frozen=True):
    """How validators take turns; part of genesis.

    Attributes:
        length: blocks of an epoch.
        lead: blocks between an epoch's election and its end.
        seats: of the validator set.
        least: with so few fit validators, unfit ones keep their seats.
        alternates: how many candidates can be elected; the others have less stake.
        open: anybody may stake, and tips go to the staking contract, which shares them. Otherwise members vote on
            members, each has a seat, and tips go to the proposer's account.
        heartbeat: seconds without a final block after which one is made though nothing waits, so that epochs end, and
            with them what is frozen for some; 0 for never.
    """

    length: Annotated[int, Meta(ge=4, le=1_000_000)]
    lead: Annotated[int, Meta(ge=1, le=1_000_000)]
    seats: Annotated[int, Meta(ge=1, le=512)]
    least: Annotated[int, Meta(ge=1, le=512)]
    alternates: Annotated[int, Meta(ge=1, le=512)]
    open: bool
    heartbeat: Annotated[int, Meta(ge=0, le=86_400)] = 0

    def check(self) -> None:
        """Raise InvalidInput where the numbers contradict each other."""
        if self.lead >= self.length:
            raise InvalidInput("the election must come before its epoch's end: give lead less than length")
        if not self.least <= self.seats <= self.alternates:
            raise InvalidInput("an epoch needs least ≤ seats ≤ alternates")

    def epoch_of(self, height: int) -> Epoch:
        """The epoch of a block; genesis counts to the first."""
        return Epoch(max(0, height - 1) // self.length)

    def last_height(self, epoch: int) -> Height:
        """Height of the last block of an epoch."""
        return Height((epoch + 1) * self.length)

    def ends_at(self, height: int) -> bool:
        """Whether an epoch ends with the block of this height."""
        return height > 0 and height % self.length == 0

    def elects_at(self, height: int) -> bool:
        """Whether the next set is elected in the block of this height."""
        return self.ends_at(height + self.lead)
