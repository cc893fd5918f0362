"""One conversation with each peer, whoever dialled it, and what each peer may use of this node."""

import asyncio
from typing import Final

from koinon.kernel.errors import KoinonError, Unavailable
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.net.conversation import Conversation, Workload
from koinon.net.dispatch import Answers
from koinon.net.measures import NetMeasures
from koinon.net.pace import Pace, check_pace
from koinon.net.quota import Allowances, Quotas
from koinon.wire.frames import FrameStream

MOST_PER_PEER: Final = 4
"""Connections for messages that one peer may have open; beyond it the oldest is cut."""


class Peers:
    """All conversations of a node.

    When two nodes dial each other at once, both prefer the connection dialled by the smaller node id. The other is
    retired: nothing new is sent on it, what it carries is finished, and the end that dialled it hangs up.

    Args:
        node_id: this node.
        answers: what answers the peers' messages.
        pace: how slow peers may be.
        allowances: how much they may use.
        measures: where everything is counted.
    """

    def __init__(
        self, node_id: NodeId, answers: Answers, pace: Pace, allowances: Allowances, measures: NetMeasures
    ) -> None:
        self._node_id = node_id
        self._answers = answers
        self._measures = measures
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._messages = Quotas(allowances.messages_per_peer)
        self._bytes = Quotas(allowances.bytes_per_peer)
        self._preferred: dict[NodeId, Conversation] = {}
        self._conversations: set[Conversation] = set()
        self._workloads: dict[NodeId, Workload] = {}

    def preferred(self, peer: NodeId) -> Conversation | None:
        """The open conversation on which to send to ``peer``, if there is one."""
        current = self._preferred.get(peer)
        return current if current is not None and current.is_open else None

    def all(self) -> frozenset[Conversation]:
        """Every conversation, the retired ones too."""
        return frozenset(self._conversations)

    def adopt(self, stream: FrameStream, peer: NodeId, *, dialled: bool) -> Conversation:
        """Begin a conversation on a stream whose keys are proven."""
        workload = self._workloads.setdefault(peer, Workload())
        fresh = Conversation(
            stream,
            peer,
            dialled=dialled,
            answers=self._answers,
            workload=workload,
            throttle=self._throttle,
            measures=self._measures,
        )
        same = sorted((old for old in self._conversations if old.peer == peer), key=lambda old: old.began)
        for surplus in same[: max(0, len(same) + 1 - MOST_PER_PEER)]:
            surplus.stream.cut(Unavailable("the peer opened too many connections"))
        self._conversations.add(fresh)
        stream.closed.add_done_callback(lambda _: self._forget(fresh))
        current = self.preferred(peer)
        loser: Conversation | None = fresh
        if current is None or self._is_better(fresh, current):
            self._preferred[peer], loser = fresh, current
        if loser is not None and loser.retired is None:
            loser.retired = Seconds(self._loop.time())
        return fresh

    def cut(self, peer: NodeId, problem: KoinonError) -> None:
        """Hang up on a peer, whatever connections it has."""
        for conversation in tuple(self._conversations):
            if conversation.peer == peer:
                conversation.stream.cut(problem)

    def sweep(self, now: Seconds) -> None:
        """Cut peers that are too slow; close retired conversations once they are idle."""
        for conversation in tuple(self._conversations):
            check_pace(conversation.stream, self._pace, now, self._pace.stall)
            # The end that dialled hangs up first, so that requests of the other one on their way are still answered.
            patience = self._pace.retirement * (1 if conversation.dialled else 10)
            retired = conversation.retired
            if retired is not None and now - retired > patience and conversation.is_idle:
                conversation.stream.finish(Unavailable("another connection to this peer is in use"))
        for peer in [peer for peer, workload in self._workloads.items() if not workload.tasks]:
            if not any(conversation.peer == peer for conversation in self._conversations):
                del self._workloads[peer]

    async def stop_work(self) -> None:
        """Cancel whatever still works for a peer, and wait for its end."""
        tasks = [task for workload in self._workloads.values() for task in workload.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_better(self, fresh: Conversation, current: Conversation) -> bool:
        """Both ends judge alike: the smaller id's dial wins; of two dials by the same end, the newer."""
        if fresh.dialled == current.dialled:
            return True
        return fresh.dialled == (self._node_id < fresh.peer)

    def _forget(self, conversation: Conversation) -> None:
        self._conversations.discard(conversation)
        if self._preferred.get(conversation.peer) is conversation:
            del self._preferred[conversation.peer]

    def _throttle(self, peer: NodeId, size: int) -> Seconds:
        now = Seconds(self._loop.time())
        return max(self._messages.spend(peer, 1, now), self._bytes.spend(peer, size, now))
