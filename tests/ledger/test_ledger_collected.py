"""Four real validators whose votes go to proposers alone."""

from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from ledger_network import final_place, open_network, sign

from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Milliseconds
from koinon.ledger.finality import verify_finality
from koinon.ledger.genesis import Parameters
from koinon.ledger.giskard.state import Voting
from koinon.ledger.outbox import Outbox
from koinon.wire.catalogue import Message
from koinon.wire.consensus import Certified, PrepareVote

STRANGER = "0x" + "00" * 19 + "99"
COLLECTED = Parameters(blocks_per_view=3, base_timeout=Milliseconds(20_000), collect_votes_from=4)


async def test_collected_votes_finalise_on_real_connections(
    tmp_path: Path, rich: LocalAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[bytes, type[Message]]] = []
    whole = Outbox.send

    def noting(self: Outbox, node_id: NodeId, message: Message) -> None:
        sent.append((node_id, type(message)))
        whole(self, node_id, message)

    monkeypatch.setattr(Outbox, "send", noting)
    async with open_network(4, tmp_path, rich, parameters=COLLECTED) as validators:
        assert validators[0].consensus.state.configuration.voting is Voting.COLLECTED
        for number in range(3):
            transaction = validators[number].submit(sign(rich, number, STRANGER, value=1))
            for validator in validators:
                await final_place(validator, transaction.hash)
        height = validators[3].chain.final_height
        proof = validators[1].chain.finality_proof(height)
        assert verify_finality(proof.headers, proof.certificates, validators[2].chain.validators).height == height
        lost = sum(validator.consensus.measures.views_lost for validator in validators)
    votes = sum(kind is PrepareVote for _, kind in sent)
    certificates = sum(kind is Certified for _, kind in sent)
    assert certificates > 0
    assert lost == 0
    # A vote goes to two collectors at most, so a block costs eight of them; broadcast would cost twelve.
    assert votes <= 8 * (height + 4)
