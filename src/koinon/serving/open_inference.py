"""The data plane: Open Inference Protocol v2 as a raw ASGI application, one model per service, no framework in between.

A call is checked whole, then let in by its gate, then answered, then logged; only what is on disk leaves. Whatever is
wrong with a call is said in one sentence, as ``{"error": …}``, and nothing is charged.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from koinon import __version__
from koinon.audit.receipt_log import Draft, ReceiptLog, Stamped
from koinon.kernel.codec import encode
from koinon.kernel.effects import Clock
from koinon.kernel.errors import Expired, Forged, InvalidInput, KoinonError, MalformedMessage, Refused, Unavailable
from koinon.kernel.ids import Hash32, to_hex
from koinon.market.gate import Gate, Permit
from koinon.market.payments import Credentials, PaymentRequired
from koinon.serving.requests import (
    CallHeaders,
    Headers,
    HttpProblem,
    Receive,
    RequestLimits,
    Scope,
    Send,
    check_method,
    parse_integer,
    read_body,
)
from koinon.serving.tensors import DATATYPE, InferenceRequest, Matrix, Signature, decode_request, encode_response

Predict: TypeAlias = Callable[[NDArray[np.float32]], Awaitable[NDArray[np.float32]]]
"""float32 (N, columns) to float32 (N,)."""

_JSON: Final = (b"content-type", b"application/json")
_BINARY: Final = (b"content-type", b"application/octet-stream")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_encoder: Final = msgspec.json.Encoder()


@dataclass(frozen=True)
class ServedModel:
    """One model behind the protocol.

    Attributes:
        name: as in ``/v2/models/{name}``.
        weights: SHA-256 of its ONNX bytes, shown in the metadata and in every receipt.
        predict: the sandboxed model.
        gate: decides who may call and who pays.
        receipts: log of answers; None only where nobody needs to check anything, such as a local trial.
        parameters: more public facts for the metadata, such as the service's number and price.
        ready: whether the model would answer now.
    """

    name: str
    version: str
    signature: Signature
    weights: Hash32
    predict: Predict
    gate: Gate
    receipts: ReceiptLog | None
    parameters: Mapping[str, str | int | bool] = field(default_factory=dict)
    ready: Callable[[], bool] = lambda: True

    def __post_init__(self) -> None:
        if not _NAME.match(self.name) or not _NAME.match(self.version):
            raise InvalidInput(
                f"a model's name and version are up to 128 letters, digits, '.', '_' and '-'; got {self.name[:128]!r}"
            )


@dataclass(frozen=True)
class _Reply:
    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = (_JSON,)


_EMPTY: Final = _Reply(200, b"{}")
_STATUS_OF: Final[tuple[tuple[type[KoinonError], int], ...]] = (
    (PaymentRequired, 402),
    (Refused, 403),
    (MalformedMessage, 400),
    (InvalidInput, 400),
    (Forged, 403),
    (Expired, 504),
    (Unavailable, 503),
)


class OpenInference:
    """The ASGI application. Serves several models; each has its own gate and log.

    Attributes:
        answered: calls answered since start.
        refused: calls refused since start, by HTTP status.
    """

    def __init__(self, models: Iterable[ServedModel], clock: Clock, limits: RequestLimits | None = None) -> None:
        self._models = {model.name: model for model in models}
        self._clock = clock
        self._limits = limits or RequestLimits()
        self._calls = 0
        self.answered = 0
        self.refused: dict[int, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request, or the lifespan conversation."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            reply = await self._reply(scope, receive)
        except KoinonError as problem:
            reply = _problem_reply(problem)
            self.refused[reply.status] = self.refused.get(reply.status, 0) + 1
        headers = [*reply.headers, (b"content-length", str(len(reply.body)).encode())]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    async def _reply(self, scope: Scope, receive: Receive) -> _Reply:
        parts = scope["path"].strip("/").split("/")
        match parts:
            case ["v2", "models", name, *rest]:
                model = self._model(name)
                if len(rest) >= 2 and rest[0] == "versions":
                    if rest[1] != model.version:
                        raise HttpProblem(404, f"model {name!r} has version {model.version!r} only")
                    rest = rest[2:]
                match rest:
                    case ["infer"]:
                        check_method(scope, "POST")
                        return await self._infer(model, scope, receive)
                    case ["ready"]:
                        check_method(scope, "GET")
                        return _EMPTY if model.ready() else _not_ready(f"model {name!r} is not ready")
                    case []:
                        check_method(scope, "GET")
                        return _Reply(200, _encoder.encode(_metadata(model)))
            case ["v2", "health", "live"]:
                check_method(scope, "GET")
                return _EMPTY
            case ["v2", "health", "ready"]:
                check_method(scope, "GET")
                ready = all(model.ready() for model in self._models.values())
                return _EMPTY if ready else _not_ready("a model is not ready")
            case ["v2"]:
                check_method(scope, "GET")
                about = {"name": "koinon", "version": __version__, "extensions": ["binary_tensor_data"]}
                return _Reply(200, _encoder.encode(about))
            case ["koinon", "receipts", sequence]:
                check_method(scope, "GET")
                return await self._receipt(self._only_model(), sequence)
            case ["koinon", "services", name, "receipts", sequence]:
                check_method(scope, "GET")
                return await self._receipt(self._model(name), sequence)
        raise HttpProblem(404, "there is nothing at this address; the models are under /v2/models/{name}")

    def _model(self, name: str) -> ServedModel:
        model = self._models.get(name)
        if model is None:
            raise HttpProblem(404, f"no model {name[:128]!r} is served here")
        return model

    def _only_model(self) -> ServedModel:
        if len(self._models) != 1:
            raise HttpProblem(404, "several models are served here; ask /koinon/services/{name}/receipts/{sequence}")
        return next(iter(self._models.values()))

    async def _infer(self, model: ServedModel, scope: Scope, receive: Receive) -> _Reply:
        if self._calls >= self._limits.calls:
            raise HttpProblem(
                429, f"{self._limits.calls} calls are in progress; try again in a moment", (b"retry-after", b"1")
            )
        self._calls += 1
        try:
            headers = CallHeaders.read(scope["headers"])
            body = await read_body(headers, receive, self._limits)
            request = decode_request(body, headers.header_length, model.signature, self._limits.rows)
            return await self._answer(model, headers.credentials, body, request)
        finally:
            self._calls -= 1

    async def _answer(
        self, model: ServedModel, credentials: Credentials, body: bytes, request: InferenceRequest
    ) -> _Reply:
        if model.receipts is not None:
            model.receipts.check_writable()
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                permit = await model.gate.admit(credentials, len(request.matrix))
                try:
                    answer = await _checked(model.predict, request.matrix)
                    response, json_length = encode_response(model.name, model.version, request, model.signature, answer)
                except BaseException:
                    permit.failed()
                    raise
        except TimeoutError:
            raise Expired(f"no answer within {self._limits.answer_seconds:g} s; nothing was charged") from None
        headers: Headers = [_JSON] if json_length is None else [_BINARY]
        if json_length is not None:
            headers.append((b"inference-header-content-length", str(json_length).encode()))
        if model.receipts is None:
            permit.answered()
        else:
            draft = Draft(model.weights, body, response, self._clock.unix(), permit.payment)
            headers += _receipt_headers(await _stamp(model.receipts, draft, permit))
        self.answered += 1
        return _Reply(200, response, tuple(headers))

    async def _receipt(self, model: ServedModel, text: str) -> _Reply:
        if model.receipts is None:
            raise HttpProblem(404, f"model {model.name!r} keeps no receipts")
        sequence = parse_integer(text, "the sequence of a receipt")
        if sequence >= model.receipts.count:
            raise HttpProblem(404, f"receipt {sequence} does not exist; there are {model.receipts.count}")
        proof = await model.receipts.prove(sequence)
        shown = {
            "sequence": proof.receipt.sequence,
            "service": proof.receipt.service,
            "node": to_hex(proof.receipt.node),
            "weights": to_hex(proof.receipt.weights),
            "answered_at": proof.receipt.answered_at,
            "batch_root": to_hex(proof.signed.batch.root),
            "encoded": to_hex(encode(proof)),
        }
        return _Reply(200, _encoder.encode(shown))


async def _stamp(log: ReceiptLog, draft: Draft, permit: Permit) -> Stamped:
    stamping = log.append(draft)

    def close(done: asyncio.Future[Stamped]) -> None:
        if done.exception() is None:
            permit.answered()
        else:
            permit.failed()

    # The receipt's fate decides about the money, even where the caller has gone away meanwhile.
    stamping.add_done_callback(close)
    return await asyncio.shield(stamping)


async def _checked(predict: Predict, matrix: Matrix) -> NDArray[np.float32]:
    answer = await predict(matrix)
    if answer.shape != (len(matrix),) or not np.isfinite(answer).all():
        raise Unavailable("the model gave no usable answer to this input; nothing was charged")
    return answer


def _receipt_headers(stamped: Stamped) -> Headers:
    return [
        (b"koinon-receipt", f"{stamped.receipt.sequence}:{stamped.hash.hex()}".encode()),
        (b"koinon-receipt-salt", stamped.salt.hex().encode()),
    ]


def _not_ready(reason: str) -> _Reply:
    return _Reply(503, _encoder.encode({"error": reason}))


def _metadata(model: ServedModel) -> dict[str, object]:
    signature = model.signature
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": signature.input_name, "datatype": DATATYPE, "shape": [-1, signature.columns]}],
        "outputs": [{"name": signature.output_name, "datatype": DATATYPE, "shape": [-1]}],
        "parameters": {"weights": to_hex(model.weights), **model.parameters},
    }


def _problem_reply(problem: KoinonError) -> _Reply:
    body = _encoder.encode({"error": str(problem)})
    if isinstance(problem, HttpProblem):
        return _Reply(problem.status, body, (_JSON, *problem.headers))
    status = next((code for kind, code in _STATUS_OF if isinstance(problem, kind)), 500)
    if isinstance(problem, PaymentRequired) and problem.due is not None:
        return _Reply(status, body, (_JSON, (b"koinon-due", str(problem.due).encode())))
    return _Reply(status, body)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
