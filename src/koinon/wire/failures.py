"""Errors across a process boundary: which ``Failure`` tells of an error, and which error a ``Failure`` is raised as."""

from typing import Final

from koinon.kernel import errors
from koinon.kernel.errors import KoinonError, ProtocolAbort, Unavailable
from koinon.wire.catalogue import Failure

LONGEST_REASON: Final = 1000

_KINDS: Final[dict[str, type[KoinonError]]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, KoinonError)
}


def failure_of(error: KoinonError) -> Failure:
    """The answer that tells a peer of ``error``: the nearest class of the error tree, and its sentence."""
    kind = next(base.__name__ for base in type(error).__mro__ if base.__name__ in _KINDS)
    return Failure(kind=kind, reason=str(error)[:LONGEST_REASON])


def error_of(failure: Failure) -> KoinonError:
    """The error to raise for a peer's failure.

    A kind that is not in the tree becomes Unavailable: a peer of another version failed in its own way. Who is
    suspected of deviating does not travel: a peer's word for it proves nothing.
    """
    kind = _KINDS.get(failure.kind, Unavailable)
    reason = failure.reason[:LONGEST_REASON]
    return ProtocolAbort(reason) if kind is ProtocolAbort else kind(reason)
