"""The first block: who validates, who owns what, and the parameters of the chain."""

from typing import Annotated, Final

from msgspec import Meta

from koinon.crypto import bls, merkle
from koinon.crypto.hash import keccak256
from koinon.kernel.codec import Record, encode
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import ZERO_ADDRESS, ZERO_HASH, Address, Hash32, NodeId
from koinon.kernel.quantities import (
    BlockIndex,
    ChainId,
    Epoch,
    Gas,
    Height,
    Milliseconds,
    UnixSeconds,
    View,
    Wei,
)
from koinon.ledger import lattice
from koinon.ledger.epochs import Epochs
from koinon.ledger.state import (
    EMPTY_CODE_HASH,
    Account,
    account_key,
    code_key,
    encode_account,
    slot_key,
)
from koinon.ledger.types import Header, Validator, ValidatorSet

DEFAULT_GAS_LIMIT: Final = Gas(16_000_000)
DEFAULT_BASE_FEE: Final = Wei(1_000_000)


class Parameters(Record, frozen=True):
    """What every validator must agree on.

    Attributes:
        blocks_per_view: N, how many blocks one proposer makes in its turn.
        base_timeout: milliseconds without a new certificate, while there is work, before a view is given up.
        gas_limit: of a block, and so of a transaction.
        base_fee: wei per gas, burnt, in block 1; later ones follow demand (EIP-1559) and never fall below it.
        epochs: when validators change; None for a chain whose validators never do.
        collect_votes_from: with so many validators or more, votes go to proposers, who broadcast certificates.
    """

    blocks_per_view: Annotated[int, Meta(ge=3, le=1024)] = 10
    base_timeout: Annotated[Milliseconds, Meta(ge=50, le=3_600_000)] = Milliseconds(1500)
    gas_limit: Annotated[Gas, Meta(ge=100_000, le=1_000_000_000)] = DEFAULT_GAS_LIMIT
    base_fee: Annotated[Wei, Meta(ge=0, le=10**15)] = DEFAULT_BASE_FEE
    epochs: Epochs | None = None
    collect_votes_from: Annotated[int, Meta(ge=4, le=1024)] = 16


class GenesisValidator(Record, frozen=True):
    """A member of the first validator set and where it listens.

    Attributes:
        possession: proof that the holder of ``bls_key`` knows its secret; 96 bytes.
        host, port: empty and 0 where the validators tell one another (``net.hidden``) and nobody else.
    """

    node_id: NodeId
    account: Address
    bls_key: bytes
    possession: bytes
    host: str
    port: int


class GenesisAccount(Record, frozen=True):
    """An account that exists from the start.

    Attributes:
        balance: wei, 32 bytes big-endian.
        storage: pairs of slot and value, 32 bytes each.
    """

    address: Address
    balance: Annotated[bytes, Meta(min_length=32, max_length=32)]
    code: bytes = b""
    storage: tuple[tuple[bytes, bytes], ...] = ()


def funded(address: Address, balance: Wei) -> GenesisAccount:
    """An account that owns ``balance`` wei."""
    return GenesisAccount(address, balance.to_bytes(32, "big"))


class Genesis(Record, frozen=True):
    """Everything block 0 depends on. Two nodes agree on a chain exactly if they have the same ``hash``."""

    chain_id: Annotated[ChainId, Meta(ge=1, le=2**53)]
    timestamp: UnixSeconds
    validators: Annotated[tuple[GenesisValidator, ...], Meta(min_length=1, max_length=1024)]
    accounts: tuple[GenesisAccount, ...]
    parameters: Parameters = Parameters()

    @property
    def hash(self) -> Hash32:
        """Keccak-256 of the canonical encoding of this record (not the hash of block 0, which does not hold it)."""
        return keccak256(encode(self))

    def validator_set(self) -> ValidatorSet:
        """The validators in their order."""
        return ValidatorSet(tuple(Validator(v.node_id, v.account, v.bls_key) for v in self.validators))

    def last_height(self, epoch: int) -> Height | None:
        """Height of an epoch's last block; None where it never ends."""
        epochs = self.parameters.epochs
        return None if epochs is None else epochs.last_height(epoch)

    def check(self) -> None:
        """Check every proof of possession and that nothing occurs twice; do it once, before trusting the set.

        Raises:
            Forged: a validator cannot show that it holds its BLS key.
            InvalidInput: an identifier has a wrong length or occurs twice.
        """
        self.validator_set()
        if self.parameters.epochs is not None:
            self.parameters.epochs.check()
        for validator in self.validators:
            if len(validator.node_id) != 32 or len(validator.account) != 20:
                raise InvalidInput("a validator in genesis needs a node id of 32 bytes and an account of 20")
            bls.check_possession(validator.bls_key, validator.possession)
        addresses = [account.address for account in self.accounts]
        if len(set(addresses)) != len(addresses):
            raise InvalidInput("genesis names an account twice; give each account one entry")
        for account in self.accounts:
            pairs = [*account.storage]
            if len(account.address) != 20 or any(len(slot) != 32 or len(value) != 32 for slot, value in pairs):
                raise InvalidInput("an account in genesis has an address of 20 bytes and slots and values of 32")

    def state(self) -> dict[bytes, bytes]:
        """The entries of the state after block 0."""
        entries: dict[bytes, bytes] = {}
        for account in self.accounts:
            code_hash = keccak256(account.code) if account.code else EMPTY_CODE_HASH
            nonce = 1 if account.code else 0
            made = Account(nonce, Wei(int.from_bytes(account.balance, "big")), code_hash)
            if not made.is_empty:
                entries[account_key(account.address)] = encode_account(made)
            if account.code:
                entries[code_key(code_hash)] = account.code
            for slot, value in account.storage:
                stripped = value.lstrip(b"\x00")
                if stripped:
                    entries[slot_key(account.address, int.from_bytes(slot, "big"))] = stripped
        return entries

    def header(self) -> Header:
        """The header of block 0."""
        changes = ((key, None, value) for key, value in self.state().items())
        return Header(
            chain_id=self.chain_id,
            height=Height(0),
            epoch=Epoch(0),
            view=View(0),
            index=BlockIndex(self.parameters.blocks_per_view - 1),
            parent=ZERO_HASH,
            proposer=0,
            beneficiary=ZERO_ADDRESS,
            timestamp=self.timestamp,
            randomness_proof=b"",
            mix=self.hash,
            state_root=lattice.root(lattice.updated(lattice.EMPTY_ACCUMULATOR, changes)),
            transactions_root=merkle.root([]),
            receipts_root=merkle.root([]),
            validators=self.validator_set().hash,
            next_validators=self.validator_set().hash,
            bloom=b"",
            gas_limit=self.parameters.gas_limit,
            gas_used=Gas(0),
            base_fee=self.parameters.base_fee,
        )
