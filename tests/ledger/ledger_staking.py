"""The staking contract on our engine without consensus: accounts that call it, the system's calls between blocks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from koinon.contracts.abi import decode
from koinon.contracts.contract import interface
from koinon.crypto.bls import BlsKey
from koinon.crypto.hash import keccak256
from koinon.crypto.signature import NodeKey
from koinon.kernel.ids import ZERO_ADDRESS, Address, Hash32
from koinon.kernel.quantities import ChainId, Gas, Height, UnixSeconds, Wei
from koinon.ledger.evm.engine import EvmEngine
from koinon.ledger.execution import BlockContext, BlockExecution, Call, CallResult, ExecutionEngine
from koinon.ledger.genesis import GenesisValidator
from koinon.ledger.staking import contract
from koinon.ledger.staking.contract import STAKING
from koinon.ledger.staking.founding import COIN, StakingParameters, staking_account
from koinon.ledger.staking.precompiles import STAKING_PRECOMPILES, registration_proof
from koinon.ledger.state import Account, StateView, account_key, code_key, encode_account, read_account, slot_key
from koinon.ledger.transaction import Transaction

CHAIN_ID = ChainId(7)
ENGINE = EvmEngine(STAKING_PRECOMPILES)
PURSE = Wei(10**6 * COIN)
TREASURY = Address(b"\xee" * 20)
CREDITOR = Address(b"\xcc" * 20)
POOL = Wei(1_000 * COIN)

PARAMETERS = StakingParameters(
    open=True,
    epochs_per_era=2,
    minimum_stake=100,
    minimum_delegation=10,
    unstake_eras=3,
    undelegate_eras=1,
    evidence_epochs=4,
    jail_eras=2,
    share_eras=1,
    vote_seconds=1000,
    double_sign_share=1000,
    reporter_share=5000,
    idle_share=100,
    issuance=10**9,
    pool_share=8000,
    payout_share=1000,
    block_share=5000,
    work_share=1000,
    most_bonus=5000,
    work_scale=100,
)


@dataclass(frozen=True)
class Person:
    """An account with a node and a BLS key, all made from its number."""

    account: Address
    node: NodeKey
    bls: BlsKey

    @classmethod
    def of(cls, number: int) -> "Person":
        seed = keccak256(b"person" + number.to_bytes(4, "big"))
        return cls(Address(seed[:20]), NodeKey.from_seed(seed), BlsKey.from_seed(seed))

    def founder(self) -> GenesisValidator:
        return GenesisValidator(
            self.node.node_id, self.account, self.bls.public_key, self.bls.prove_possession(), "127.0.0.1", 1
        )

    def proof(self, chain_id: ChainId = CHAIN_ID) -> bytes:
        return registration_proof(chain_id, self.account, self.node, self.bls.public_key, self.bls.prove_possession())

    def registration(self, share: int = 2000) -> tuple[object, ...]:
        key = self.bls.public_key
        return self.node.node_id, key[:32], key[32:], self.proof(), share


PEOPLE = tuple(Person.of(number) for number in range(9))


@dataclass(frozen=True)
class ContractReader:
    """What the staking contract answers in one state."""

    engine: ExecutionEngine
    context: BlockContext
    state: StateView

    def simulate(self, sender: Address, function: str, *arguments: object, value: int = 0) -> CallResult:
        data = interface("Staking").encode_call(function, *arguments)
        call = Call(sender, STAKING, Gas(30_000_000), Wei(value), data, Wei(0))
        return self.engine.call(call, self.context, self.state)

    def read(self, function: str, *arguments: object) -> Any:
        result = self.simulate(ZERO_ADDRESS, function, *arguments)
        assert result.succeeded, (function, result)
        outputs = interface("Staking").functions[function].outputs
        values = decode(outputs, result.output, function)
        return values[0] if len(values) == 1 else values

    def candidate(self, number: int) -> dict[str, Any]:
        return dict(zip(CANDIDATE_FIELDS, self.read("candidateOf", number), strict=True))

    def accounted(self, accounts: Iterable[Address]) -> int:
        """Everything that the contract owes these accounts or keeps, added up from its parts."""
        total = int(self.read("pool"))
        for number in range(1, self.read("candidateCount") + 1):
            one = self.candidate(number)
            total += one["stake"] + one["unstaking"] + one["active"] + one["pending"] + one["reserve"] + one["era_fees"]
        total += sum(seat[2] for seat in self.read("seats"))
        for account in accounts:
            total += self.read("owed", account) + sum(amount for amount, _ in self.read("frozenOf", account))
        return total


@dataclass
class StakingWorld:
    """See the module. The first ``founders`` people have the seats."""

    founders: int = 4
    parameters: StakingParameters = PARAMETERS
    entries: dict[bytes, bytes] = field(default_factory=dict)
    time: int = 1_800_000_000
    height: int = 1

    def __post_init__(self) -> None:
        account = staking_account(
            ENGINE,
            self.parameters,
            [person.founder() for person in PEOPLE[: self.founders]],
            Wei(100 * COIN) if self.parameters.open else Wei(0),
            POOL,
            Wei(10**9 * COIN),
            TREASURY,
            [CREDITOR],
        )
        code_hash = keccak256(account.code)
        self.entries[code_key(code_hash)] = account.code
        held = Wei(int.from_bytes(account.balance, "big"))
        self.entries[account_key(STAKING)] = encode_account(Account(1, held, code_hash))
        for slot, value in account.storage:
            self.entries[slot_key(STAKING, int.from_bytes(slot, "big"))] = value.lstrip(b"\x00")
        for holder in (*(person.account for person in PEOPLE), CREDITOR):
            self.entries[account_key(holder)] = encode_account(Account(0, PURSE, read_account(self, holder).code_hash))

    def get(self, key: bytes, /) -> bytes | None:
        return self.entries.get(key)

    def context(self, beneficiary: Address = ZERO_ADDRESS) -> BlockContext:
        return BlockContext(
            chain_id=CHAIN_ID,
            height=Height(self.height),
            timestamp=UnixSeconds(self.time),
            beneficiary=beneficiary,
            mix=Hash32(keccak256(self.height.to_bytes(8, "big"))),
            gas_limit=Gas(100_000_000),
            base_fee=Wei(0),
            block_hash=lambda _: None,
        )

    def system(self) -> BlockExecution:
        """A block without transactions; ``keep`` what it did."""
        return ENGINE.begin(self.context(), self)

    def keep(self, execution: BlockExecution) -> None:
        self.height += 1
        for key, value in execution.difference().items():
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value

    def transact(self, sender: Address, function: str, *arguments: object, value: int = 0, tip: int = 0) -> int:
        """One block with one transaction; its status."""
        data = interface("Staking").encode_call(function, *arguments)
        transaction = Transaction(
            b"", Hash32(keccak256(data)), sender, 2, CHAIN_ID, read_account(self, sender).nonce, tip, tip,
            Gas(5_000_000), STAKING, Wei(value), data, (), 0, 0, 0,
        )  # fmt: skip
        execution = ENGINE.begin(self.context(STAKING if tip else ZERO_ADDRESS), self)
        receipt = execution.apply(transaction)
        if tip:
            contract.end_block(execution, 0, Wei(receipt.gas_used * tip))
        self.keep(execution)
        return receipt.status

    @property
    def reader(self) -> ContractReader:
        return ContractReader(ENGINE, self.context(), self)

    def simulate(self, sender: Address, function: str, *arguments: object, value: int = 0) -> CallResult:
        return self.reader.simulate(sender, function, *arguments, value=value)

    def refusal(self, sender: Address, function: str, *arguments: object, value: int = 0) -> str:
        """Name of the error that a call ends with."""
        result = self.simulate(sender, function, *arguments, value=value)
        assert not result.succeeded, f"{function} was not refused"
        error = interface("Staking").errors.get(result.output[:4])
        return result.reason if error is None else error.name

    def read(self, function: str, *arguments: object) -> Any:
        return self.reader.read(function, *arguments)

    def candidate(self, number: int) -> dict[str, Any]:
        return self.reader.candidate(number)

    def balance(self, account: Address) -> int:
        return read_account(self, account).balance

    def end_epoch(self, elected: Sequence[int] = (), alternates: Sequence[int] = ()) -> None:
        """The system's work of an epoch's last block; with ``elected``, of its election too."""
        execution = self.system()
        if elected:
            contract.write_elected(execution, tuple(elected), tuple(alternates))
        contract.end_epoch(execution)
        self.keep(execution)

    def end_era(self) -> None:
        """The epochs that are left of this era, with the same validators and every candidate an alternate."""
        era = self.read("era")
        while self.read("era") == era:
            self.end_epoch(self.numbers(), self.read("live"))

    def numbers(self) -> list[int]:
        return [seat[0] for seat in self.read("seats")]

    def accounted(self) -> int:
        """Everything that the contract owes or keeps, added up from its parts."""
        return self.reader.accounted([*(person.account for person in PEOPLE), TREASURY, CREDITOR])


CANDIDATE_FIELDS = (
    "owner", "status", "share", "share_set_in", "jailed_until", "node_id", "key_high", "key_low", "stake", "unstaking",
    "free_in", "pending_in", "alternate_from", "alternate_in", "active", "pending", "reserve", "era_fees", "bonus",
    "era_blocks", "work", "place", "seat", "since", "per_unit",
)  # fmt: skip
