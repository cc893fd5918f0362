"""Flower clients as owners: the adapter here, real ones in an environment of their own."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from federated_owner import roster
from test_federated_links import LEADER, OWNERS, PACE, TREE, accepted
from test_federated_training import cancer, evenly, plan

from installed import flower_program
from koinon.crypto.hash import blake3
from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput
from koinon.net.transport import Transport
from koinon.privacy.federated import encoding, training
from koinon.privacy.federated.flower import FlowerOwner, flat
from koinon.privacy.federated.links import coordinate
from koinon.privacy.federated.training import LARGEST_LOSS
from koinon.privacy.federated.worker import parameters_to
from koinon.privacy.rep4.adversary import SeededRng

AGREED = plan(features=0, classes=0, size=31, rounds=6, threshold=2, most_rows=200)


class Scripted:
    """A client that returns what it is told to."""

    def __init__(self, *trained: np.ndarray, rows: int = 100, loss: float = 0.5) -> None:
        self.trained, self.rows, self.loss = list(trained), rows, loss
        self.asked: list[dict[str, Any]] = []

    def get_parameters(self, config: dict[str, Any]) -> list[np.ndarray]:
        return [np.zeros((6, 5)), np.zeros(1)]

    def fit(self, parameters: list[np.ndarray], config: dict[str, Any]) -> tuple[list[np.ndarray], int, dict[str, Any]]:
        self.asked.append(config)
        return self.trained, self.rows, {"secret": 1.0}

    def evaluate(self, parameters: list[np.ndarray], config: dict[str, Any]) -> tuple[float, int, dict[str, Any]]:
        return self.loss, self.rows, {"secret": 1.0}


async def test_what_a_client_trains_is_weighed_clipped_and_encoded() -> None:
    client = Scripted(np.full((6, 5), 0.25), np.array([0.5]))
    owner = FlowerOwner.of(client, AGREED, SeededRng(b"x"))
    words = await owner.words(2, np.zeros(31))
    values = encoding.decode_sum(words, AGREED.fraction_bits, training.limit_of(AGREED), 1)
    expected = np.array([0.25] * 30 + [0.5]) * 0.5
    assert values == pytest.approx([*expected, 0.5, 0.5 * 0.5 / LARGEST_LOSS], abs=1e-6)
    assert client.asked == [{"server_round": 3, "proximal_mu": 0.0}]
    far = await FlowerOwner.of(Scripted(np.full((6, 5), 1e6), np.zeros(1)), AGREED, SeededRng(b"x")).words(
        0, np.zeros(31)
    )
    numbers = encoding.decode_sum(far, AGREED.fraction_bits, training.limit_of(AGREED), 1)
    assert np.linalg.norm(numbers[:31]) == pytest.approx(AGREED.clip * 0.5, rel=1e-6)


def test_arrays_come_back_as_they_went() -> None:
    owner = FlowerOwner.of(Scripted(), AGREED, SeededRng(b"x"))
    parameters = np.arange(31.0)
    arrays = owner.arrays(parameters)
    assert [array.shape for array in arrays] == [(6, 5), (1,)]
    assert np.array_equal(flat(arrays), parameters)


@pytest.mark.parametrize(
    ("trained", "rows", "sentence"),
    [
        ((np.zeros((5, 6)), np.zeros(1)), 10, "other shapes"),
        ((np.zeros((6, 5)),), 10, "other shapes"),
        ((np.zeros((6, 5)), np.zeros(1)), 0, "no rows"),
        ((np.full((6, 5), np.nan), np.zeros(1)), 10, "not finite"),
    ],
)
async def test_what_no_update_can_be_made_of_is_refused(
    trained: tuple[np.ndarray, ...], rows: int, sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        await FlowerOwner.of(Scripted(*trained, rows=rows), AGREED, SeededRng(b"x")).words(0, np.zeros(31))


def test_a_client_with_another_model_is_refused_before_it_trains() -> None:
    with pytest.raises(InvalidInput, match="31 parameters, the plan's 30"):
        FlowerOwner.of(Scripted(), msgspec.structs.replace(AGREED, size=30), SeededRng(b"x"))


@pytest.mark.long
@pytest.mark.flower
async def test_real_flower_clients_train_through_secure_aggregation(tmp_path: Path) -> None:
    program = flower_program()
    assert program is not None
    rows, held = cancer()
    processes = []
    async with Transport.open(LEADER, "127.0.0.1") as transport:
        for owner, part in enumerate(evenly(rows, OWNERS)):
            path = tmp_path / f"{owner}.npz"
            np.savez(path, features=part.features, targets=part.targets)
            process = await asyncio.create_subprocess_exec(
                program, str(TREE / "tests" / "privacy" / "flower_owner.py"), encode(AGREED).hex(), str(path),
                str(owner), str(OWNERS), LEADER.node_id.hex(), str(transport.endpoint.port),
                stdout=asyncio.subprocess.PIPE,
                env={"PYTHONPATH": str(TREE / "src"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            )  # fmt: skip
            processes.append(process)
        try:
            links = {owner: await accepted(transport, owner, process) for owner, process in enumerate(processes)}
            state = await coordinate(AGREED, roster(LEADER.node_id, OWNERS), links, PACE)
            told = [(await process.communicate())[0].decode().split() for process in processes]
        finally:
            for process in processes:
                if process.returncode is None:
                    process.kill()
                await process.wait()
    assert {answer[1] for answer in told} == {blake3(parameters_to(state.joint.parameters)).hex()}
    assert all(answer[0].startswith("1.") for answer in told)
    assert [report.survivors for report in state.history] == [(0, 1, 2)] * 6
    weights, bias = state.joint.parameters[:30], state.joint.parameters[30]
    assert float(((held.features @ weights + bias > 0) == held.targets).mean()) > 0.95
