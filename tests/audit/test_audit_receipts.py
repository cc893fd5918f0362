"""The receipt log on a real disk: torn tails, damage in the middle, a killed process, a full disk, and its proofs."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from audit_world import CountedRng, StillClock

from koinon.audit.receipt_log import Draft, ReceiptLog
from koinon.audit.receipts import (
    ReceiptProof,
    anchor_of,
    receipt_hash,
    sign_batch,
    verify_receipt,
)
from koinon.crypto import merkle
from koinon.crypto.hash import sha256
from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, InvalidInput, Unavailable
from koinon.kernel.ids import ZERO_HASH
from koinon.kernel.quantities import TokenAmount, UnixSeconds
from koinon.market.payments import Payment, free_payment

KEY = NodeKey.from_seed(sha256(b"receipt node"))
WEIGHTS = sha256(b"weights")


def draft(number: int) -> Draft:
    payment = Payment(sha256(b"channel"), TokenAmount(10 * number), b"s" * 65, TokenAmount(10), 3, 1)
    return Draft(WEIGHTS, b"request %d" % number, b"response %d" % number, UnixSeconds(1_800_000_000), payment)


@asynccontextmanager
async def opened(path: Path, replay=None, clock: StillClock | None = None) -> AsyncIterator[ReceiptLog]:
    log = await ReceiptLog.open(path, 7, KEY, rng=CountedRng(), clock=clock or StillClock(), replay=replay)
    try:
        yield log
    finally:
        await log.close()


async def write(path: Path, count: int) -> None:
    async with opened(path) as log:
        for number in range(count):
            await log.append(draft(number))


async def test_receipts_are_chained_and_each_is_proven(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as log:
        stamped = await asyncio.gather(*(log.append(draft(number)) for number in range(300)))
        previous = ZERO_HASH
        for number, each in enumerate(stamped):
            assert (each.receipt.sequence, each.receipt.previous) == (number, previous)
            previous = each.hash
        for number in (0, 255, 256, 299):
            proof = await log.prove(number)
            opening = (b"request %d" % number, b"response %d" % number, stamped[number].salt)
            receipt = verify_receipt(proof, node=KEY.node_id, service=7, weights=WEIGHTS, opening=opening)
            assert receipt == stamped[number].receipt
        assert {log.batch_of(number).batch.count for number in range(256)} == {256}


async def test_the_log_goes_on_where_it_stopped(tmp_path: Path) -> None:
    await write(tmp_path / "log", 5)
    replayed: list[Payment] = []
    async with opened(tmp_path / "log", replayed.append) as log:
        assert [payment.cumulative for payment in replayed] == [0, 10, 20, 30, 40]
        stamped = await log.append(draft(5))
        assert stamped.receipt.sequence == 5
        assert stamped.receipt.previous == receipt_hash((await log.prove(4)).receipt)


async def test_a_tail_torn_anywhere_is_cut_and_nothing_else(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    async with opened(whole) as log:
        await log.append(draft(0))
        await log.prove(0)
        before = whole.stat().st_size
        await log.append(draft(1))
        after = whole.stat().st_size
    data = whole.read_bytes()
    for length in range(before, after, 7):
        torn = tmp_path / "torn"
        torn.write_bytes(data[:length])
        async with opened(torn) as log:
            assert log.count == 1
            assert log.cut_bytes == length - before
            stamped = await log.append(draft(1))
            assert stamped.receipt.sequence == 1


async def test_a_tail_of_garbage_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    await write(path, 3)
    length = path.stat().st_size
    path.write_bytes(path.read_bytes() + bytes(5000))
    async with opened(path) as log:
        assert (log.count, log.cut_bytes) == (3, 5000)
    assert path.stat().st_size == length


async def test_a_changed_byte_before_the_last_group_is_never_accepted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    async with opened(path) as log:
        for number in range(3):
            await log.append(draft(number))
        last = path.stat().st_size
        await log.append(draft(3))
    data = bytearray(path.read_bytes())
    for position in range(0, last, 13):
        changed = bytearray(data)
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(Forged, match="damaged at byte"):
            async with opened(path):
                pass


def killed_in_full_work(path: Path) -> list[str]:
    """What a process had printed when it was killed; each line after its receipts were on disk."""
    here = Path(__file__).parent
    child = subprocess.Popen(
        [sys.executable, "-c", WORK, str(path), str(here), str(here.parents[1] / "src")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(20)]
    os.kill(child.pid, signal.SIGKILL)
    lines += child.stdout.readlines()
    child.stdout.close()
    child.wait()
    return [line for line in lines if line.endswith("\n")]


WORK = """
import asyncio, sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_audit_receipts import CountedRng, KEY, ReceiptLog, StillClock, draft

async def main():
    log = await ReceiptLog.open(Path(sys.argv[1]), 7, KEY, rng=CountedRng(), clock=StillClock())
    number = 0
    while True:
        stamped = await asyncio.gather(*(log.append(draft(number + i)) for i in range(8)))
        number += 8
        print(stamped[-1].receipt.sequence, stamped[-1].hash.hex(), flush=True)

asyncio.run(main())
"""


async def test_a_killed_process_loses_no_answered_receipt(tmp_path: Path) -> None:
    lines = await asyncio.to_thread(killed_in_full_work, tmp_path / "log")
    sequence, digest = lines[-1].split()
    async with opened(tmp_path / "log") as log:
        assert log.count > int(sequence)
        assert receipt_hash((await log.prove(int(sequence))).receipt).hex() == digest


async def test_a_full_disk_refuses_and_the_numbering_goes_back(tmp_path: Path) -> None:
    clock = StillClock()
    async with opened(tmp_path / "log", clock=clock) as log:
        await log.append(draft(0))
        await log.prove(0)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "log").stat().st_size + 200, hard))
        try:
            outcomes = await asyncio.gather(*(log.append(draft(n)) for n in (1, 2, 3)), return_exceptions=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert all(isinstance(outcome, Unavailable) and "cannot grow" in str(outcome) for outcome in outcomes)
        with pytest.raises(Unavailable, match="cannot grow"):
            log.check_writable()
        clock.ticks += 2
        log.check_writable()
        stamped = await log.append(draft(1))
        assert stamped.receipt.sequence == 1
        assert (await log.prove(1)).receipt == stamped.receipt
    await write(tmp_path / "log", 0)


async def test_a_log_belongs_to_one_service_node_and_process(tmp_path: Path) -> None:
    path = tmp_path / "log"
    await write(path, 1)
    with pytest.raises(InvalidInput, match="another service or node"):
        await ReceiptLog.open(path, 8, KEY, rng=CountedRng(), clock=StillClock())
    other = NodeKey.from_seed(sha256(b"other"))
    with pytest.raises(InvalidInput, match="another service or node"):
        await ReceiptLog.open(path, 7, other, rng=CountedRng(), clock=StillClock())
    async with opened(path):
        with pytest.raises(Unavailable, match="in use by another process"):
            await ReceiptLog.open(path, 7, KEY, rng=CountedRng(), clock=StillClock())
    with pytest.raises(Unavailable, match="cannot be opened"):
        await ReceiptLog.open(tmp_path / "no" / "log", 7, KEY, rng=CountedRng(), clock=StillClock())


async def test_a_closed_log_takes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as log:
        pass
    with pytest.raises(Unavailable, match="shutting down"):
        await log.append(draft(0))


async def test_questions_for_receipts_that_do_not_exist(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as log:
        for sequence in (-1, 0, 10**9):
            with pytest.raises(InvalidInput, match="does not exist"):
                await log.prove(sequence)
        with pytest.raises(InvalidInput, match="in no signed batch"):
            log.batch_of(0)


async def test_anchors_cover_every_batch_once_and_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "log"
    async with opened(path) as log:
        for number in range(3):
            await log.append(draft(number))
            await log.prove(number)
        (anchor,) = log.pending_anchors()
        assert (anchor.first_sequence, anchor.count) == (0, 3)
        await log.append(draft(3))
        await log.prove(3)
        with pytest.raises(InvalidInput, match="not the next one"):
            await log.anchored(replace_count(anchor), ZERO_HASH)
        await log.anchored(anchor, sha256(b"transaction"))
        with pytest.raises(InvalidInput, match="not the next one"):
            await log.anchored(anchor, sha256(b"transaction"))
        assert [(rest.first_sequence, rest.count) for rest in log.pending_anchors()] == [(3, 1)]
    async with opened(path) as log:
        assert log.anchors() == ((anchor, sha256(b"transaction")),)
        assert anchor_of(tuple(each.batch for each in log.anchored_batches(anchor))) == anchor
        assert [(rest.first_sequence, rest.count) for rest in log.pending_anchors()] == [(3, 1)]


def replace_count(anchor):
    return type(anchor)(anchor.service, anchor.node, anchor.root, anchor.count + 1, anchor.first_sequence)


@pytest.fixture
async def proof(tmp_path: Path) -> ReceiptProof:
    async with opened(tmp_path / "log") as log:
        await asyncio.gather(*(log.append(draft(number)) for number in range(5)))
        return await log.prove(3)


def _with(record, **changes):
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    return type(record)(**{**values, **changes})


FORGERIES = [
    (lambda p: _with(p, receipt=_with(p.receipt, answers=2)), "not in the batch"),
    (lambda p: _with(p, receipt=_with(p.receipt, sequence=2)), "not in the batch"),
    (lambda p: _with(p, receipt=_with(p.receipt, sequence=10**6)), "not in the batch"),
    (lambda p: _with(p, receipt=_with(p.receipt, service=8)), "different"),
    (lambda p: _with(p, path=p.path[1:]), "not in the batch"),
    (lambda p: _with(p, path=(*p.path, ZERO_HASH)), "not in the batch"),
    (lambda p: _with(p, signed=_with(p.signed, signature=bytes(64))), "is not by node"),
    (lambda p: _with(p, signed=_with(p.signed, batch=_with(p.signed.batch, count=6))), "is not by node"),
]


@pytest.mark.parametrize(("forge", "sentence"), FORGERIES)
async def test_a_forged_proof(proof: ReceiptProof, forge, sentence: str) -> None:
    with pytest.raises(Forged, match=sentence):
        verify_receipt(forge(proof))


async def test_a_proof_re_signed_by_another_node(proof: ReceiptProof) -> None:
    other = NodeKey.from_seed(sha256(b"other"))
    receipt = _with(proof.receipt, node=other.node_id)
    batch = _with(
        proof.signed.batch, node=other.node_id, first_sequence=3, count=1, root=merkle.root([receipt_hash(receipt)])
    )
    forged = ReceiptProof(receipt, (), sign_batch(other, batch))
    verify_receipt(forged)
    with pytest.raises(Forged, match="not by the one that was asked"):
        verify_receipt(forged, node=KEY.node_id)


async def test_expectations_that_do_not_hold(proof: ReceiptProof) -> None:
    with pytest.raises(Forged, match="for service 7, not 9"):
        verify_receipt(proof, service=9)
    with pytest.raises(Forged, match="other weights"):
        verify_receipt(proof, weights=sha256(b"others"))
    with pytest.raises(Forged, match="not the one committed to"):
        verify_receipt(proof, opening=(b"request 4", b"response 3", bytes(32)))


async def test_equal_requests_leave_different_commitments(tmp_path: Path) -> None:
    same = replace(draft(1), payment=free_payment(1))
    async with opened(tmp_path / "log") as log:
        first, second = await asyncio.gather(log.append(same), log.append(same))
    assert first.receipt.request != second.receipt.request
    assert b"request 1" not in encode(first.receipt)
    assert b"request 1" not in (tmp_path / "log").read_bytes()
