"""From a sealed package to a paid answer of the sandboxed model; the model's child may die, the service does not."""

import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
from market_world import RECEIVER
from serving_world import CountedRng, StillClock

from koinon.crypto.hash import sha256
from koinon.crypto.hpke import HpkeKey
from koinon.crypto.signature import NodeKey
from koinon.data.schema import Column
from koinon.kernel.errors import Forged, InvalidInput, Refused, Unavailable
from koinon.kernel.ids import ZERO_ADDRESS, Hash32
from koinon.market.payments import Terms
from koinon.models.card import ModelCard
from koinon.models.onnx_export import LogisticParameters, export_logistic, weights_hash
from koinon.models.package import seal_model, store_model
from koinon.models.sandbox import DEFAULT_SANDBOX_LIMITS
from koinon.serving.client import Buyer
from koinon.serving.http_client import open_http
from koinon.serving.names import Endpoint, Resolution
from koinon.serving.packaged import Deployment, LivingModel, serve_package
from koinon.serving.service import Service
from koinon.store.blobs import Cid, MemoryBlobs

KEY = NodeKey.from_seed(sha256(b"serving node"))
OPENER = HpkeKey.from_seed(sha256(b"opener"))
PARAMETERS = LogisticParameters(np.zeros(3), np.full(3, 10.0), np.array([1.0, -2.0, 0.5]), 0.25)
ROWS = np.array([[1, 2, 3], [9, 0, 5]], np.float32)
CARD = ModelCard(
    name="risk",
    task="binary-classification",
    features=tuple(Column(f"c{number}", 0.0, 10.0) for number in range(3)),
    target="y",
    threshold_ppm=500_000,
    study_id=0,
    contributions=(),
    committee=(),
    code_hash=bytes(32),
    intended_use="A test.",
    licence="Apache-2.0",
)


@pytest.fixture(scope="module")
def onnx_bytes() -> bytes:
    return export_logistic(PARAMETERS)


def deployment(blobs: MemoryBlobs, onnx_bytes: bytes, weights: Hash32 | None = None) -> Deployment:
    package = store_model(blobs, seal_model(onnx_bytes, CARD, [OPENER.public_key], CountedRng()))
    return Deployment("risk", Cid(package), weights or weights_hash(onnx_bytes), Terms(7))


def resolution(service: Service) -> Resolution:
    endpoint = Endpoint(service.url, RECEIVER, KEY.node_id)
    return Resolution("risk", ZERO_ADDRESS, 1, service.config.weights, 0, (endpoint,))


def model_children() -> list[psutil.Process]:
    return [
        each for each in psutil.Process().children() if any("koinon.worker.child" in part for part in each.cmdline())
    ]


async def test_a_package_answers_as_its_parameters_do_and_outlives_its_child(tmp_path: Path, onnx_bytes: bytes) -> None:
    blobs, clock = MemoryBlobs(), StillClock()
    async with (
        serve_package(
            deployment(blobs, onnx_bytes), blobs, OPENER, KEY, tmp_path / "log", clock=clock, rng=CountedRng()
        ) as service,
        open_http() as http,
    ):
        buyer = await Buyer.connect(http, resolution(service), clock)
        answer = await buyer.call(ROWS)
        assert np.allclose(answer.values, PARAMETERS.probability(ROWS.astype(np.float64)), atol=1e-5)
        await buyer.check(answer)
        (child,) = model_children()
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="503"):
            await buyer.call(ROWS)
        with pytest.raises(Unavailable, match="started again in"):
            await buyer.call(ROWS)
        clock.advance(1)
        assert (await buyer.call(ROWS)).sequence == 1
    assert model_children() == []


async def test_packages_that_are_not_served(tmp_path: Path, onnx_bytes: bytes) -> None:
    blobs = MemoryBlobs()
    stranger = HpkeKey.from_seed(sha256(b"a stranger"))
    good = deployment(blobs, onnx_bytes)
    cases = [
        (deployment(blobs, onnx_bytes, sha256(b"others")), OPENER, Forged, "other weights"),
        (good, stranger, Refused, "not granted to this key"),
        (deployment(blobs, b"no model at all"), OPENER, InvalidInput, "model"),
        (Deployment("risk", good.package, good.weights, Terms(7)), OPENER, None, ""),
    ]
    for number, (asked, opener, kind, sentence) in enumerate(cases):
        context = serve_package(asked, blobs, opener, KEY, tmp_path / str(number), clock=StillClock(), rng=CountedRng())
        if kind is None:
            async with context as service:
                assert service.status().receipts == 0
            continue
        with pytest.raises(kind, match=sentence):
            async with context:
                pass
    assert model_children() == []


async def test_a_model_that_keeps_dying_is_started_ever_more_rarely(onnx_bytes: bytes) -> None:
    clock = StillClock()
    async with LivingModel.open(onnx_bytes, DEFAULT_SANDBOX_LIMITS, clock) as model:
        for pause in (0.5, 1.0, 2.0):
            (child,) = model_children()
            os.kill(child.pid, signal.SIGKILL)
            with pytest.raises(Unavailable):
                await model.predict(ROWS)
            clock.advance(pause - 0.01)
            with pytest.raises(Unavailable, match="started again"):
                await model.predict(ROWS)
            clock.advance(0.02)
            if pause < 2.0:
                await model.metadata()
        assert model.deaths == 3
        assert len(await model.predict(ROWS)) == 2
