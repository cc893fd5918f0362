"""The unchanged Triton client against our data plane."""

import asyncio

import numpy as np
import pytest
import tritonclient.http as triton
from serving_world import SIGNATURE, running, served_model
from tritonclient.utils import InferenceServerException

from koinon.serving.open_inference import RequestLimits

ROWS = np.array([[1, 2, 3], [4, 5, 9]], np.float32)
EXPECTED = [2.0, 6.0]


def _input(rows: np.ndarray, *, binary: bool, name: str = "features", datatype: str = "FP32") -> triton.InferInput:
    tensor = triton.InferInput(name, list(rows.shape), datatype)
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return tensor


async def _with_client(work, limits: RequestLimits | None = None):
    """Run blocking client code in a thread beside the server's loop."""
    async with running(served_model(), limits) as served:

        def call():
            client = triton.InferenceServerClient(f"{served.host}:{served.port}")
            try:
                return work(client)
            finally:
                client.close()

        return await asyncio.to_thread(call)


async def test_liveness_readiness_and_metadata() -> None:
    def work(client: triton.InferenceServerClient):
        return (
            client.is_server_live(),
            client.is_server_ready(),
            client.is_model_ready("risk"),
            client.is_model_ready("risk", "1"),
            client.is_model_ready("other"),
            client.get_model_metadata("risk"),
            client.get_server_metadata(),
        )

    live, ready, model, version, other, metadata, server = await _with_client(work)
    assert (live, ready, model, version, other) == (True, True, True, True, False)
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, SIGNATURE.columns]}]
    assert metadata["outputs"][0]["name"] == "probability"
    assert "binary_tensor_data" in server["extensions"]


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True, None])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
async def test_inference_in_every_form(binary_in: bool, binary_out: bool | None, compression: str | None) -> None:
    outputs = None if binary_out is None else [triton.InferRequestedOutput("probability", binary_data=binary_out)]

    def work(client: triton.InferenceServerClient):
        return client.infer(
            "risk",
            [_input(ROWS, binary=binary_in)],
            outputs=outputs,
            request_id="abc",
            request_compression_algorithm=compression,
        )

    result = await _with_client(work)
    assert result.as_numpy("probability").tolist() == EXPECTED
    assert result.get_response()["id"] == "abc"
    sent_binary = "parameters" in result.get_response()["outputs"][0]
    assert sent_binary is (binary_out is not False)


@pytest.mark.parametrize(
    ("tensor", "model", "sentence"),
    [
        (_input(np.zeros((1, 4), np.float32), binary=True), "risk", "must have shape [rows, 3]"),
        (_input(np.zeros((1, 4), np.float32), binary=False), "risk", "must have shape [rows, 3]"),
        (_input(np.zeros(3, np.float32), binary=True), "risk", "must have shape [rows, 3]"),
        (_input(np.zeros((1, 3)), binary=True, datatype="FP64"), "risk", "must have datatype FP32"),
        (_input(ROWS, binary=True, name="x"), "risk", "the model's input is 'features'"),
        (_input(np.zeros((9, 3), np.float32), binary=True), "risk", "one call may hold 8 rows"),
        (_input(np.full((1, 3), np.nan, np.float32), binary=True), "risk", "no finite FP32"),
        (_input(np.zeros((700, 3), np.float32), binary=True), "risk", "longer than the 4096 bytes"),
        (_input(ROWS, binary=True), "other", "no model 'other'"),
    ],
)
async def test_wrong_input_gets_one_sentence(tensor: triton.InferInput, model: str, sentence: str) -> None:
    def work(client: triton.InferenceServerClient) -> None:
        client.infer(model, [tensor])

    with pytest.raises(InferenceServerException) as refusal:
        await _with_client(work, RequestLimits(body_bytes=4096, rows=8))
    assert sentence in str(refusal.value.message())
    assert refusal.value.status() in ("400", "404", "413")


async def test_unknown_output_and_classification_are_refused() -> None:
    def ask(output: triton.InferRequestedOutput):
        def work(client: triton.InferenceServerClient) -> None:
            client.infer("risk", [_input(ROWS, binary=True)], outputs=[output])

        return work

    with pytest.raises(InferenceServerException, match="only output"):
        await _with_client(ask(triton.InferRequestedOutput("other")))
    with pytest.raises(InferenceServerException, match="classification"):
        await _with_client(ask(triton.InferRequestedOutput("probability", class_count=2)))
