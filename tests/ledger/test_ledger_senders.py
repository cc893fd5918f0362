"""Senders recovered in a worker process are those recovered in place, and its death is nobody else's."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
from eth_account import Account as Wallet
from ledger_network import sign

from koinon.kernel.errors import Forged, KoinonError, MalformedMessage, Refused
from koinon.ledger.senders import WORTH_SENDING, SenderRecovery
from koinon.ledger.transaction import Transaction, read_transaction, recovered

STRANGER = "0x" + "00" * 19 + "99"
WALLETS = [Wallet.from_key(bytes([number]) * 32) for number in (3, 4)]


def raws(first: int) -> list[bytes]:
    return [sign(WALLETS[nonce % 2], nonce, STRANGER) for nonce in range(first, first + WORTH_SENDING + 8)]


@pytest.fixture
def recovery() -> Iterator[SenderRecovery]:
    made = SenderRecovery(1)
    yield made
    made.close()


def check(found: list[Transaction | KoinonError], offered: list[bytes], first: int) -> None:
    for nonce, (one, raw) in enumerate(zip(found, offered, strict=True), start=first):
        assert isinstance(one, Transaction)
        assert (one.raw, one.nonce) == (raw, nonce)
        assert "0x" + one.sender.hex() == WALLETS[nonce % 2].address.lower()
        assert recovered.get(raw) is one


def test_a_worker_recovers_the_same_and_its_death_costs_nothing(recovery: SenderRecovery) -> None:
    offered = raws(0)
    check(recovery.read_all(offered), offered, 0)
    assert recovery._pool is not None
    (worker,) = recovery._pool._processes
    os.kill(worker, signal.SIGKILL)
    later = raws(1000)
    check(recovery.read_all(later), later, 1000)
    assert recovery._pool is None
    last = raws(2000)
    check(recovery.read_all(last), last, 2000)


@pytest.mark.parametrize("processes", [0, 1])
def test_what_cannot_be_taken_says_why_in_its_place(processes: int) -> None:
    recovery = SenderRecovery(processes)
    offered = raws(3000 + 1000 * processes)
    r_is_zero = _without_r(offered[0])
    bad: list[tuple[bytes, type[KoinonError]]] = [
        (b"", MalformedMessage), (b"\x03\xc0", Refused), (b"\x02\xc0", MalformedMessage), (r_is_zero, Forged),
    ]  # fmt: skip
    found = recovery.read_all([*(raw for raw, _ in bad), *offered])
    recovery.close()
    for one, (_, kind) in zip(found, bad, strict=False):
        assert isinstance(one, kind)
    check(found[len(bad) :], offered, 3000 + 1000 * processes)


def _without_r(raw: bytes) -> bytes:
    """The transaction with another r, for which no key recovers."""
    read = read_transaction(raw)
    return raw.replace(read.signature[:32], b"\xff" * 32)


VALIDATOR = """
import sys
from koinon.ledger.senders import SenderRecovery
if __name__ == "__main__":
    batch = "import signal; print('at work', flush=True); signal.pause()"
    SenderRecovery(1)._started().submit(exec, batch)
    sys.stdin.read()
"""


def test_a_worker_does_not_outlive_a_validator_that_is_killed_in_the_middle_of_a_batch() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", VALIDATOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as validator:
        assert validator.stdout is not None
        assert validator.stdout.readline() == b"at work\n"
        workers = psutil.Process(validator.pid).children(recursive=True)
        assert workers
        validator.kill()
    _, alive = psutil.wait_procs(workers, timeout=120)
    for worker in alive:
        worker.kill()
    assert not alive
