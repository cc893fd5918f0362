"""The disposable child process of one committee position: ``koinon.privacy.rep4.worker:main``.

    node → Prepare     worker → Listening      (a transport of its own, under an ephemeral key)
    node → Run         worker → Progress …     then Output, or Aborted

An order that makes no sense is answered with Failure. Whatever happens, the worker answers Run within its deadline and
a few seconds, or dies.
"""

import asyncio
from typing import Final

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import encode
from koinon.kernel.effects import PromptLink
from koinon.kernel.errors import Forged, InvalidInput
from koinon.net.sockets import PROMPT_SOCKETS
from koinon.net.transport import Transport
from koinon.privacy.backend import Program
from koinon.privacy.estimate import estimate
from koinon.privacy.programs import registry
from koinon.privacy.rep4 import abort, links
from koinon.privacy.rep4.abort import CommitteeAbort
from koinon.privacy.rep4.agreement import testimony
from koinon.privacy.rep4.connecting import connected
from koinon.privacy.rep4.hearing import is_disputed, names_one, open_view
from koinon.privacy.rep4.order import accepted_input, terms_of, workers_of
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.seals import SEAL_DOMAIN
from koinon.privacy.rep4.session import Outcome, take_part
from koinon.privacy.rep4.shares import Shares
from koinon.privacy.rep4.signing import NodeSignatures, Signatures
from koinon.privacy.rep4.tampering import FaultyParty
from koinon.privacy.rep4.transcript import RecordedRng, RecordedSignatures, Transcript
from koinon.privacy.seats import check_seats, expect, prepared, serve
from koinon.privacy.sharing import check_same_run
from koinon.wire.catalogue import from_frame as from_frame
from koinon.wire.catalogue import to_frame as to_frame
from koinon.wire.committee import POSITIONS, Aborted, Listening, Output, Prepare, Progress, Run, SealedDispute
from koinon.worker.channel import AsyncChannel

_ROUNDS_PER_PROGRESS: Final = 25
_CONNECTING_SECONDS: Final = 15.0
_LARGEST_VIEW: Final = 192 * 1024**2
"""Bytes that fit the channel to the node; a run whose view is larger leaves its dispute at the pair."""


async def main(channel: AsyncChannel) -> None:
    """Take part in one run and end."""
    await serve(channel, _serve)


async def _serve(channel: AsyncChannel) -> None:
    prepare = await prepared(channel)
    key = NodeKey.from_seed(prepare.seed)
    async with Transport.open(key, prepare.host, sockets=PROMPT_SOCKETS) as transport:
        await channel.send(to_frame(Listening(key.node_id, transport.endpoint.port)))
        run = await expect(channel, Run)
        program = _agreed_program(prepare, run, key)
        transcript = Transcript()
        signatures = RecordedSignatures(NodeSignatures(key, workers_of(run.peers)), transcript, SEAL_DOMAIN)
        party = _party(prepare, run, signatures, transcript)
        try:
            async with asyncio.timeout(run.deadline_seconds + 2 * _CONNECTING_SECONDS):
                outcome = await _take_part(channel, transport, party, prepare, run, program)
        except CommitteeAbort as problem:
            if transcript.complete and is_disputed(problem.complaint, prepare.position):
                view = to_frame(open_view(key, prepare.session, prepare.position, run, transcript))
                if len(view) <= _LARGEST_VIEW:
                    await channel.send(view)
            await channel.send(to_frame(_aborted(problem, party, prepare, run)))
        except TimeoutError:
            await channel.send(to_frame(_aborted(party.complain(abort.WITHDRAWN), party, prepare, run)))
        else:
            await channel.send(to_frame(_output(party, outcome)))


async def _take_part(
    channel: AsyncChannel, transport: Transport, party: Party, prepare: Prepare, run: Run, program: Program
) -> Outcome:
    reports: set[asyncio.Task[None]] = set()
    total = estimate(program).rounds

    def report(rounds: int) -> None:
        if rounds % _ROUNDS_PER_PROGRESS == 0:
            progress = Progress("compute", min(rounds, total), total)
            reports.add(task := asyncio.create_task(channel.send(to_frame(progress))))
            task.add_done_callback(reports.discard)

    patience = min(_CONNECTING_SECONDS, run.deadline_seconds)
    async with connected(transport, party, prepare.session, run.peers, patience) as peers:
        inputs = await _accepted_inputs(party, prepare, run, program, peers)
        rng = SystemRng() if party.transcript is None else RecordedRng(SystemRng(), party.transcript)
        protocol = take_part(party, prepare.session, program, inputs, rng)
        outcome: Outcome = await links.run(
            party,
            protocol,
            peers,
            silence_seconds=run.silence_seconds,
            deadline_seconds=run.deadline_seconds,
            progress=report,
        )
        await asyncio.gather(*reports)
        return outcome


async def _accepted_inputs(
    party: Party, prepare: Prepare, run: Run, program: Program, peers: dict[int, PromptLink]
) -> list[Shares]:
    """Check every package against its manifest and the program. Raises CommitteeAbort, after telling the peers."""
    accepted = []
    for number, each in enumerate(run.inputs):
        try:
            accepted.append(accepted_input(each, program, number, prepare.position))
        except (Forged, InvalidInput):
            problem = party.reject_input(number)
            await links.say_farewell(peers, problem)
            raise problem from None
    return accepted


def _agreed_program(prepare: Prepare, run: Run, key: NodeKey) -> Program:
    """Check what the node asks for before anything is connected. Raises InvalidInput, Forged or Refused."""
    check_seats(prepare, run, key)
    if run.algorithm != registry.algorithm_hash(run.program):
        raise InvalidInput(f"this node's {run.program} is not the algorithm of the study; install the agreed version")
    program = registry.load(run.program, run.parameters)
    if len(run.inputs) != len(program.shapes):
        raise InvalidInput(f"the study has {len(program.shapes)} owners; {len(run.inputs)} inputs were given")
    check_same_run([each.manifest for each in run.inputs])
    estimate(program)
    return program


def _party(prepare: Prepare, run: Run, signatures: Signatures, transcript: Transcript) -> Party:
    session = terms_of(prepare.session, run).digest()
    if run.fault is not None:
        return FaultyParty(prepare.position, session, signatures, transcript, run.fault)
    return Party(prepare.position, session, signatures, transcript)


def _output(party: Party, outcome: Outcome) -> Output:
    zeroth, first, second, third = (outcome.statements[position] for position in POSITIONS)
    return Output(outcome.package, outcome.digest, (zeroth, first, second, third), party.round, party.bytes_sent)


def _aborted(problem: CommitteeAbort, party: Party, prepare: Prepare, run: Run) -> Aborted:
    sender, backup, receiver = problem.triple
    suspects = tuple(sorted(problem.suspects))
    complaint = problem.complaint
    dispute = None if problem.evidence is None else SealedDispute(prepare.session, run.peers, problem.evidence)
    shown = testimony(party, problem)
    told = SealedDispute(prepare.session, run.peers, None, shown) if shown else None
    if told is not None and dispute is None and names_one(told):
        dispute, told = told, None
    return Aborted(str(problem), sender, backup, receiver, suspects, complaint.input, encode(complaint), dispute, told)
