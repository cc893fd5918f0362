"""Evidence on its way to the chain: a validator that has seen another contradict itself reports it, until it counts.

Everybody who has seen it holds the same evidence. One transaction is enough, so each waits for its turn, by its
distance from the offender in the set; whoever's turn comes first pays the gas and earns the reporter's share.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from koinon.crypto.hash import sha256
from koinon.crypto.signature import AccountKey
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.effects import Store
from koinon.kernel.errors import KoinonError
from koinon.kernel.ids import Address
from koinon.kernel.quantities import Epoch, Gas, Wei
from koinon.ledger.chain import Chain
from koinon.ledger.consensus import Contradiction
from koinon.ledger.execution import Call, ExecutionEngine
from koinon.ledger.giskard.evidence import Evidence, encode_evidence
from koinon.ledger.signing import Unsigned
from koinon.ledger.staking.contract import STAKING
from koinon.ledger.staking.words import read_word, selector, words
from koinon.ledger.types import Validator, ValidatorSet

_PREFIX: Final = b"d"
_GAS: Final = Gas(1_000_000)
_LOOK_SECONDS: Final = 1.0
_TURN_SECONDS: Final = 2
_AGAIN_SECONDS: Final = 15
"""After so long, a report that has not become final is made anew."""
_NUMBER_OF: Final = selector("numberOf(address)")
_REPORT: Final = selector("report(uint32,bytes)")
_FEE_ROOM: Final = 4
"""How many times the present base fee a report offers."""
_log: Final = logging.getLogger("koinon.ledger.evidence")


class Kept(Record, frozen=True):
    """Evidence as it is kept until it counts.

    Attributes:
        offender: its account, node and key in the epoch of the offence.
        rank: how many others report before this node.
    """

    offender: Validator
    epoch: Epoch
    evidence: bytes
    rank: int


@dataclass
class _Pending:
    kept: Kept
    due: float


class Reporter:
    """Reports what it is given. Not for several threads at once.

    Args:
        key: of the account that pays; evidence is kept but not sent while it owns no coins.
        next_nonce: the account's next nonce, with what waits in the mempool.
        submit: takes a signed transaction; raises KoinonError where it cannot be taken.
    """

    def __init__(
        self,
        chain: Chain,
        store: Store,
        engine: ExecutionEngine,
        key: AccountKey,
        next_nonce: Callable[[Address], int],
        submit: Callable[[bytes], object],
    ) -> None:
        self._chain = chain
        self._store = store
        self._engine = engine
        self._key = key
        self._next_nonce = next_nonce
        self._submit = submit
        self._pending = {name: _Pending(decode(Kept, entry), 0.0) for name, entry in store.scan(_PREFIX)}

    def __len__(self) -> int:
        return len(self._pending)

    def take(
        self,
        validators: ValidatorSet,
        epoch: Epoch,
        position: int | None,
        offender: int,
        evidence: Evidence,
        now: float,
    ) -> bool:
        """Keep evidence durably; False where this offender's is kept already.

        Args:
            validators, epoch: in which the offence happened; ``position`` is this node's, ``offender`` the other's.
            now: monotonic seconds.
        """
        member = validators.members[offender]
        name = _PREFIX + sha256(member.bls_key)
        if name in self._pending:
            return False
        rank = len(validators) if position is None else (position - offender - 1) % len(validators)
        kept = Kept(member, epoch, encode_evidence(evidence), rank)
        self._store.write({name: encode(kept)})
        self._pending[name] = _Pending(kept, now + rank * _TURN_SECONDS)
        return True

    def work(self, now: float) -> None:
        """Send what is due and forget what counts, or can count no more."""
        for name, pending in list(self._pending.items()):
            call = self._call(pending.kept)
            if call is None or not self._would_count(call):
                _log.info("evidence of epoch %d needs no report any more", pending.kept.epoch)
                self._store.write({}, [name])
                del self._pending[name]
            elif now >= pending.due:
                pending.due = now + _AGAIN_SECONDS
                self._submit(self._sign(call))
                _log.warning("reported a contradiction of epoch %d", pending.kept.epoch)

    def _call(self, kept: Kept) -> bytes | None:
        """The call that reports it; None where the offender is no candidate."""
        owner = int.from_bytes(kept.offender.account, "big")
        succeeded, answer = self._ask(_NUMBER_OF + words([owner]))
        number = read_word(answer, 0) if succeeded else 0
        if not number:
            return None
        size = len(kept.evidence)
        padded = kept.evidence.ljust(-(-size // 32) * 32, b"\x00")
        return _REPORT + words([number, 64, size]) + padded

    def _would_count(self, call: bytes) -> bool:
        return self._ask(call)[0]

    def _ask(self, data: bytes) -> tuple[bool, bytes]:
        """A call from our account on the newest final state."""
        header = self._chain.final_header
        context = self._chain.context_for(header, header.timestamp, header.beneficiary, header.mix)
        call = Call(self._key.address, STAKING, _GAS, Wei(0), data, Wei(0))
        result = self._engine.call(call, context, self._chain.state.view())
        return result.succeeded, result.output

    def _sign(self, data: bytes) -> bytes:
        chain = self._chain
        fee = _FEE_ROOM * chain.next_base_fee(chain.final_header)
        nonce = self._next_nonce(self._key.address)
        return Unsigned(2, chain.genesis.chain_id, nonce, 0, fee, _GAS, STAKING, 0, data).sign(self._key).raw


class Reporting:
    """A reporter at work beside whatever else its event loop does."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._task: asyncio.Task[None] | None = None

    def take(self, found: Contradiction) -> None:
        """Keep the evidence of a contradiction, and see to it that it counts."""
        of = found.configuration
        if self._reporter.take(of.validators, of.epoch, of.position, found.offender, found.evidence, time.monotonic()):
            self.start()

    def start(self) -> None:
        """Go on with what was kept."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="ledger evidence")

    async def _work(self) -> None:
        """Look once a second, while there is evidence, whether it must be sent, or counts already."""
        while len(self._reporter):
            try:
                self._reporter.work(time.monotonic())
            except KoinonError as problem:
                _log.warning("evidence cannot be reported now: %s", problem)
            await asyncio.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Report nothing any more; what is kept is kept."""
        if self._task is not None:
            self._task.cancel()
