"""What py-evm's opcodes ask of a state, answered from our journal."""

from typing import Final

from koinon.kernel.ids import Address, Hash32
from koinon.ledger.execution import BLOCKHASH_DEPTH, BlockContext
from koinon.ledger.journal import Journal
from koinon.ledger.state import EMPTY_CODE_HASH

PRECOMPILES: Final = frozenset(Address(number.to_bytes(20, "big")) for number in range(1, 11))


class EvmState:
    """The part of py-evm's state interface that its opcodes use, over our journal."""

    def __init__(self, journal: Journal, context: BlockContext) -> None:
        self._journal = journal
        self._context = context
        self.execution_context = context
        self.coinbase = context.beneficiary
        self.timestamp = context.timestamp
        self.block_number = context.height
        self.mix_hash = context.mix
        self.difficulty = int.from_bytes(context.mix, "big")
        self.gas_limit = context.gas_limit
        self.base_fee = context.base_fee
        self.blob_base_fee = 1
        self.snapshot = journal.snapshot
        self.revert = journal.revert
        self.set_balance = journal.set_balance
        self.delta_balance = journal.add_balance
        self.get_code = journal.code
        self.set_code = journal.set_code
        self.set_nonce = journal.set_nonce
        self.set_storage = journal.set_slot
        self.get_transient_storage = journal.transient
        self.set_transient_storage = journal.set_transient
        self.mark_address_warm = journal.make_warm

    def commit(self, snapshot: int) -> None:
        """Nothing to do: what is not reverted stays."""

    def touch_account(self, address: Address) -> None:
        """Nothing to do: empty accounts are never written (EIP-161)."""

    def delete_storage(self, address: Address) -> None:
        """Nothing to do: a contract can only be created where no storage is left."""

    def get_balance(self, address: Address) -> int:
        return self._journal.account(address).balance

    def get_nonce(self, address: Address) -> int:
        return self._journal.account(address).nonce

    def increment_nonce(self, address: Address) -> None:
        self._journal.set_nonce(address, self._journal.account(address).nonce + 1)

    def get_code_hash(self, address: Address) -> Hash32:
        return self._journal.account(address).code_hash

    def has_code_or_nonce(self, address: Address) -> bool:
        account = self._journal.account(address)
        return account.nonce != 0 or account.code_hash != EMPTY_CODE_HASH

    def account_exists(self, address: Address) -> bool:
        return not self._journal.account(address).is_empty

    def account_is_empty(self, address: Address) -> bool:
        return self._journal.account(address).is_empty

    def get_storage(self, address: Address, slot: int, from_journal: bool = True) -> int:
        if from_journal:
            return self._journal.slot(address, slot)
        return self._journal.original_slot(address, slot)

    def is_storage_warm(self, address: Address, slot: int) -> bool:
        return self._journal.is_warm((address, slot))

    def mark_storage_warm(self, address: Address, slot: int) -> None:
        self._journal.make_warm((address, slot))

    def is_address_warm(self, address: Address) -> bool:
        return self._journal.is_warm(address) or address in PRECOMPILES

    def get_ancestor_hash(self, number: int) -> Hash32:
        if not 0 < self.block_number - number <= BLOCKHASH_DEPTH:
            return Hash32(b"")
        return self._context.block_hash(number) or Hash32(b"")
