"""The staking contract: who may do what, who earns what, what misbehaviour costs, and that no coin is lost or made."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ledger_staking import CHAIN_ID, CREDITOR, PARAMETERS, PEOPLE, POOL, TREASURY, Person, StakingWorld

from koinon.crypto.bls import BlsKey
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Address
from koinon.kernel.quantities import BlockIndex, Epoch, Height, View, Wei
from koinon.ledger.giskard.certificates import vote_message
from koinon.ledger.giskard.evidence import MAXIMUM_EVIDENCE_BYTES, encode_evidence, two_votes
from koinon.ledger.precompile import PrecompileFailure
from koinon.ledger.staking import contract
from koinon.ledger.staking.contract import STAKING
from koinon.ledger.staking.founding import COIN
from koinon.ledger.staking.precompiles import (
    check_double_signing,
    check_registration,
)
from koinon.ledger.state import Account, account_key, encode_account, read_account
from koinon.ledger.types import PrepareVote

IDENTITY_KEY = bytes([0xC0]) + bytes(47)
IDENTITY_SIGNATURE = bytes([0xC0]) + bytes(95)
A, B, C, D, NEW, DELEGATOR = PEOPLE[:6]
STRANGER = PEOPLE[8].account


def vote(key: BlsKey, block: bytes, epoch: int = 0, view: int = 3, index: int = 1, height: int = 9) -> PrepareVote:
    place = (Epoch(epoch), View(view), BlockIndex(index), Height(height))
    signature = key.sign(vote_message(CHAIN_ID, *place, block * 32))  # type: ignore[arg-type]
    return PrepareVote(*place, block * 32, 0, signature)  # type: ignore[arg-type]


def double_votes(person: Person, epoch: int = 0) -> bytes:
    return encode_evidence(two_votes(vote(person.bls, b"\x01", epoch), vote(person.bls, b"\x02", epoch)))


def fixed_members() -> StakingWorld:
    return StakingWorld(parameters=msgspec.structs.replace(PARAMETERS, open=False, minimum_stake=0))


# ------------------------------------------------------------------------------------------------------ earning


def test_rewards_follow_blocks_and_places_and_delegators_earn_for_whole_eras_only() -> None:
    """One era in numbers that can be checked by hand: pool 1,000 coins, a tenth is paid, half of it by blocks."""
    world = StakingWorld(parameters=msgspec.structs.replace(PARAMETERS, issuance=0, work_share=0))
    assert world.transact(NEW.account, "register", *NEW.registration(), value=300 * COIN)
    execution = world.system()
    contract.write_elected(execution, (1, 2, 3, 5), (1, 2, 3, 5))
    world.keep(execution)
    world.end_epoch()
    world.end_epoch((1, 2, 3, 5), (1, 2, 3, 5))
    assert world.read("era") == 2
    assert [world.read("owed", one.account) for one in (A, B, C, D)] == [Wei(50 * COIN // 4)] * 4, "by places alone"
    assert world.read("owed", NEW.account) == 0, "it became an alternate of the next era"
    assert world.read("pool") == 950 * COIN
    assert world.transact(DELEGATOR.account, "delegate", 5, value=100 * COIN)
    execution = world.system()
    for position in (0, 3, 3, 3):
        contract.end_block(execution, position, Wei(0))
    world.keep(execution)
    world.end_era()
    paid = 95 * COIN
    assert world.read("owed", NEW.account) == paid // 2 * 3 // 4 + paid // 2 // 4
    world.transact(DELEGATOR.account, "claim", 5)
    assert world.read("owed", DELEGATOR.account) == 0, "its first era was not a whole one"
    before = world.read("owed", NEW.account)
    pool = world.read("pool")
    world.end_era()
    gain = pool // 10 // 2 // 5  # without a block, half of a tenth, to five alternates
    world.transact(DELEGATOR.account, "claim", 5)
    assert world.read("owed", DELEGATOR.account) in (gain // 5, gain // 5 - 1), "a fifth; rounded down"
    assert world.read("owed", NEW.account) - before == gain - gain // 5
    had = world.balance(DELEGATOR.account)
    owed = world.read("owed", DELEGATOR.account)
    world.transact(DELEGATOR.account, "withdraw")
    assert world.balance(DELEGATOR.account) == had + owed


def test_tips_are_shared_like_rewards() -> None:
    world = StakingWorld(parameters=msgspec.structs.replace(PARAMETERS, payout_share=0, issuance=0))
    world.transact(A.account, "setShare", 500)
    world.transact(DELEGATOR.account, "delegate", 1, value=100 * COIN)
    world.end_era()
    world.transact(STRANGER, "fund", value=1, tip=10**9)
    fees = world.read("seats")[0][2]
    assert fees > 21_000 * 10**9
    world.end_era()
    world.transact(DELEGATOR.account, "claim", 1)
    assert world.read("owed", A.account) == fees - fees * 500 // 10_000
    assert world.read("owed", DELEGATOR.account) in (fees * 500 // 10_000, fees * 500 // 10_000 - 1)


def test_issuance_goes_to_pool_and_treasury_and_raises_the_supply() -> None:
    world = StakingWorld()
    supply, pool = world.read("supply"), world.read("pool")
    world.end_era()
    issued = supply * PARAMETERS.issuance // 10**12
    assert world.read("supply") == supply + issued
    assert world.read("owed", TREASURY) == issued // 5
    paid = sum(world.read("owed", one.account) for one in PEOPLE)
    assert world.read("pool") == pool + issued // 5 * 4 - paid
    assert paid > 0


def test_coins_forced_on_the_contract_join_the_pool() -> None:
    world = StakingWorld(parameters=msgspec.structs.replace(PARAMETERS, payout_share=0, issuance=0))
    account = read_account(world, STAKING)
    world.entries[account_key(STAKING)] = encode_account(Account(1, Wei(account.balance + 77), account.code_hash))
    world.end_era()
    assert world.read("pool") == POOL + 77
    assert world.accounted() == world.balance(STAKING) == world.read("accounted")


# ----------------------------------------------------------------------------------------------------- freezing


def test_stake_and_delegation_come_back_after_their_freezes() -> None:
    world = StakingWorld(parameters=msgspec.structs.replace(PARAMETERS, payout_share=0, issuance=0))
    world.transact(DELEGATOR.account, "delegate", 1, value=30 * COIN)
    world.transact(DELEGATOR.account, "undelegate", 1, 30 * COIN)
    world.transact(A.account, "unstake", 100 * COIN)
    assert world.refusal(A.account, "withdraw") == "NotEnough"
    assert world.refusal(DELEGATOR.account, "withdraw") == "NotEnough"
    world.end_era()
    had = world.balance(DELEGATOR.account)
    world.transact(DELEGATOR.account, "withdraw")
    assert world.balance(DELEGATOR.account) == had + 30 * COIN
    for _ in range(PARAMETERS.unstake_eras - 1):
        assert world.refusal(A.account, "withdraw") == "NotEnough"
        world.end_era()
    had = world.balance(A.account)
    world.transact(A.account, "withdraw")
    assert world.balance(A.account) == had + 100 * COIN


def test_who_leaves_keeps_its_seat_to_the_end_of_the_epoch_and_may_come_back_with_a_new_key() -> None:
    world = StakingWorld(parameters=msgspec.structs.replace(PARAMETERS, payout_share=0, issuance=0))
    world.transact(A.account, "unstake", 100 * COIN)
    assert 1 in world.read("live")
    assert not contract.electorate(world.system()).candidates[0].fit
    assert world.refusal(A.account, "register", *A.registration(), value=100 * COIN) == "AlreadyDone"
    world.end_epoch((2, 3, 4), (2, 3, 4))
    assert set(world.read("live")) == {2, 3, 4}
    for _ in range(PARAMETERS.unstake_eras):
        world.end_era()
    world.transact(A.account, "withdraw")
    assert world.refusal(A.account, "register", *A.registration(), value=100 * COIN) == "KeyTaken"
    fresh = replace(A, bls=BlsKey.from_seed(b"\x31" * 32))
    assert world.transact(A.account, "register", *fresh.registration(), value=100 * COIN)
    assert world.read("numberOf", A.account) == 5


# --------------------------------------------------------------------------------------------------- bad inputs

_KEY = NEW.bls.public_key
_GOOD = NEW.registration()
BAD_CALLS = [
    ("register with too little", NEW, "register", _GOOD, 100 * COIN - 1, "NotEnough"),
    ("register with a share above all", NEW, "register", (*_GOOD[:4], 10_001), 100 * COIN, "BadField"),
    ("register another's keys", DELEGATOR, "register", _GOOD, 100 * COIN, "NotProven"),
    ("register a founder's keys again", A, "register", A.registration(), 100 * COIN, "AlreadyDone"),
    (
        "register the identity key",
        NEW,
        "register",
        (_GOOD[0], IDENTITY_KEY[:32], IDENTITY_KEY[32:], IDENTITY_SIGNATURE + NEW.proof()[96:], 0),
        100 * COIN,
        "NotProven",
    ),
    (
        "register without a proof of possession",
        NEW,
        "register",
        (*_GOOD[:3], NEW.bls.sign(NEW.bls.public_key) + NEW.proof()[96:], 0),
        100 * COIN,
        "NotProven",
    ),
    (
        "register with another chain's proof",
        NEW,
        "register",
        (*_GOOD[:3], NEW.proof(8), 0),  # type: ignore[arg-type]
        100 * COIN,
        "NotProven",
    ),
    ("register with a short proof", NEW, "register", (*_GOOD[:3], NEW.proof()[:-1], 0), 100 * COIN, "NotProven"),
    ("register with a long proof", NEW, "register", (*_GOOD[:3], NEW.proof() + b"\x00", 0), 100 * COIN, "NotProven"),
    ("add nothing to a stake", A, "addStake", (), 0, "BadField"),
    ("add to a stake that is none", NEW, "addStake", (), COIN, "NotACandidate"),
    ("unstake nothing", A, "unstake", (0,), 0, "BadField"),
    ("unstake more than there is", A, "unstake", (101 * COIN,), 0, "NotEnough"),
    ("unstake below the least stake", A, "unstake", (1,), 0, "NotEnough"),
    ("unstake another's", NEW, "unstake", (1,), 0, "NotACandidate"),
    ("change the share by more than 5 points", A, "setShare", (501,), 0, "BadField"),
    ("delegate too little", DELEGATOR, "delegate", (1,), 10 * COIN - 1, "NotEnough"),
    ("delegate to nobody", DELEGATOR, "delegate", (9,), 10 * COIN, "NotACandidate"),
    ("delegate to number 0", DELEGATOR, "delegate", (0,), 10 * COIN, "NotACandidate"),
    ("undelegate nothing", DELEGATOR, "undelegate", (1, 0), 0, "BadField"),
    ("undelegate what one has not", DELEGATOR, "undelegate", (1, 1), 0, "NotEnough"),
    ("claim from nobody", DELEGATOR, "claim", (9,), 0, "NotACandidate"),
    ("withdraw nothing", DELEGATOR, "withdraw", (), 0, "NotEnough"),
    ("report nobody", DELEGATOR, "report", (9, double_votes(A)), 0, "NotACandidate"),
    ("report with another's evidence", DELEGATOR, "report", (2, double_votes(A)), 0, "NotProven"),
    ("report with no evidence", DELEGATOR, "report", (1, b""), 0, "NotProven"),
    ("report with noise", DELEGATOR, "report", (1, b"\x01" + b"\x93" * 99), 0, "NotProven"),
    ("report what will be", DELEGATOR, "report", (1, double_votes(A, epoch=1)), 0, "EvidenceOutOfReach"),
    ("credit work without authority", DELEGATOR, "credit", (A.account, 5), 0, "NotAllowed"),
    ("work for nobody", DELEGATOR, "workFor", (9,), 0, "NotACandidate"),
    ("vote for no proposal", A, "approve", (1,), 0, "Unknown"),
    ("propose without a vote", DELEGATOR, "proposeAuthority", (CREDITOR, False), 0, "NotAllowed"),
    ("propose members where anybody may stake", A, "proposeRemoval", (2,), 0, "NotAllowed"),
    ("speak as the system", A, "endEpoch", (), 0, "NotAllowed"),
    ("elect as the system", A, "elected", ([1], [1]), 0, "NotAllowed"),
    ("judge as the system", A, "judge", (9,), 0, "NotAllowed"),
    ("count blocks as the system", A, "endBlock", (0, 5), 0, "NotAllowed"),
]


@pytest.fixture(scope="module")
def untouched() -> StakingWorld:
    return StakingWorld()


@pytest.mark.parametrize(
    ("who", "function", "arguments", "value", "error"),
    [row[1:] for row in BAD_CALLS],
    ids=[row[0] for row in BAD_CALLS],
)
def test_a_bad_call_gets_one_error_and_changes_nothing(
    untouched: StakingWorld, who: Person, function: str, arguments: tuple[object, ...], value: int, error: str
) -> None:
    assert untouched.refusal(who.account, function, *arguments, value=value) == error
    before = untouched.read("accounted"), untouched.balance(STAKING), untouched.accounted()
    assert untouched.transact(who.account, function, *arguments, value=value) == 0
    assert (untouched.read("accounted"), untouched.balance(STAKING), untouched.accounted()) == before


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"epochs_per_era": 1, "unstake_eras": 4}, "unstakeEras"),
        ({"minimum_stake": 0}, "minimumStake"),
        ({"block_share": 9_500}, "blockShare"),
    ],
)
def test_parameters_that_contradict_each_other_make_no_genesis(change: dict[str, int], field: str) -> None:
    with pytest.raises(InvalidInput, match=field.encode().hex()):
        StakingWorld(parameters=msgspec.structs.replace(PARAMETERS, **change))


# ------------------------------------------------------------------------------------------------- misbehaviour


def test_double_signing_costs_stake_half_of_it_to_the_reporter_and_ends_the_candidacy() -> None:
    world = StakingWorld()
    world.transact(DELEGATOR.account, "delegate", 1, value=50 * COIN)
    assert world.transact(STRANGER, "report", 1, double_votes(A))
    slashed = 10 * COIN
    assert world.read("owed", STRANGER) == slashed // 2
    assert world.read("pool") == POOL + slashed // 2
    offender = world.candidate(1)
    assert (offender["stake"], offender["unstaking"]) == (0, 90 * COIN)
    assert world.candidate(1)["active"] + world.candidate(1)["pending"] == 50 * COIN, "delegators lose nothing"
    assert not contract.electorate(world.system()).candidates[0].fit
    assert world.refusal(STRANGER, "report", 1, double_votes(A)) == "AlreadyDone"
    world.transact(DELEGATOR.account, "undelegate", 1, 50 * COIN)
    assert world.transact(DELEGATOR.account, "withdraw"), "no freeze where the candidate has left"
    for _ in range(PARAMETERS.unstake_eras):
        world.end_era()
    assert world.transact(A.account, "withdraw")
    assert world.accounted() == world.balance(STAKING)


def test_stake_that_is_leaving_can_still_be_slashed_and_old_evidence_cannot() -> None:
    world = StakingWorld(parameters=msgspec.structs.replace(PARAMETERS, payout_share=0, issuance=0))
    world.transact(A.account, "unstake", 100 * COIN)
    assert world.transact(STRANGER, "report", 1, double_votes(A))
    assert world.candidate(1)["unstaking"] == 90 * COIN
    for _ in range(PARAMETERS.evidence_epochs + 1):
        world.end_epoch()
    assert world.refusal(STRANGER, "report", 2, double_votes(B, epoch=0)) == "EvidenceOutOfReach"
    assert world.transact(STRANGER, "report", 2, double_votes(B, epoch=1))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (vote(A.bls, b"\x01"), vote(A.bls, b"\x01")),
        (vote(A.bls, b"\x01"), vote(A.bls, b"\x02", view=4)),
        (vote(A.bls, b"\x01"), vote(A.bls, b"\x02", epoch=1)),
        (vote(A.bls, b"\x01"), vote(A.bls, b"\x02", index=2, height=10)),
        (vote(A.bls, b"\x01"), vote(B.bls, b"\x02")),
        (vote(A.bls, b"\x01"), msgspec.structs.replace(vote(A.bls, b"\x02"), signature=b"\x00" * 96)),
    ],
    ids=["the same", "another view", "another epoch", "another place", "another signer", "a false signature"],
)
def test_votes_that_do_not_contradict_prove_nothing(first: PrepareVote, second: PrepareVote) -> None:
    evidence = encode_evidence(two_votes(first, second))
    with pytest.raises(PrecompileFailure):
        check_double_signing((7).to_bytes(8, "big") + A.bls.public_key + evidence)


@pytest.mark.parametrize("index", [1, 2])
def test_two_votes_at_one_index_or_one_height_prove_double_signing(index: int) -> None:
    height = 9 if index == 2 else 10
    evidence = encode_evidence(two_votes(vote(A.bls, b"\x01"), vote(A.bls, b"\x02", index=index, height=height)))
    answer = check_double_signing((7).to_bytes(8, "big") + A.bls.public_key + evidence)
    assert answer == bytes(32)


@settings(max_examples=80, deadline=None)
@given(noise=st.binary(max_size=600), edit=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_precompiles_answer_noise_and_edits_with_their_own_failure_only(noise: bytes, edit: int, bit: int) -> None:
    evidence = (7).to_bytes(8, "big") + A.bls.public_key + double_votes(A)
    registration = (7).to_bytes(8, "big") + A.account + A.node.node_id + A.bls.public_key + A.proof()
    for run, good in ((check_double_signing, evidence), (check_registration, registration)):
        edited = bytearray(good)
        edited[edit % len(good)] ^= 1 << bit
        for data in (noise, good[: edit % len(good)], bytes(edited)):
            with pytest.raises(PrecompileFailure):
                run(data)


def test_evidence_longer_than_any_is_refused_before_it_is_read() -> None:
    with pytest.raises(PrecompileFailure, match=str(MAXIMUM_EVIDENCE_BYTES)):
        check_double_signing(bytes(56) + bytes(MAXIMUM_EVIDENCE_BYTES + 1))


def test_a_turn_without_a_block_costs_stake_and_a_while_without_election() -> None:
    world = StakingWorld(parameters=msgspec.structs.replace(PARAMETERS, payout_share=0, issuance=0))
    execution = world.system()
    contract.end_block(execution, 1, Wei(0))
    contract.judge(execution, View(4))
    world.keep(execution)
    stakes = [world.candidate(number)["stake"] for number in (1, 2, 3, 4)]
    assert stakes == [100 * COIN] * 4, "two of four: more than f may be idle, so the network is to blame"
    execution = world.system()
    contract.end_block(execution, 3, Wei(0))
    contract.judge(execution, View(4))
    world.keep(execution)
    stakes = [world.candidate(number)["stake"] for number in (1, 2, 3, 4)]
    assert stakes == [100 * COIN, 100 * COIN, 99 * COIN, 100 * COIN], "views 1 to 3 are over, and position 2 had one"
    assert [one.fit for one in contract.electorate(world.system()).candidates] == [True, True, False, True]
    world.transact(C.account, "addStake", value=COIN)
    assert not contract.electorate(world.system()).candidates[2].fit, "jailed, whatever its stake"
    for _ in range(PARAMETERS.jail_eras):
        world.end_era()
    assert contract.electorate(world.system()).candidates[2].fit
    assert world.read("pool") == POOL + COIN


# -------------------------------------------------------------------------------------------------- useful work


def test_work_of_those_who_do_not_validate_raises_their_weight_and_earns() -> None:
    world = StakingWorld(parameters=msgspec.structs.replace(PARAMETERS, issuance=0))
    world.transact(NEW.account, "register", *NEW.registration(), value=100 * COIN)
    assert world.transact(STRANGER, "workFor", 5)
    assert world.transact(CREDITOR, "credit", STRANGER, 60)
    assert world.transact(CREDITOR, "credit", NEW.account, 40)
    assert world.transact(CREDITOR, "credit", A.account, 1_000), "passed over: it validates"
    assert world.candidate(5)["work"] == 100
    assert world.candidate(1)["work"] == 0
    world.end_era()
    assert world.candidate(5)["bonus"] == 2500, "at the scale, half of the most"
    assert world.read("owed", NEW.account) == 10 * COIN, "a tenth of the hundred that the pool paid"
    world.transact(CREDITOR, "credit", NEW.account, 2**63)
    world.end_era()
    assert 4990 < world.candidate(5)["bonus"] < 5000
    world.end_era()
    assert world.candidate(5)["bonus"] == 0, "only the era before counts"


def test_validators_vote_on_who_may_credit() -> None:
    world = StakingWorld()
    contract_ = Address(b"\x55" * 20)
    world.transact(A.account, "proposeAuthority", contract_, True)
    world.transact(B.account, "approve", 1)
    assert world.refusal(A.account, "approve", 1) == "AlreadyDone"
    assert not world.read("mayCredit", contract_)
    world.transact(C.account, "approve", 1)
    assert world.read("mayCredit", contract_)
    assert world.refusal(D.account, "approve", 1) == "AlreadyDone"
    world.transact(A.account, "proposeAuthority", contract_, False)
    world.time += PARAMETERS.vote_seconds + 1
    assert world.refusal(B.account, "approve", 2) == "TooLate"


# ------------------------------------------------------------------------------------------------ fixed members


def test_members_admit_and_remove_members_by_more_than_two_thirds() -> None:
    world = fixed_members()
    key = NEW.bls.public_key
    admission = (NEW.account, NEW.node.node_id, key[:32], key[32:], NEW.proof())
    assert world.transact(A.account, "proposeAdmission", *admission)
    world.transact(B.account, "approve", 1)
    assert world.read("live") == (1, 2, 3, 4)
    assert world.refusal(NEW.account, "approve", 1) == "NotAllowed"
    world.transact(C.account, "approve", 1)
    assert world.read("live") == (1, 2, 3, 4, 5)
    assert contract.electorate(world.system()).candidates[4].fit
    assert world.transact(NEW.account, "proposeRemoval", 1)
    for member in (B, C, D):
        assert world.transact(member.account, "approve", 2)
    assert not contract.electorate(world.system()).candidates[0].fit
    world.end_epoch((2, 3, 4, 5), (2, 3, 4, 5))
    assert set(world.read("live")) == {2, 3, 4, 5}
    assert world.refusal(A.account, "proposeRemoval", 2) == "NotAllowed", "it has no vote any more"


@pytest.mark.parametrize(
    ("function", "arguments", "value"),
    [
        ("register", NEW.registration(), COIN),
        ("addStake", (), COIN),
        ("unstake", (1,), 0),
        ("setShare", (5,), 0),
        ("delegate", (1,), COIN * 10),
    ],
)
def test_nobody_stakes_where_members_are_fixed(function: str, arguments: tuple[object, ...], value: int) -> None:
    assert fixed_members().refusal(A.account, function, *arguments, value=value) == "NotAllowed"


# ------------------------------------------------------------------------------------------------- conservation

amounts = st.integers(1, 150 * COIN)
numbers = st.integers(1, 6)
somebody = st.sampled_from(PEOPLE[:7])


class Conservation(RuleBasedStateMachine):
    """Anybody does anything in any order; what the contract owes and keeps is its balance, to the wei."""

    @initialize()
    def begin(self) -> None:
        self.world = StakingWorld()
        self.outside = self._outside()
        self.issued = 0

    def _outside(self) -> int:
        return sum(self.world.balance(one.account) for one in PEOPLE)

    @rule(who=somebody, coins=st.integers(100, 200), share=st.integers(0, 10_000))
    def register(self, who: Person, coins: int, share: int) -> None:
        self.world.transact(who.account, "register", *who.registration(share), value=coins * COIN)

    @rule(who=somebody, amount=amounts)
    def add(self, who: Person, amount: int) -> None:
        self.world.transact(who.account, "addStake", value=amount)

    @rule(who=somebody, amount=amounts | st.just(100 * COIN))
    def unstake(self, who: Person, amount: int) -> None:
        self.world.transact(who.account, "unstake", amount)

    @rule(who=somebody, number=numbers, amount=amounts)
    def delegate(self, who: Person, number: int, amount: int) -> None:
        self.world.transact(who.account, "delegate", number, value=amount)

    @rule(who=somebody, number=numbers, part=st.integers(1, 4))
    def undelegate(self, who: Person, number: int, part: int) -> None:
        active, pending, _, _ = self.world.read("delegationOf", who.account, number)
        self.world.transact(who.account, "undelegate", number, (active + pending) // part)

    @rule(who=somebody, number=numbers)
    def claim(self, who: Person, number: int) -> None:
        self.world.transact(who.account, "claim", number)

    @rule(who=somebody)
    def withdraw(self, who: Person) -> None:
        self.world.transact(who.account, "withdraw")

    @rule(who=somebody, tip=st.integers(1, 10**12))
    def pay_tips(self, who: Person, tip: int) -> None:
        self.world.transact(who.account, "fund", value=5, tip=tip)

    @rule(units=st.integers(1, 2**63), who=somebody)
    def credit(self, units: int, who: Person) -> None:
        self.world.transact(CREDITOR, "credit", who.account, units)

    @rule(who=somebody, reporter=somebody)
    def report(self, who: Person, reporter: Person) -> None:
        number = self.world.read("numberOf", who.account)
        if number:
            self.world.transact(reporter.account, "report", number, double_votes(who, self.world.read("epoch")))

    @precondition(lambda self: self.world.read("era") < 12)
    @rule(view=st.integers(1, 9), rotate=st.integers(0, 5))
    def end_epoch(self, view: int, rotate: int) -> None:
        world = self.world
        execution = world.system()
        contract.judge(execution, View(view))
        fit = [one.number for one in contract.electorate(execution).candidates if one.fit]
        contract.write_elected(execution, tuple((fit[rotate:] + fit[:rotate])[:4]), tuple(fit))
        before = world.read("supply")
        contract.end_epoch(execution)
        world.keep(execution)
        self.issued += world.read("supply") - before

    @invariant()
    def nothing_is_lost_or_made(self) -> None:
        held = self.world.balance(STAKING)
        delegated = sum(
            sum(self.world.read("delegationOf", one.account, number)[:2])
            for one in PEOPLE
            for number in range(1, self.world.read("candidateCount") + 1)
        )
        candidates = [self.world.candidate(number) for number in range(1, self.world.read("candidateCount") + 1)]
        assert self.world.accounted() == held == self.world.read("accounted")
        assert delegated == sum(one["active"] + one["pending"] for one in candidates)
        assert self._outside() + held == self.outside + 1400 * COIN + self.issued


class TestConservationSample(Conservation.TestCase):
    settings = settings(max_examples=2, stateful_step_count=12, deadline=None)


@pytest.mark.long
class TestConservationLong(Conservation.TestCase):
    settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
