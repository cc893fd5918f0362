"""Answers of secret models on secret rows, in four worker processes over TLS on this machine.

    PYTHONPATH=src python benchmarks/inference.py --json

Models: a perceptron 64-64-10 and a convolutional network on 28 × 28 (5 × 5 × 8 and 5 × 5 × 16 with strides of 2 and
rectifiers, then 10 outputs). Weights and rows are shares from the start; a time is the slowest position's from the
first message of an answer to its shared result, which one more message opens. Answers are compared with onnxruntime's.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import time
from collections.abc import Generator
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper
from private import _workers

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.privacy.arrays import SecretArray
from koinon.privacy.graph import Leaf, evaluate
from koinon.privacy.inference import SharedModel
from koinon.privacy.rep4 import links
from koinon.privacy.rep4.agreement import agree
from koinon.privacy.rep4.checkpoint import checkpoint
from koinon.privacy.rep4.machine import Rep4Machine
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.shares import Shares, four
from koinon.privacy.rep4.signing import NodeSignatures
from koinon.privacy.rep4.worker import from_frame, to_frame
from koinon.privacy.secret import Secret
from koinon.wire.committee import POSITIONS, Listening, Prepare
from koinon.worker.channel import AsyncChannel

SESSION = bytes(32)
BITS = 20
JOBS = {
    "perceptron, 1 row": ("perceptron", 1),
    "perceptron, 100 rows": ("perceptron", 100),
    "convolutions, 1 image": ("convolutions", 1),
}


def model(name: str, rows: int) -> tuple[ModelProto, tuple[int, ...]]:
    """A model with seeded weights of the size that training gives them, and the shape of its rows."""
    random = np.random.default_rng(5)

    def weights(label: str, *shape: int) -> TensorProto:
        reach = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1
        return numpy_helper.from_array(random.normal(0, reach, shape).astype(np.float32), label)

    if name == "perceptron":
        shape: tuple[int, ...] = (rows, 64)
        tensors = [weights("w0", 64, 64), weights("b0", 64), weights("w1", 10, 64), weights("b1", 10)]
        nodes = [
            helper.make_node("Gemm", ["rows", "w0", "b0"], ["hidden"], transB=1),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Gemm", ["active", "w1", "b1"], ["answer"], transB=1),
        ]
    else:
        shape = (rows, 1, 28, 28)
        tensors = [weights("w0", 8, 1, 5, 5), weights("b0", 8), weights("w1", 16, 8, 5, 5), weights("b1", 16)]
        tensors += [weights("w2", 10, 256), weights("b2", 10)]
        nodes = [
            helper.make_node("Conv", ["rows", "w0", "b0"], ["one"], strides=[2, 2]),
            helper.make_node("Relu", ["one"], ["first"]),
            helper.make_node("Conv", ["first", "w1", "b1"], ["two"], strides=[2, 2]),
            helper.make_node("Relu", ["two"], ["second"]),
            helper.make_node("Flatten", ["second"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w2", "b2"], ["answer"], transB=1),
        ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, (rows, 10))],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), shape


def given(name: str, rows: int) -> tuple[SharedModel, np.ndarray]:
    proto, shape = model(name, rows)
    return SharedModel.of(proto), np.random.default_rng(6).uniform(-1, 1, shape)


def shares(numbers: np.ndarray, position: int, seed: int) -> Shares:
    """One position's shares of fixed-point numbers; the same four components at all."""
    words = np.round(numbers * 2.0**BITS).astype(np.int64).view(np.uint64)
    random = np.random.default_rng(seed)
    components = [random.integers(0, 2**64, words.shape, dtype=np.uint64) for _ in range(3)]
    components.append(words - components[0] - components[1] - components[2])
    return Shares(four([part if j != position else None for j, part in enumerate(components)]), words.shape)


async def position(channel: AsyncChannel) -> None:
    """Child process: one position of a committee that answers."""
    from koinon.kernel.ids import NodeId
    from koinon.net.transport import Transport
    from koinon.wire.discovery import Endpoint

    order = from_frame(await channel.receive())
    assert isinstance(order, Prepare)
    key = NodeKey.from_seed(order.seed)
    async with Transport.open(key, order.host) as transport:
        await channel.send(to_frame(Listening(key.node_id, transport.endpoint.port)))
        table: list[Any] = json.loads(await channel.receive())
        ids = [NodeId(bytes.fromhex(node)) for node, _ in table]
        party = Party(order.position, SESSION, NodeSignatures(key, (ids[0], ids[1], ids[2], ids[3])))
        peers = {}
        for peer in party.peers:
            if party.position < peer:
                peers[peer] = await transport.link(Endpoint(ids[peer], "127.0.0.1", table[peer][1]), "bench")
            else:
                peers[peer] = await transport.accept_link(ids[peer], "bench")
        repetitions = json.loads(await channel.receive())
        measured = await links.run(
            party,
            _answers(party, repetitions),
            peers,
            silence_seconds=120.0,
            deadline_seconds=590.0,
            progress=lambda _: None,
        )
        await channel.send(json.dumps(measured).encode())
        for link in peers.values():
            await link.close()


def _answers(party: Party, repetitions: int) -> Generator[None, None, dict[str, Any]]:
    yield from agree(party, SystemRng())
    machine, measured = Rep4Machine(party), {}
    for job, (name, count) in JOBS.items():
        shared, rows = given(name, count)
        leaves = [Leaf(shared.weights.shape), Leaf(rows.shape)]
        asked = [SecretArray(leaf, BITS) for leaf in leaves]
        result = shared.graph.answer(*asked).node
        inputs = [
            Secret(machine, shares(numbers, party.position, seed), BITS, 1.0)
            for seed, numbers in enumerate((shared.weights, rows))
        ]
        measured[job] = []
        for _ in range(repetitions):
            yield from checkpoint(party)
            began, processor, rounds, sent = time.perf_counter(), time.process_time(), party.round, party.bytes_sent
            (answer,) = yield from evaluate([result], dict(zip(leaves, inputs, strict=True)))
            measured[job].append(
                {
                    "seconds": time.perf_counter() - began,
                    "processor_seconds": time.process_time() - processor,
                    "rounds": party.round - rounds,
                    "bytes_sent": party.bytes_sent - sent,
                    "bits": answer.fraction_bits,
                    "parts": {
                        str(j): [int(word) for word in answer.data.part(j).ravel()]
                        for j in POSITIONS
                        if j != party.position
                    },
                }
            )
    return measured


async def answers(repetitions: int) -> dict[str, Any]:
    """Medians over the repetitions of the slowest position; traffic of all four; the largest error."""
    async with _workers("inference:position") as (workers, listening):
        table = json.dumps([[each.ephemeral.hex(), each.port] for each in listening]).encode()
        for worker in workers:
            await worker.send(table)
            await worker.send(json.dumps(repetitions).encode())
        measured = [json.loads(await worker.receive()) for worker in workers]
    return {job: _summary(job, [each[job] for each in measured]) for job in JOBS}


def _summary(job: str, measured: list[list[dict[str, Any]]]) -> dict[str, float]:
    repetitions = range(len(measured[0]))
    seconds, processor = (
        statistics.median(max(each[k][what] for each in measured) for k in repetitions)
        for what in ("seconds", "processor_seconds")
    )
    name, count = JOBS[job]
    proto, _ = model(name, count)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    want = np.asarray(session.run(None, {"rows": given(name, count)[1].astype(np.float32)})[0]).ravel()
    parts = {**measured[0][-1]["parts"], "0": measured[1][-1]["parts"]["0"]}
    words = np.sum([np.array(parts[str(j)], np.uint64) for j in POSITIONS], axis=0, dtype=np.uint64)
    found = words.view(np.int64) / 2.0 ** measured[0][-1]["bits"]
    return {
        "seconds": seconds,
        "processor_seconds_per_position": processor,
        "rounds": measured[0][0]["rounds"],
        "kilobytes_all": sum(each[0]["bytes_sent"] for each in measured) / 1e3,
        "largest_error": float(np.abs(found - want).max()),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--repetitions", type=int, default=15)
    arguments.add_argument("--json", action="store_true")
    chosen = arguments.parse_args()
    found = asyncio.run(answers(chosen.repetitions))
    report = {"machine": platform.processor() or platform.machine(), "load": os.getloadavg(), "answers": found}
    if chosen.json:
        print(json.dumps(report, indent=2))
        return
    for job, figures in found.items():
        print(job, *(f"{name} {value:.4g}" for name, value in figures.items()), sep="  ")


if __name__ == "__main__":
    main()
