"""0x08xx: what an operator may ask of the node in the same house, over a socket only that operator can open."""

from koinon.wire.catalogue import Done, Message, message


@message(0x0801, limit=16 << 20)
class StatusReport(Message, frozen=True):
    """JSON text: name, node id, account, roles, chain height, peers, jobs, children, start-up and CPU seconds."""

    report: str


@message(0x0802, answers=(StatusReport,), limit=64)
class AskStatus(Message, frozen=True):
    """How is this node?"""


@message(0x0803, limit=128)
class TaskStarted(Message, frozen=True):
    """The task's number at this node."""

    task: int


@message(0x0804, answers=(TaskStarted,), limit=16 << 20)
class StartTask(Message, frozen=True):
    """Start a named task (``study.propose``, ``data.add`` …); ``argument`` is the encoding of that task's Record."""

    name: str
    argument: bytes


@message(0x0805, limit=16 << 20)
class TaskReport(Message, frozen=True):
    """Where a task stands.

    ``state`` is ``running``, ``done``, ``failed`` or ``cancelled``; ``notes`` are the sentences it has said since the
    note number asked for; ``result`` the encoding of its result when done; ``error_kind`` and ``error`` when failed.
    """

    state: str
    notes: tuple[str, ...]
    fraction: float
    result: bytes
    error_kind: str
    error: str


@message(0x0806, answers=(TaskReport,), limit=64)
class AskTask(Message, frozen=True):
    """Ask for the notes from number ``first_note`` on; waits up to a second for news."""

    task: int
    first_note: int


@message(0x0807, answers=(Done,), limit=64)
class CancelTask(Message, frozen=True):
    """Stop a running task; what it had put on the chain stays and runs into its own time-outs."""

    task: int


@message(0x0808, answers=(Done,), limit=64)
class StopNode(Message, frozen=True):
    """Shut the node down in order."""
