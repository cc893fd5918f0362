"""The child process of one member that keeps a model as shares, for as long as it is asked: ``…rep4.answering:main``.

    node → Prepare, KeepSharedModel          worker → Listening
    node → AnswerSharedQuestion …            worker → SharedQuestionDone, for each, in any order

The session of ``Prepare`` is the model's id. Every question is a run of its own among four such workers, with links and
keys of its own, so that one that fails harms no other; the shares of the weights are the same in all of them. Position
0 begins at most ``AT_ONCE`` questions side by side, and the others follow it.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from typing import Final

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Refused, Unavailable
from koinon.net.sockets import PROMPT_SOCKETS
from koinon.net.transport import Transport
from koinon.privacy.answering import check_question, model_id, question_id
from koinon.privacy.backend import Program
from koinon.privacy.estimate import estimate
from koinon.privacy.inference import FRACTION_BITS, SharedGraph
from koinon.privacy.rep4 import links
from koinon.privacy.rep4.connecting import connected
from koinon.privacy.rep4.order import accepted_input, workers_of
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.session import Outcome, Terms, take_part
from koinon.privacy.rep4.shares import Shares
from koinon.privacy.rep4.signing import NodeSignatures
from koinon.privacy.seats import check_certificates, expect, prepared, serve
from koinon.wire.catalogue import to_frame
from koinon.wire.committee import Listening, Prepare
from koinon.wire.failures import failure_of
from koinon.wire.inference import AnswerSharedQuestion, KeepSharedModel, SharedModelCard, SharedQuestionDone
from koinon.worker.channel import AsyncChannel

AT_ONCE: Final = 2
MOST_ROUNDS: Final = 20_000
MOST_TRAFFIC: Final = 4 << 30
"""Bytes over all four; a question that would take more is refused."""
MOST_QUESTIONS: Final = 1 << 16
"""Of one worker, which then makes room for a fresh one: it remembers each, to answer none twice under one key."""
_QUEUE_SECONDS: Final = 60.0
_DEADLINE_SECONDS: Final = 300.0
_SILENCE_SECONDS: Final = 30.0
_PROGRAM: Final = "shared-model/1"
_PROGRAMS_KEPT: Final = 16


async def main(channel: AsyncChannel) -> None:
    """Answer until the node closes the channel."""
    await serve(channel, _serve)


@dataclass
class _Member:
    """What one worker works with.

    Attributes:
        weights: this position's shares of them, checked against the manifest.
        answered: identities of all questions so far.
        programs: by the shape of the rows.
    """

    channel: AsyncChannel
    transport: Transport
    key: NodeKey
    prepare: Prepare
    card: SharedModelCard
    graph: SharedGraph
    weights: Shares
    turns: asyncio.Semaphore
    answered: set[bytes] = field(default_factory=set)
    programs: dict[tuple[int, ...], Program] = field(default_factory=dict)

    async def answer(self, order: AnswerSharedQuestion) -> None:
        """Take part in one question and tell the node how it ended."""
        try:
            outcome = await self._outcome(order)
            done = SharedQuestionDone(order.question, outcome.package)
        except KoinonError as problem:
            failure = failure_of(problem)
            done = SharedQuestionDone(order.question, None, failure.kind, failure.reason)
        except TimeoutError:
            done = SharedQuestionDone(
                order.question, None, "Expired", "the four nodes were not done in time; ask again"
            )
        with suppress(Unavailable):  # the node may need this worker no longer
            await self.channel.send(to_frame(done))

    async def _outcome(self, order: AnswerSharedQuestion) -> Outcome:
        manifest, position = order.rows.manifest, self.prepare.position
        if order.question != question_id(manifest) or order.question in self.answered:
            # A second run under the same keys would let its frames be taken for contradictions of the first.
            raise Refused("that question was asked before; share its rows anew")
        self.answered.add(order.question)
        if order.peers[position].ephemeral != self.key.node_id:
            raise InvalidInput("the question names another worker of this member")
        check_certificates(self.prepare.session, order.peers)
        if tuple(peer.node for peer in order.peers) != self.card.members:
            raise Forged("the question names other nodes than those that keep the model")
        rows = check_question(self.card, manifest)
        program = self._program(rows)
        terms = Terms(
            identity=order.question,
            program=_PROGRAM,
            algorithm=self.card.graph,
            parameters=self.prepare.session,
            result_party=manifest.owner,
            nodes=self.card.members,
            workers=workers_of(order.peers),
            manifests=(self.card.weights, manifest),
        )
        signatures = NodeSignatures(self.key, workers_of(order.peers))
        party = Party(position, terms.digest(), signatures)
        if position == 0:
            async with self.turns:
                return await self._run(party, order, program)
        return await self._run(party, order, program)

    def _program(self, rows: tuple[int, ...]) -> Program:
        """For questions of this shape; a few are kept. Raises InvalidInput or Refused."""
        if rows not in self.programs:
            if len(self.programs) >= _PROGRAMS_KEPT:
                self.programs.clear()
            self.programs[rows] = _affordable(self.graph.program(rows, self.card.largest), rows[0])
        return self.programs[rows]

    async def _run(self, party: Party, order: AnswerSharedQuestion, program: Program) -> Outcome:
        async with (
            asyncio.timeout(_QUEUE_SECONDS + _DEADLINE_SECONDS),
            connected(self.transport, party, order.question, order.peers, _QUEUE_SECONDS) as peers,
        ):
            try:
                asked = accepted_input(order.rows, program, 1, party.position)
            except (Forged, InvalidInput):
                problem = party.reject_input(1)
                await links.say_farewell(peers, problem)
                raise problem from None
            outcome: Outcome = await links.run(
                party,
                take_part(party, order.question, program, [self.weights, asked], SystemRng()),
                peers,
                silence_seconds=_SILENCE_SECONDS,
                deadline_seconds=_DEADLINE_SECONDS,
                progress=lambda _: None,
            )
            return outcome


def _affordable(program: Program, rows: int) -> Program:
    """Raises Refused where the model does not answer such a question, or not within bounds."""
    cost = estimate(program)
    if cost.rounds > MOST_ROUNDS or cost.traffic_bytes > MOST_TRAFFIC:
        raise Refused(f"a question of {rows} rows would take too long; ask about fewer at a time")
    return program


async def _serve(channel: AsyncChannel) -> None:
    prepare = await prepared(channel)
    kept = await expect(channel, KeepSharedModel)
    card = kept.card
    if model_id(card) != prepare.session:
        raise Forged("the model is not the one whose id the worker was given")
    graph = SharedGraph.of_bytes(kept.graph, card.places)
    program = _affordable(graph.program((1, *card.row), card.largest), 1)
    if program.fraction_bits != FRACTION_BITS or program.shapes[1] != (prod(card.row), 1):
        raise InvalidInput("the model's card and its graph do not fit together")
    weights = accepted_input(kept.weights, program, 0, prepare.position)
    key = NodeKey.from_seed(prepare.seed)
    opened = Transport.open(key, prepare.host, sockets=PROMPT_SOCKETS)
    async with opened as transport, asyncio.TaskGroup() as tasks:
        await channel.send(to_frame(Listening(key.node_id, transport.endpoint.port)))
        member = _Member(channel, transport, key, prepare, card, graph, weights, asyncio.Semaphore(AT_ONCE))
        while len(member.answered) < MOST_QUESTIONS:
            try:
                order = await expect(channel, AnswerSharedQuestion)
            except Unavailable:
                return  # the node needs this worker no longer
            tasks.create_task(member.answer(order))
    # The node hears why, and starts a fresh one.
    raise Unavailable(f"this worker has answered {MOST_QUESTIONS} questions, which is as many as it remembers")
