"""The error tree.

KoinonError                     everything this package raises on purpose
├── InvalidInput                a user or a peer gave something unusable; nothing has changed
│   ├── MalformedMessage        bytes from outside that are no message of ours
│   └── Refused                 understood and permitted by format, but policy, state or budget says no
├── Forged                      a signature, hash or proof does not match what it claims to cover
├── Unavailable                 a peer, file, port or chain that is needed cannot be reached now
│   ├── Expired                 the deadline passed first
│   └── OutOfSpace              a disk or the file of a store is full
└── ProtocolAbort               a joint computation stopped because somebody deviated; names whom it can

A message says what was wrong with which input and what to do about it; it never holds a row, a share or a key.
"""

from collections.abc import Iterable


class KoinonError(Exception):
    """Base of every error raised on purpose."""


class InvalidInput(KoinonError):
    """A user or a peer gave something unusable; nothing has changed."""


class MalformedMessage(InvalidInput):
    """Bytes from outside that are no message of ours."""


class Refused(InvalidInput):
    """The request is well formed, but policy, state or budget says no."""


class Forged(KoinonError):
    """A signature, hash or proof does not match what it claims to cover."""


class Unavailable(KoinonError):
    """A peer, file, port or chain that is needed cannot be reached now."""


class Expired(Unavailable):
    """The deadline passed before the work was done."""


class OutOfSpace(Unavailable):
    """A disk, or the room that a store was given, is full; nothing was written."""


class ProtocolAbort(KoinonError):
    """A joint computation stopped because somebody deviated.

    Attributes:
        suspects: positions of the parties of whom at least one deviated; empty where nobody can be named.
    """

    def __init__(self, reason: str, suspects: Iterable[int] = ()) -> None:
        self.suspects = frozenset(suspects)
        named = " and ".join(str(position) for position in sorted(self.suspects))
        super().__init__(f"{reason} (one of: {named})" if named else reason)
