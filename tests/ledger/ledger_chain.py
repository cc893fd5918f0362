"""A chain without validators: blocks are built by the real engine and made final as Giskard would, one at a time."""

from collections.abc import Sequence

from eth_account.signers.local import LocalAccount
from ledger_network import Keys, make_genesis

from koinon.crypto.hash import sha256
from koinon.kernel.effects import Store
from koinon.kernel.quantities import BlockIndex, UnixSeconds, View
from koinon.ledger.blocks import seal
from koinon.ledger.chain import Chain
from koinon.ledger.evm.engine import EvmEngine
from koinon.ledger.execution import ExecutionEngine, build_block
from koinon.ledger.genesis import Genesis, Parameters
from koinon.ledger.giskard.certificates import vote_message
from koinon.ledger.giskard.state import Finalise
from koinon.ledger.transaction import parse_transaction
from koinon.ledger.types import Block, Header, QuorumCertificate, header_hash, make_bitmap

ENGINE: ExecutionEngine = EvmEngine()


class GrowingChain:
    """One validator's chain: it signs every certificate itself, so the finality proofs are genuine."""

    def __init__(
        self,
        store: Store,
        rich: LocalAccount,
        *,
        keep_blocks: int | None = None,
        parameters: Parameters | None = None,
        genesis: Genesis | None = None,
    ) -> None:
        self.store = store
        self.genesis = genesis or make_genesis(1, rich, parameters=parameters)
        self.chain = Chain(store, self.genesis, keep_blocks)
        self._key = Keys.of(0).bls
        self._waiting: list[Block] = []

    def build(self, raws: Sequence[bytes] = ()) -> Block:
        """A block on the tip, executed; not final yet. Every transaction must fit."""
        parent = self._waiting[-1].header if self._waiting else self.chain.final_header
        state, accumulator = self.chain.parent_state(header_hash(parent))
        mix = sha256(parent.mix)
        beneficiary = self.chain.validators.members[0].account
        context = self.chain.context_for(parent, UnixSeconds(parent.timestamp + 1), beneficiary, mix)
        candidates = [parse_transaction(raw) for raw in raws]
        executed, rejected = build_block(ENGINE, context, state, accumulator, candidates, 60.0, 1 << 22)
        assert len(executed.transactions) == len(raws), rejected
        header = seal(
            parent,
            context,
            executed,
            epoch=parent.epoch,
            view=View(1),
            index=BlockIndex(parent.height % 60_000),
            proposer=0,
            randomness_proof=b"",
            validators=self.chain.validators.hash,
            next_validators=self.chain.validators.hash,
        )
        self.chain.add_executed(header, executed)
        block = Block(header, tuple(raws))
        self._waiting.append(block)
        return block

    def finalise(self) -> Header:
        """Make all but the two newest blocks final; the last of them."""
        final, self._waiting = self._waiting[:-2], self._waiting[-2:]
        headers = (final[-1].header, *(block.header for block in self._waiting))
        proof = tuple(map(self._certify, headers))
        self.chain.finalise(Finalise(tuple(final), tuple(self._certify(b.header) for b in final), headers, proof))
        return headers[0]

    def grow(self, *blocks: Sequence[bytes]) -> Header:
        """Build blocks of these transactions and two empty ones that make them final."""
        for raws in (*blocks, (), ()):
            self.build(raws)
        return self.finalise()

    def _certify(self, header: Header) -> QuorumCertificate:
        name = header_hash(header)
        statement = vote_message(header.chain_id, header.epoch, header.view, header.index, header.height, name)
        signature = self._key.sign(statement)
        return QuorumCertificate(
            header.epoch, header.view, header.index, header.height, name, make_bitmap((0,), 1), signature
        )
