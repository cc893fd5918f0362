"""The audit of what validators said to one another can fail: it finds every contradiction put before it."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from ledger_fleet import contradictions
from ledger_network import Keys, make_genesis

from koinon.kernel.codec import encode
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import BlockIndex, Epoch, Height, View
from koinon.ledger.giskard.certificates import genesis_certificate
from koinon.wire.catalogue import Message, pack
from koinon.wire.consensus import PrepareVote, ViewChange, ViewEntry

A, B = Hash32(b"a" * 32), Hash32(b"b" * 32)


@dataclass(frozen=True)
class Vote:
    """A vote of validator 1 in view 5."""

    index: int
    height: int
    block: Hash32 = A

    def message(self) -> Message:
        place = (Epoch(0), View(5), BlockIndex(self.index), Height(self.height))
        return PrepareVote(*place, self.block, 1, b"s")


CASES: dict[str, tuple[list[Vote | str], str]] = {
    "the same vote twice": ([Vote(0, 9), Vote(0, 9)], ""),
    "votes that rise": ([Vote(0, 9), Vote(1, 10, B)], ""),
    "one index, two blocks": ([Vote(0, 9), Vote(0, 8, B)], "two votes at ('index'"),
    "one height, two blocks": ([Vote(0, 9), Vote(1, 9, B)], "two votes at ('height'"),
    "a vote repeated after leaving": ([Vote(0, 9), "leaves", Vote(0, 9)], ""),
    "a vote after leaving": (["leaves", Vote(0, 9)], "voted in view 5 after it had left it"),
}


@pytest.mark.parametrize("case", CASES)
def test_contradictions_are_found(case: str, tmp_path: Path, rich: LocalAccount) -> None:
    said, named = CASES[case]
    genesis = make_genesis(4, rich)
    certificate = genesis_certificate(genesis.header(), 4, genesis.parameters.blocks_per_view)
    leaves = ViewChange(Epoch(0), View(5), 1, certificate, ViewEntry(certificate, None), b"s")
    journal = tmp_path / "journal"
    with journal.open("wb") as file:
        for one in said:
            message = leaves if isinstance(one, str) else one.message()
            record = encode((Keys.of(1).node.node_id, *pack(message)))
            file.write(len(record).to_bytes(4, "big") + record)
        file.write(b"\x00\x00\x01\x00torn")  # what a kill in the middle of a write leaves
    found = list(contradictions(genesis, [journal]))
    assert [named in one for one in found] == ([True] if named else [])
