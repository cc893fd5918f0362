"""Evidence on its way to the chain: kept through a restart, reported in turn, once, and forgotten when it counts."""

import pytest
from ledger_public import PublicNetwork
from ledger_staking import ContractReader

from koinon.crypto.signature import AccountKey
from koinon.kernel.errors import Refused
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import BlockIndex, Epoch, Height, View
from koinon.ledger.engine import network_engine
from koinon.ledger.giskard.certificates import vote_message
from koinon.ledger.giskard.evidence import VoteEvidence, two_votes
from koinon.ledger.reporter import Reporter
from koinon.ledger.staking.profiles import PROFILES
from koinon.ledger.transaction import parse_transaction
from koinon.ledger.types import PrepareVote
from koinon.store.keyvalue import MemoryStore

OFFENDER, NEXT, AFTER_NEXT = 1, 2, 3
"""Positions: the offender, and those whose turns to report it are the first and the second."""
EXPELLED = 3
PAUPER = AccountKey.from_secret(b"\x0b" * 32)
"""Owns no coins."""


def double_signing(network: PublicNetwork) -> VoteEvidence:
    """Two votes of the offender for one place, really signed."""
    chain, key = network.making, network.keys[OFFENDER].bls
    place = (Epoch(0), View(1), BlockIndex(0), Height(1))
    votes = [
        PrepareVote(*place, block, OFFENDER, key.sign(vote_message(chain.genesis.chain_id, *place, block)))
        for block in (Hash32(b"\x01" * 32), Hash32(b"\x02" * 32))
    ]
    return two_votes(*votes)


class Node:
    """What a reporter needs of its node; ``restarted`` gives the reporter of the next start."""

    def __init__(self, network: PublicNetwork, position: int, key: AccountKey | None = None) -> None:
        self.network = network
        self.position = position
        self.key = key or network.keys[position].account
        self.store = MemoryStore()
        self.sent: list[bytes] = []

    def restarted(self) -> Reporter:
        chain, mempool = self.network.making, self.network.mempool

        def submit(raw: bytes) -> None:
            mempool.add(parse_transaction(raw), chain.state.view())
            self.sent.append(raw)

        def next_nonce(account: object) -> int:
            return mempool.next_nonce(account, chain.state.view())  # type: ignore[arg-type]

        return Reporter(chain, self.store, network_engine(), self.key, next_nonce, submit)

    def take(self, reporter: Reporter, now: float) -> bool:
        evidence = double_signing(self.network)
        return reporter.take(self.network.making.validators, Epoch(0), self.position, OFFENDER, evidence, now)


@pytest.fixture
def network() -> PublicNetwork:
    return PublicNetwork(PROFILES["dev"], 4, [])


def offender_in(contract: ContractReader) -> dict[str, object]:
    return contract.candidate(OFFENDER + 1)


def test_evidence_survives_a_restart_and_is_reported_once(network: PublicNetwork) -> None:
    node = Node(network, AFTER_NEXT)
    first = node.restarted()
    assert node.take(first, now=100.0)
    assert not node.take(first, now=100.0), "this offender's is kept already"
    first.work(100.0)
    assert node.sent == [], "it is another's turn"

    again = node.restarted()
    assert len(again) == 1
    assert not node.take(again, now=0.5)
    again.work(1.0)
    again.work(2.0)
    assert len(node.sent) == 1, "a restart has waited long enough, and what is sent needs time to become final"
    before = offender_in(network.contract())
    network.run(network.height + 4)
    after = offender_in(network.contract())
    assert (before["status"], after["status"]) == (1, EXPELLED)
    assert after["stake"] + after["unstaking"] < before["stake"]  # type: ignore[operator]

    again.work(3.0)
    assert len(again) == len(node.restarted()) == 0, "it counts, and is forgotten for good"
    assert len(node.sent) == 1


def test_the_first_in_turn_reports_at_once_and_spares_the_others(network: PublicNetwork) -> None:
    first, second = Node(network, NEXT), Node(network, AFTER_NEXT)
    one, other = first.restarted(), second.restarted()
    first.take(one, now=0.0)
    second.take(other, now=0.0)
    one.work(0.0)
    other.work(0.0)
    assert (len(first.sent), len(second.sent)) == (1, 0)
    network.run(network.height + 4)
    other.work(60.0)
    assert (len(other), second.sent) == (0, [])


def test_evidence_is_kept_while_the_report_cannot_be_paid(network: PublicNetwork) -> None:
    node = Node(network, NEXT, PAUPER)
    reporter = node.restarted()
    node.take(reporter, now=0.0)
    with pytest.raises(Refused):
        reporter.work(0.0)
    assert len(reporter) == len(node.restarted()) == 1
