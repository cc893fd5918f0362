"""The data plane against callers that write HTTP by hand: addresses, methods, bodies, encodings, time, crowds."""

import asyncio
import gzip
import json
import zlib
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_world import SIGNATURE, mean_of_row, running, served_model

from koinon.kernel.errors import InvalidInput
from koinon.kernel.quantities import Seconds
from koinon.serving import bounded_http
from koinon.serving.open_inference import RequestLimits, ServedModel
from koinon.serving.server import Served
from koinon.serving.tensors import decode_request

BODY = b'{"inputs":[{"name":"features","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}'
INFER = "/v2/models/risk/infer"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        return json.loads(self.body)["error"]


async def exchange(served: Served, request: bytes) -> Reply:
    """Send raw bytes on a fresh connection and read one reply."""
    reader, writer = await asyncio.open_connection(served.host, served.port)
    try:
        writer.write(request)
        return await read_reply(reader)
    finally:
        writer.close()
        await writer.wait_closed()


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return Reply(int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"])))


def request(
    method: str = "POST", path: str = INFER, body: bytes = BODY, *headers: str, length: int | None = None
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: here", *headers]
    if body or length is not None:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


BAD_REQUESTS = [
    (request("GET"), 405, "takes POST only"),
    (request("POST", "/v2", b""), 405, "takes GET only"),
    (request("POST", "/v2/models/risk", b""), 405, "takes GET only"),
    (request("GET", "/", b""), 404, "nothing at this address"),
    (request("GET", "/v2/models/risk/stats", b""), 404, "nothing at this address"),
    (request("GET", "/v2/models/other", b""), 404, "no model 'other'"),
    (request("GET", "/v2/models/risk/versions/2/ready", b""), 404, "has version '1' only"),
    (request("GET", "/koinon/receipts/0", b""), 404, "keeps no receipts"),
    (request(body=b""), 400, "not an Open Inference v2 request"),
    (request(body=b"\xff\xfe"), 400, "not an Open Inference v2 request"),
    (request(body=b'{"inputs":[]}'), 400, "takes one input"),
    (request(body=BODY.replace(b"[1,3]", b"[1,-3]")), 400, "not an Open Inference v2 request"),
    (request(body=BODY.replace(b"[1,3]", b"[" + b"9" * 9_000 + b",3]")), 400, "not an Open Inference v2 request"),
    (request(body=BODY.replace(b"[1,3]", b"[0,3]")), 400, "must have shape [rows, 3]"),
    (request(body=BODY.replace(b"[1,3]", b"[1e3,3]")), 400, "not an Open Inference v2 request"),
    (request(body=BODY.replace(b"[1,3]", b"[99999999999999999999,3]")), 400, "not an Open Inference v2 request"),
    (request(body=BODY.replace(b"[1,2,3]", b"[[1,2],[3]]")), 400, "each row"),
    (request(body=BODY.replace(b"[1,2,3]", b"[NaN,2,3]")), 400, "not an Open Inference v2 request"),
    (request(body=BODY.replace(b"[1,2,3]", b"null")), 400, "list of numbers"),
    (request(body=BODY.replace(b',"data":[1,2,3]', b"")), 400, "list of numbers"),
    (request(body=BODY + b"\0" * 4), 400, "not an Open Inference v2 request"),
    (request("POST", INFER, BODY + bytes(4), f"Inference-Header-Content-Length: {len(BODY)}"), 400, "no input has"),
    (request("POST", INFER, BODY, "Inference-Header-Content-Length: 0"), 400, "does not fit a body"),
    (request("POST", INFER, BODY, "Inference-Header-Content-Length: 9999"), 400, "does not fit a body"),
    (request("POST", INFER, BODY, "Inference-Header-Content-Length: -1"), 400, "must be a decimal number"),
    (request("POST", INFER, BODY, "Koinon-Pass: 1", "Koinon-Pass: 2"), 400, "koinon-pass is sent twice"),
    (request("POST", INFER, BODY, "Content-Encoding: br"), 415, "gzip, deflate or none"),
    (request("POST", INFER, BODY, "Content-Encoding: gzip"), 400, "not gzip data"),
    (request("POST", INFER, gzip.compress(BODY)[:-4], "Content-Encoding: gzip"), 400, "cut short"),
    (request("POST", INFER, gzip.compress(BODY) + b"x", "Content-Encoding: gzip"), 400, "behind its end"),
    (request("POST", INFER, zlib.compress(bytes(10**7)), "Content-Encoding: deflate"), 413, "longer than the 65536"),
    (request(body=b"", length=65_537), 413, "longer than the 65536"),
    (request(body=BODY.replace(b"[1,2,3]", b"[1,2,3" + b" " * 70_000 + b"]")), 413, "longer than the 65536"),
]


@pytest.mark.parametrize(("raw", "status", "sentence"), BAD_REQUESTS)
async def test_a_bad_request_gets_its_status_and_one_sentence(raw: bytes, status: int, sentence: str) -> None:
    async with running(served_model(), RequestLimits(body_bytes=65_536)) as served:
        reply = await exchange(served, raw)
        assert (reply.status, reply.headers["content-type"]) == (status, "application/json")
        assert sentence in reply.error
        assert (await exchange(served, request())).status == 200


async def test_a_body_in_chunks_is_bounded_too() -> None:
    async with running(served_model(), RequestLimits(body_bytes=4_096)) as served:
        chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
        raw = f"POST {INFER} HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunk * 2
        assert (await exchange(served, raw)).status == 413
        whole = b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"
        raw = f"POST {INFER} HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + whole
        assert (await exchange(served, raw)).status == 200


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async with running(served_model(), RequestLimits(body_seconds=Seconds(0.05))) as served:
        reply = await exchange(served, request(body=BODY[:10], length=len(BODY)))
        assert reply.status == 408
        assert "did not arrive" in reply.error


async def test_headers_that_do_not_come_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_http, "HEADER_SECONDS", 0.05)
    async with running(served_model()) as served:
        for begin in (b"", b"POST /v2 HTTP/1.1\r\nX: "):
            reader, writer = await asyncio.open_connection(served.host, served.port)
            writer.write(begin)
            async with asyncio.timeout(120):
                assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        assert (await exchange(served, request())).status == 200


async def test_headers_without_end_are_refused() -> None:
    async with running(served_model()) as served:
        reader, writer = await asyncio.open_connection(served.host, served.port)
        writer.write(b"GET /v2 HTTP/1.1\r\n" + b"X-Long: y\r\n" * 3_000)
        reply = await read_reply(reader)
        assert reply.status == 431
        assert "longer than 16 KiB" in reply.error
        writer.close()
        await writer.wait_closed()


async def test_garbage_on_the_port_harms_nobody() -> None:
    async with running(served_model()) as served:
        for garbage in (b"\0" * 100, b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n"):
            reader, writer = await asyncio.open_connection(served.host, served.port)
            writer.write(garbage)
            async with asyncio.timeout(120):
                await reader.read()
            writer.close()
            await writer.wait_closed()
        assert (await exchange(served, request())).status == 200


async def test_more_calls_than_allowed_are_turned_away_and_then_served_again() -> None:
    gate, entered = asyncio.Event(), asyncio.Event()

    async def waiting(matrix: np.ndarray) -> np.ndarray:
        entered.set()
        await gate.wait()
        return await mean_of_row(matrix)

    async with running(served_model(waiting), RequestLimits(calls=1)) as served:
        first = asyncio.create_task(exchange(served, request()))
        await entered.wait()
        reply = await exchange(served, request())
        assert (reply.status, reply.headers["retry-after"]) == (429, "1")
        assert "1 calls are in progress" in reply.error
        gate.set()
        assert (await first).status == 200
        assert (await exchange(served, request())).status == 200


async def test_a_model_that_does_not_answer_in_time_is_given_up() -> None:
    async def never(matrix: np.ndarray) -> np.ndarray:
        await asyncio.Event().wait()
        return matrix

    async with running(served_model(never), RequestLimits(answer_seconds=Seconds(0.05))) as served:
        reply = await exchange(served, request())
        assert reply.status == 504
        assert "nothing was charged" in reply.error


async def test_a_call_in_progress_is_answered_before_the_port_closes() -> None:
    gate, entered = asyncio.Event(), asyncio.Event()

    async def waiting(matrix: np.ndarray) -> np.ndarray:
        entered.set()
        await gate.wait()
        return await mean_of_row(matrix)

    async with running(served_model(waiting)) as served:
        call = asyncio.create_task(exchange(served, request()))
        await entered.wait()
        asyncio.get_running_loop().call_later(0.05, gate.set)
    assert (await call).status == 200


async def test_two_calls_on_one_connection_and_head_requests() -> None:
    async with running(served_model()) as served:
        reader, writer = await asyncio.open_connection(served.host, served.port)
        writer.write(request() + request())
        assert [(await read_reply(reader)).status for _ in range(2)] == [200, 200]
        writer.write(request("HEAD", "/v2/health/live", b""))
        assert b"200" in await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()


async def test_a_model_that_is_not_ready_says_so() -> None:
    model = served_model()
    waiting = ServedModel("risk", "1", SIGNATURE, model.weights, model.predict, model.gate, None, ready=lambda: False)
    async with running(waiting) as served:
        for path in ("/v2/health/ready", "/v2/models/risk/ready"):
            assert (await exchange(served, request("GET", path, b""))).status == 503
        assert (await exchange(served, request("GET", "/v2/health/live", b""))).status == 200


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-x", "x" * 129, "ä"])
def test_a_model_needs_a_proper_name(name: str) -> None:
    model = served_model()
    with pytest.raises(InvalidInput, match="letters, digits"):
        ServedModel(name, "1", SIGNATURE, model.weights, model.predict, model.gate, None)


def decoded(body: bytes, header_length: int | None) -> int | str:
    """Rows of a request, or the sentence that refuses it."""
    try:
        return len(decode_request(body, header_length, SIGNATURE, 100).matrix)
    except InvalidInput as problem:
        return str(problem)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.one_of(st.none(), st.integers(0, 500)))
def test_any_bytes_are_a_request_or_one_sentence(body: bytes, header_length: int | None) -> None:
    assert isinstance(decoded(body, header_length), str)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
        min_size=1,
        max_size=20,
    )
)
def test_flat_nested_and_binary_data_are_the_same_matrix(rows: list[list[float]]) -> None:
    matrix = np.array(rows, np.float32)
    tensor = {"name": "features", "shape": [len(rows), 3], "datatype": "FP32"}
    forms = [{**tensor, "data": rows}, {**tensor, "data": matrix.ravel().tolist()}]
    for form in forms:
        body = json.dumps({"inputs": [form]}).encode()
        assert (decode_request(body, None, SIGNATURE, 100).matrix == matrix).all()
    header = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": matrix.nbytes}}]}).encode()
    assert (decode_request(header + matrix.tobytes(), len(header), SIGNATURE, 100).matrix == matrix).all()


def test_an_error_never_repeats_a_value_of_the_request() -> None:
    secret = b"123456.789"
    for body in (
        BODY.replace(b"[1,2,3]", b"[" + secret + b",2]"),
        BODY.replace(b"[1,2,3]", b'["' + secret + b'",2,3]'),
        BODY.replace(b"[1,2,3]", b"[" + secret + b"e99,2,3]"),
        BODY.replace(b"[1,2,3]", b"[[" + secret + b"],2,3]"),
    ):
        sentence = decoded(body, None)
        assert isinstance(sentence, str)
        assert "123456" not in sentence
