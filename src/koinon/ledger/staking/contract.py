"""The staking contract as the ledger sees it: its address, its code, and the calls that the system makes."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from koinon.kernel.errors import Unavailable
from koinon.kernel.ids import Address, NodeId
from koinon.kernel.quantities import BasisPoints, Epoch, Gas, View, Wei
from koinon.ledger.execution import NO_COINS, BlockExecution
from koinon.ledger.precompile import precompile_address
from koinon.ledger.staking.election import Candidate
from koinon.ledger.staking.words import arrays, read_records, read_word, selector, words
from koinon.ledger.types import Validator, ValidatorSet

STAKING: Final = precompile_address(0x1000)
_GAS: Final = Gas(2_000_000_000)
"""A bound that no system call comes near: what they loop over is bounded by the contract."""

_END_BLOCK: Final = selector("endBlock(uint256,uint256)")
_JUDGE: Final = selector("judge(uint256)")
_ELECTORATE: Final = selector("electorate()")
_ELECTED: Final = selector("elected(uint32[],uint32[])")
_ISSUANCE: Final = selector("issuance()")
_END_EPOCH: Final = selector("endEpoch()")
_SEATED: Final = selector("seated()")
_ELECTOR_WORDS: Final = 8
_MEMBER_WORDS: Final = 4
_KEY_LOW: Final = 16


@dataclass(frozen=True)
class Electorate:
    """Attributes: candidates in the contract's order; alternates of this era; whether the era ends with the epoch."""

    candidates: tuple[Candidate, ...]
    alternates: frozenset[int]
    ends_era: bool


@cache
def artefact() -> dict[str, object]:
    """The compiled contract as ``contracts/build.py`` writes it."""
    text = resources.files(__package__).joinpath("artifacts", "Staking.json").read_text("utf-8")
    return dict(json.loads(text))


def runtime_code() -> bytes:
    """The code at ``STAKING``; it has no immutable values."""
    return bytes.fromhex(str(artefact()["runtime"])[2:])


def end_block(execution: BlockExecution, proposer: int, fees: Wei) -> None:
    """Say who made this block, and what its tips brought the contract."""
    _call(execution, _END_BLOCK + words([proposer, fees]))


def judge(execution: BlockExecution, view: View) -> None:
    """Punish validators that had a turn in an earlier view of this epoch and made no block."""
    _call(execution, _JUDGE + words([view]))


def electorate(execution: BlockExecution) -> Electorate:
    """Everybody who can be elected or has a seat."""
    answer = _call(execution, _ELECTORATE)
    candidates: list[Candidate] = []
    chosen: set[int] = set()
    for number, high, low, stake, bonus, since, fit, alternate in read_records(answer, 1, _ELECTOR_WORDS):
        candidates.append(
            Candidate(
                number=number,
                key=_key(high, low),
                stake=Wei(stake),
                bonus=BasisPoints(bonus),
                since=Epoch(since - 1) if since else None,
                fit=bool(fit),
            )
        )
        if alternate:
            chosen.add(number)
    return Electorate(tuple(candidates), frozenset(chosen), bool(read_word(answer, 0)))


def write_elected(execution: BlockExecution, validators: tuple[int, ...], alternates: tuple[int, ...]) -> None:
    """Write an election's result: the next set in its order and, where an era ends, the next era's alternates."""
    _call(execution, _ELECTED + arrays([], [[number] for number in validators], [[number] for number in alternates]))


def end_epoch(execution: BlockExecution) -> None:
    """Give the seats to who was elected; at an era's end create the issuance and settle rewards."""
    issued = Wei(read_word(_call(execution, _ISSUANCE), 0))
    _call(execution, _END_EPOCH, issued)


def seated(execution: BlockExecution) -> ValidatorSet:
    """The validators that have the seats now."""
    return ValidatorSet(
        tuple(
            Validator(
                node_id=NodeId(node_id.to_bytes(32, "big")),
                account=Address(account.to_bytes(20, "big")),
                bls_key=_key(high, low),
            )
            for node_id, account, high, low in read_records(_call(execution, _SEATED), 0, _MEMBER_WORDS)
        )
    )


def _key(high: int, low: int) -> bytes:
    return high.to_bytes(32, "big") + low.to_bytes(32, "big")[:_KEY_LOW]


def _call(execution: BlockExecution, data: bytes, value: Wei = NO_COINS) -> bytes:
    result = execution.system_call(STAKING, data, _GAS, value)
    if not result.succeeded:
        raise Unavailable(
            f"the staking contract refuses a call of the system ({result.reason}); the chain cannot go on"
        )
    return result.output
