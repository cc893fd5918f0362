"""A study whose committee holds a liar, seen through to its end: what is left is evidence and views."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from contracts_world import PROVIDERS
from msgspec.structs import replace as replace_fields
from node_joins_world import IDS, draft_of, ordered, owner_of, publisher_of
from node_market_world import Network

from koinon.contracts.eip712 import handed_digest
from koinon.contracts.judgements import HearingStage
from koinon.jobs.member import Waits
from koinon.journey.results import Study, Trained
from koinon.kernel.errors import Forged, Refused
from koinon.kernel.quantities import Seconds
from koinon.node import orders
from koinon.node.context import Context
from koinon.node.roles.cases import CasesRole
from koinon.node.roles.compute import ComputeRole
from koinon.node.roles.judge import JudgeRole
from koinon.privacy.opening import handed_digests
from koinon.wire.catalogue import Message
from koinon.wire.discovery import Endpoint
from koinon.wire.studies import DeliverOutput

LIAR_SEAT = 2
PATIENT = Waits(silence_seconds=20)
"""Nobody honest is silent for so long, on however slow a machine."""
ENOUGH_SECONDS = 300


@dataclass
class Stopped:
    """A study that ended over a lie.

    Attributes:
        providers: every provider's node by account; four of them sat in the committee.
        committee: accounts by position.
        honest: the other of the two that the evidence accuses.
        receiver: who has the evidence.
    """

    network: Network
    study: int
    owners: list[Context]
    publisher: Context
    providers: dict[bytes, Context]
    committee: tuple[bytes, ...]
    honest: Context = field(init=False)
    receiver: Context = field(init=False)

    async def settle(self) -> None:
        """Wait until members have written their files, which the chain does not wait for, and see who is who."""
        await until(lambda: len(self.kept("view")) == 2 and bool(self.kept("evidence")))
        (honest,) = set(self.kept("view")) - {LIAR_SEAT}
        (receiver,) = self.kept("evidence")
        self.honest, self.receiver = self.at(honest), self.at(receiver)

    def at(self, position: int) -> Context:
        return self.providers[self.committee[position]]

    def kept(self, kind: str) -> dict[int, Path]:
        """What members kept of the disputed run, by position."""
        name = f"study-{self.study}-attempt-1.{kind}"
        files = {position: self.at(position).home.disputes / name for position in range(4)}
        return {position: file for position, file in files.items() if file.is_file()}

    @property
    def liar(self) -> Context:
        return self.at(LIAR_SEAT)


async def provider_of(network: Network, name: str) -> Context:
    """A provider's node that computes, judges, and lies when it is told to."""
    context = await network.node(name, ("compute",))
    context.config = replace(context.config, allow_faults=True, committee=PATIENT)
    for role in (ComputeRole, JudgeRole, CasesRole):
        role(context).attach()
    context.spawn(context.feed.follow(), "feed")
    return context


async def stopped_by_a_lie(network: Network, round_number: int | None = None) -> Stopped:
    """Propose and train with whoever is drawn for one seat lying; the study ends, and everybody has its money back.

    Args:
        round_number: in which it lies; None for the middle of the computation, where two can be accused.
    """
    publisher = await publisher_of(network)
    CasesRole(publisher).attach()
    owners = [await owner_of(network, name, IDS[name]) for name in ("north", "south")]
    providers = [await provider_of(network, name) for name in PROVIDERS]
    for context in providers:
        await ordered(context, "fault.lie", _lie(round_number), orders.Nothing)
    draft = draft_of(("north", "south"), "psi").replace("maximum_attempts = 2", "maximum_attempts = 1")
    study = await ordered(publisher, "study.propose", orders.ProposeStudy(draft), Study)
    with pytest.raises(Refused, match="ended without a result"):
        await ordered(publisher, "study.train", study, Trained)
    committee = await network.suite.studies.committee_of(study.number, 0)
    by_account = {bytes(context.account): context for context in providers}
    stopped = Stopped(network, study.number, owners, publisher, by_account, committee)
    if round_number is None:
        await stopped.settle()
    return stopped


def _lie(round_number: int | None) -> orders.Lie:
    return orders.Lie(0, LIAR_SEAT) if round_number is None else orders.Lie(0, LIAR_SEAT, round_number)


async def completed_with_a_false_output(network: Network) -> tuple[int, Context, dict[bytes, Context]]:
    """A study that completes although one member hands over another output than it agreed on, and signs that.

    Returns:
        The study, its publisher, and the providers by account.
    """
    publisher = await publisher_of(network)
    CasesRole(publisher).attach()
    for name in ("north", "south"):
        await owner_of(network, name, IDS[name])
    providers = [await provider_of(network, name) for name in PROVIDERS]
    handed = [_handing_over_something_else(network, context) for context in providers]
    draft = draft_of(("north", "south"), "psi")
    study = await ordered(publisher, "study.propose", orders.ProposeStudy(draft), Study)
    await ordered(publisher, "study.train", study, Trained)
    await until(lambda: any(event.is_set() for event in handed))
    return study.number, publisher, {bytes(context.account): context for context in providers}


def _handing_over_something_else(network: Network, context: Context) -> asyncio.Event:
    """At one seat a bit of the output is another, and the account signs it; set once the result party has taken it."""
    right, taken = context.transport.call, asyncio.Event()

    async def call(endpoint: Endpoint, message: Message, *seconds: Seconds) -> Message:
        if not isinstance(message, DeliverOutput) or message.position != LIAR_SEAT:
            return await right(endpoint, message, *seconds)
        output = message.output
        first, *others = output.components
        changed = replace_fields(first, values=bytes([first.values[0] ^ 1]) + first.values[1:])
        output = replace_fields(output, components=(changed, *others))
        domain = await network.suite.judgements.domain()
        digest = handed_digest(domain, message.study, message.attempt, LIAR_SEAT, handed_digests(output))
        signed = context.keys.account.sign_digest(digest)
        with pytest.raises(Forged, match="the signature on the components"):
            await right(endpoint, replace_fields(message, output=output), *seconds)
        answer = await right(endpoint, replace_fields(message, output=output, handed=signed), *seconds)
        taken.set()
        return answer

    context.transport.call = call  # type: ignore[method-assign]
    return taken


async def until(reached: Callable[[], bool | Awaitable[bool]]) -> None:
    """Look again and again, while the nodes work, until something is so."""
    async with asyncio.timeout(ENOUGH_SECONDS):
        while True:
            found = reached()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.05)


async def stages(network: Network, case: int) -> tuple[HearingStage, HearingStage]:
    """Where the hearings of both accused stand."""
    contract = network.suite.judgements
    return (await contract.hearing_of(case, 0)).stage, (await contract.hearing_of(case, 1)).stage


async def is_closed(network: Network, case: int) -> bool:
    return (await network.suite.judgements.case_of(case)).closed
