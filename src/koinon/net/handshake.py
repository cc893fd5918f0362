"""How two nodes prove their keys to each other over TLS.

1. The server's TLS certificate is for its node key, so the TLS handshake proves that it holds it; the client compares
   the key with the one it called and hangs up if they differ.
2. The server sends a challenge: 32 random bytes.
3. The client answers with its node id and a signature over server id, challenge and what it wants.
4. The server checks signature and admission, and says welcome or why not.

Against whom: somebody on the network between them can neither read nor change nor impersonate, since the channel ends
at the holder of the server's key. A server that is dialled on purpose cannot pass the client's signature on to another
server, since the signature names the server it was made for; nor use it again, since each challenge is new. What the
client signs is not bound to TLS keys (Python offers no exporter): whoever has stolen the *server's* key can sit in the
middle of its connections, which the stolen key would allow anyway.
"""

import asyncio
from collections.abc import Callable
from typing import Annotated, Final, Protocol

from msgspec import Meta

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey, verify_node_signature
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import Forged, KoinonError, MalformedMessage, Refused, Unavailable
from koinon.kernel.ids import NodeId, to_hex
from koinon.net.certificate import certified_key
from koinon.wire.catalogue import Failure
from koinon.wire.failures import error_of, failure_of
from koinon.wire.frames import FrameHead, FrameStream

CHALLENGE: Final = FrameHead(1, 0, 0)
PROOF: Final = FrameHead(2, 0, 0)
WELCOME: Final = FrameHead(3, 0, 0)
REFUSAL: Final = FrameHead(4, 0, 0)

_VERSION: Final = 1
_DOMAIN: Final = "koinon/transport/1"
_CHALLENGE_BYTES: Final = 32
_GREETING_BYTES: Final = 2048
_LABEL_BYTES: Final = 200


class Purpose(Record, frozen=True):
    """What a connection is for: messages, or one link of raw frames with a label both ends know."""

    version: int
    label: Annotated[str, Meta(max_length=_LABEL_BYTES)] | None


class Proof(Record, frozen=True):
    """The client's part."""

    node_id: Annotated[NodeId, Meta(min_length=32, max_length=32)]
    purpose: Purpose
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


class Session(Protocol):
    """What runs over a connection once both keys are proven."""

    def body_limit(self, head: FrameHead) -> int: ...

    def frame_received(self, head: FrameHead, body: bytes | bytearray) -> None: ...

    def ended(self, problem: KoinonError) -> None: ...


class GreetingStream(FrameStream):
    """A stream that becomes a session when the greeting has succeeded.

    Attributes:
        greeted: done when the session has begun, or failed with the reason why not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.greeted: asyncio.Future[None] = self._loop.create_future()
        self._session: Session | None = None

    def body_limit(self, head: FrameHead) -> int:
        return _GREETING_BYTES if self._session is None else self._session.body_limit(head)

    def frame_received(self, head: FrameHead, body: bytes | bytearray) -> None:
        if self._session is not None:
            self._session.frame_received(head, body)
        else:
            self._greet(head, bytes(body))

    def ended(self, problem: KoinonError) -> None:
        if self._session is not None:
            self._session.ended(problem)
        if not self.greeted.done():
            self.greeted.set_exception(problem)
            self.greeted.exception()  # whoever waited may have left by now

    def _begin(self, session: Session) -> None:
        self._session = session
        if not self.greeted.done():
            self.greeted.set_result(None)

    def _greet(self, head: FrameHead, body: bytes) -> None:
        raise MalformedMessage(f"a frame of kind {head.kind} with {len(body)} bytes has no place in a greeting")


class CallingStream(GreetingStream):
    """The client's side. ``begin`` makes the session as soon as the server has said welcome."""

    def __init__(
        self, key: NodeKey, server: NodeId, label: str | None, begin: Callable[[FrameStream], Session]
    ) -> None:
        super().__init__()
        self._key = key
        self._server = server
        self._purpose = Purpose(_VERSION, label)
        self._begin_session = begin

    def opened(self) -> None:
        found = certified_key(self.transport_info("ssl_object").getpeercert(True))
        if found != self._server:
            raise Forged(
                f"node {to_hex(self._server)[:18]}… was called, but {to_hex(found)[:18]}… answers at that address; "
                "look its address up again"
            )

    def _greet(self, head: FrameHead, body: bytes) -> None:
        if head == CHALLENGE and len(body) == _CHALLENGE_BYTES:
            signature = self._key.sign(_DOMAIN, _statement(self._server, body, self._purpose))
            self.write_frame(PROOF, encode(Proof(self._key.node_id, self._purpose, signature)))
        elif head == WELCOME:
            self._begin(self._begin_session(self))
        elif head == REFUSAL:
            raise error_of(decode(Failure, body))
        else:
            super()._greet(head, body)


class CalledStream(GreetingStream):
    """The server's side. ``begin`` admits the client and makes the session, or raises what the client is told."""

    def __init__(self, server: NodeId, begin: Callable[[FrameStream, NodeId, str | None], Session]) -> None:
        super().__init__()
        self._server = server
        self._begin_session = begin
        self._challenge = SystemRng().bytes(_CHALLENGE_BYTES)

    def opened(self) -> None:
        self.write_frame(CHALLENGE, self._challenge)

    def _greet(self, head: FrameHead, body: bytes) -> None:
        if head != PROOF:
            super()._greet(head, body)
        try:
            proof = decode(Proof, body)
            if proof.purpose.version != _VERSION:
                raise Refused(f"this node speaks version {_VERSION}; yours is {proof.purpose.version}")
            statement = _statement(self._server, self._challenge, proof.purpose)
            verify_node_signature(proof.node_id, _DOMAIN, statement, proof.signature)
            session = self._begin_session(self, proof.node_id, proof.purpose.label)
        except KoinonError as problem:
            self.write_frame(REFUSAL, encode(failure_of(problem)))
            self.finish(Unavailable(f"the caller was refused: {problem}"))
            return
        self.write_frame(WELCOME)
        self._begin(session)


def _statement(server: NodeId, challenge: bytes, purpose: Purpose) -> bytes:
    return server + challenge + encode(purpose)
