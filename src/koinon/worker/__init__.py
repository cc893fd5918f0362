"""Supervised child processes for work that is heavy or not to be trusted: a child's death is an event, never ours."""

from koinon.worker.channel import AsyncChannel, Channel
from koinon.worker.limits import Exit, ExitReason, Limits
from koinon.worker.supervisor import Worker

__all__ = ["AsyncChannel", "Channel", "Exit", "ExitReason", "Limits", "Worker"]
