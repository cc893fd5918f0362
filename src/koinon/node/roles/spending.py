"""A data owner's privacy ledgers at work: commitments on the chain, questions the owner answers itself.

An entry is on disk before what it pays for leaves, and its commitment stands on the chain, beside the data set's asset,
before the consent or the answer does. A node that was put back to an old copy of its disk finds more commitments on the
chain than entries at home, and gives no answers until it has them again.
"""

import asyncio
import logging
from collections.abc import Callable
from math import isfinite
from typing import Final

from koinon.contracts.assets import Minted
from koinon.jobs.policy import read_policy
from koinon.jobs.spending import SALT_BYTES
from koinon.kernel.codec import decode
from koinon.kernel.errors import InvalidInput, Refused
from koinon.kernel.ids import Hash32
from koinon.node.context import Context
from koinon.node.datasets import Datasets
from koinon.node.orders import Answered, AskData
from koinon.node.privacy_ledger import PrivacyLedger, added
from koinon.node.tasks import Narrator
from koinon.privacy.differential.budget import OWN_ANSWER, Budget, commitment, head, pure_entry, spend

journal = logging.getLogger("koinon.data")
_AT_ONCE: Final = 64
"""Commitments that one transaction takes."""


class PrivacyDesk:
    """The privacy ledgers of one owner's data sets.

    Attributes:
        spending: held while what is left is computed and spent, so that two answers cannot both spend the last of it.
    """

    def __init__(self, context: Context, datasets: Datasets) -> None:
        self._context = context
        self._datasets = datasets
        self._noting = asyncio.Lock()
        self.ledger = PrivacyLedger(context.memory)
        self.spending = asyncio.Lock()

    def offer(self) -> None:
        """Offer the owner's own questions as a task."""
        self._context.board.offer("data.ask", self.ask)

    def budget(self) -> Budget:
        """What the policy allows in all. Raises InvalidInput where the policy cannot be read."""
        policy = read_policy(self._context.home.policy)
        return Budget(policy.privacy_epsilon, policy.privacy_delta)

    async def check_complete(self, dataset: bytes) -> None:
        """Refuse to answer where the chain knows of answers that this ledger does not.

        Raises:
            Refused: entries are missing here, or are not those that the chain holds commitments of.
        """
        asset = await self._asset_of(dataset)
        if asset is None:
            return
        notes = await self._context.suite.assets.notes_of(asset)
        commitments = [commitment(entry) for entry in self.ledger.entries(dataset)]
        if notes.count > len(commitments) or head(commitments[: notes.count]) != notes.head:
            raise Refused(
                f"the chain holds commitments to {notes.count} answers from this data set and this node's privacy"
                f" ledger has {len(commitments)} entries that are not the same; restore the newest copy of its database"
            )

    async def note(self, dataset: bytes) -> None:
        """Put the commitments that are not on the chain yet there. Without an asset there is no place for them."""
        async with self._noting:
            asset = await self._asset_of(dataset)
            if asset is None:
                journal.warning("data set %s… is no asset: its privacy ledger stays at home", dataset.hex()[:8])
                return
            assets = self._context.suite.assets
            known = (await assets.notes_of(asset)).count
            fresh = [commitment(entry) for entry in self.ledger.entries(dataset)[known:]]
            for start in range(0, len(fresh), _AT_ONCE):
                await assets.note(asset, known + start, fresh[start : start + _AT_ONCE])

    async def ask(self, argument: bytes, narrator: Narrator) -> Answered:
        """One noisy answer about the owner's rows, for the owner to publish: paid for, noted, then told.

        Raises:
            InvalidInput: no such data set, column or question.
            Refused: the budget does not cover it, or the ledger here is older than the chain's.
        """
        order = decode(AskData, argument)
        stored = [one for one in self._datasets.all() if one.dataset_hash.startswith(order.dataset_hash)]
        if len(stored) != 1 or not order.dataset_hash:
            raise InvalidInput(f"{len(stored)} data sets begin with {order.dataset_hash.hex()}; see: koinon data list")
        dataset = stored[0].dataset_hash
        table = await asyncio.to_thread(self._datasets.open, Hash32(dataset))
        place = table.schema.index(order.column)
        # The answer is computed first, so that a question that cannot be answered costs nothing, and told last.
        values = await asyncio.to_thread(_question(order), table.features[:, place], table.schema.columns[place])
        entry = pure_entry(OWN_ANSWER, 0, order.epsilon, self._context.rng.bytes(SALT_BYTES))
        await self.check_complete(dataset)
        async with self.spending:
            entries = self.ledger.entries(dataset)
            after = await asyncio.to_thread(spend, entries, entry, self.budget())
            self._context.memory.write(added(dataset, entries, after))
        await self.note(dataset)
        narrator.say(f"ε = {order.epsilon:g} spent", 1.0)
        return Answered(tuple(values))

    async def _asset_of(self, dataset: bytes) -> int | None:
        for found in await self._context.suite.assets.events(Minted, publisher=self._context.account):
            if found.event.content_hash == dataset:
                return found.event.asset_id
        return None


def _question(order: AskData) -> Callable[..., list[float]]:
    """The question with its arguments. Raises InvalidInput where there is no such question or they do not fit."""
    from koinon.privacy.differential import queries

    wanted = {"count": 2, "total": 0, "mean": 0, "histogram": 1, "quantile": 1}
    if order.question not in wanted or len(order.arguments) != wanted[order.question]:
        asked = ", ".join(f"{name} ({count} numbers)" for name, count in wanted.items())
        raise InvalidInput(f"the questions and how many numbers each takes: {asked}")
    epsilon, arguments = order.epsilon, order.arguments
    match order.question:
        case "count":
            return lambda rows, column: [queries.count(rows, column, arguments[0], arguments[1], epsilon)]
        case "histogram":
            bins = int(arguments[0]) if isfinite(arguments[0]) else 0
            return lambda rows, column: [float(one) for one in queries.histogram(rows, column, bins, epsilon)[0]]
        case "quantile":
            return lambda rows, column: [queries.quantile(rows, column, arguments[0], epsilon)]
        case "mean":
            return lambda rows, column: [queries.mean(rows, column, epsilon)]
    return lambda rows, column: [queries.total(rows, column, epsilon)]
