"""One validator against everybody: the other three of four lie together, hold all their keys, and it must not break.

What they send is decided by a stream of choices, so that a property test or a fuzzer can look for the worst. With all
others lying there is no agreement to be had; but whatever comes, the step must not raise, must not sign two things that
contradict each other, not even across crashes, and must not grow without bound.
"""

import random
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from koinon.kernel.ids import ZERO_ADDRESS, Hash32, NodeId
from koinon.kernel.quantities import BlockIndex, Epoch, Height, Seconds, View
from koinon.ledger.giskard.broken import broken
from koinon.ledger.giskard.certificates import (
    certify,
    certify_view_change,
    proposal_message,
    rank,
    view_change_message,
    vote_message,
)
from koinon.ledger.giskard.evidence import hides_parent, votes_exclude
from koinon.ledger.giskard.ideal import IdealScheme
from koinon.ledger.giskard.protocol import step
from koinon.ledger.giskard.rules import is_marked
from koinon.ledger.giskard.shells import CHAIN_ID, make_header
from koinon.ledger.giskard.start import initial_state, restored_state
from koinon.ledger.giskard.state import (
    BlockFetched,
    Broadcast,
    Configuration,
    Effect,
    EpochEnded,
    Event,
    Execute,
    Executed,
    Finalise,
    PendingChanged,
    Persist,
    Propose,
    Proposed,
    Received,
    SafetyRecord,
    Send,
    TimerFired,
    Voting,
)
from koinon.ledger.types import (
    Block,
    Certified,
    EpochSync,
    FinalityProof,
    Header,
    PrepareBlock,
    PrepareVote,
    QuorumCertificate,
    Validator,
    ValidatorSet,
    ViewChange,
    ViewChangeCertificate,
    ViewEntry,
    ViewSync,
    header_hash,
)
from koinon.wire.consensus import ConsensusMessage

Choose = Callable[[int], int]
"""Gives a number from 0 to below its argument."""

LARGEST_STATE: Final = 600
"""Entries of all containers of the state together that no assault on four validators may exceed."""
_EPOCH: Final = Epoch(0)
_LAST_HEIGHT: Final = Height(4)
_BLOCKS_PER_VIEW: Final = 3
_SCHEME: Final = IdealScheme(b"assault")
_LIARS: Final = (1, 2, 3)
_MEMBERS: Final = ValidatorSet(
    tuple(Validator(NodeId(bytes([n]) * 32), ZERO_ADDRESS, bytes([n]) * 48) for n in range(4))
)
_GENESIS: Final = make_header(_MEMBERS, None, View(0), BlockIndex(_BLOCKS_PER_VIEW - 1), b"")


class Broken(AssertionError):
    """The step did what it must never do; says what."""


class Assault:
    """One game. ``choose`` decides everything, so the same choices give the same game.

    Attributes:
        votes, proposals, changes: what the validator has signed so far.
    """

    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self._draw = random.Random(choose(2**16))  # noqa: S311  # only spreads what ``choose`` decided
        self._position = choose(4) if choose(8) == 0 else 0
        configuration = Configuration(
            chain_id=CHAIN_ID,
            epoch=_EPOCH,
            validators=_MEMBERS,
            position=self._position,
            blocks_per_view=_BLOCKS_PER_VIEW,
            base_timeout=Seconds(1.0),
            verifier=_SCHEME,
            signer=_SCHEME.signer(self._position),
            voting=Voting.COLLECTED if choose(2) else Voting.BROADCAST,
            last_height=_LAST_HEIGHT if choose(4) == 0 else None,
        )
        self._liars = [n for n in range(4) if n != self._position]
        self._configuration = configuration
        self.state = initial_state(configuration, _GENESIS)
        self._now = 0.0
        self._final: tuple[Header, QuorumCertificate] = (_GENESIS, self.state.root)
        self._record: SafetyRecord | None = None
        self._kept: dict[Hash32, tuple[Block, bytes | None]] = {}
        self._headers: list[Header] = [_GENESIS]
        self._blocks: dict[Hash32, Block] = {}
        self._certificates: list[QuorumCertificate] = [self.state.root]
        self._exits: list[ViewChangeCertificate] = []
        self._sent: list[ConsensusMessage] = []
        self._answers: list[Event] = []
        self.votes: list[PrepareVote] = []
        self.proposals: dict[tuple[View, BlockIndex], Hash32] = {}
        self.changes: list[ViewChange] = []
        self._moves: tuple[Callable[[], None], ...] = (
            self._answer, self._answer, self._answer, self._propose, self._propose, self._vote, self._vote,
            self._certify, self._certify, self._change_view, self._change_view, self._leave, self._fetch, self._show,
            self._break, self._break, self._repeat, self._time_out, self._wait, self._crash,
            self._go_on, self._go_on, self._go_on, self._go_on, self._go_on, self._go_on, self._go_on, self._go_on,
        )  # fmt: skip

    @property
    def final_height(self) -> Height:
        """Height of the last final block."""
        return self._final[0].height

    def play(self, moves: int) -> None:
        """Make so many moves. Raises Broken; anything else that is raised is a fault of the step too."""
        for _ in range(moves):
            self._moves[self._choose(len(self._moves))]()

    # What happens to the validator

    def _take(self, event: Event) -> None:
        self.state, effects = step(self.state, event)
        persisted = False
        for effect in effects:
            match effect:
                case Persist():
                    persisted = True
                    self._record = effect.record
                    self._kept.update({t.hash: (t.block, t.signature) for t in effect.blocks})
                case Broadcast() | Send():
                    self._check(effect.message, persisted=persisted)
                case _:
                    self._note(effect)
        state = self.state
        size = len(state.blocks) + len(state.certificates) + len(state.votes) + len(state.proposals)
        size += len(state.view_changes)
        if size > LARGEST_STATE:
            raise Broken(f"the state has grown to {size} entries")

    def _note(self, effect: Effect) -> None:
        match effect:
            case Execute():
                self._answers.append(Executed(header_hash(effect.block.header), self._choose(8) > 0, self._now))
            case Propose():
                parent = self.state.header_of(effect.parent)
                if parent is None:
                    raise Broken("a block was asked for on a parent that is not known")
                name = self._draw.randbytes(4)
                header = make_header(_MEMBERS, parent, effect.view, effect.index, name, closing=effect.closing)
                transactions = () if effect.closing or self._choose(2) else (b"x",)
                empty = not transactions and not effect.required
                self._answers.append(Proposed(None if empty else Block(header, transactions), self._now))
            case Finalise():
                if effect.blocks[0].header.parent != header_hash(self._final[0]):
                    raise Broken("a final block does not stand on the one before")
                if effect.blocks[-1].header.height > (self._configuration.last_height or 2**62):
                    raise Broken("a closing block became final")
                self._final = effect.blocks[-1].header, effect.certificates[-1]
            case EpochEnded():
                if self.state.ended is None:
                    raise Broken("the epoch ended without its proof")

    def _check(self, message: ConsensusMessage, *, persisted: bool) -> None:
        """GISKARD-SAFETY-1, 6 and 7, for ever and across crashes."""
        match message:
            case PrepareVote():
                if not persisted:
                    raise Broken("a vote left before it was durable")
                voted = self._blocks.get(message.block)
                if voted is not None and not is_marked(voted.header, self._configuration.last_height):
                    raise Broken("a vote for a block whose header is wrong about the end of its epoch")
                if any(votes_exclude(vote, message) for vote in self.votes):
                    raise Broken("two votes that exclude each other")
                self.votes.append(message)
            case PrepareBlock():
                header = message.block.header
                if self.proposals.setdefault((header.view, header.index), header_hash(header)) != header_hash(header):
                    raise Broken("two blocks for one place")
                self._learn(message.block)
            case ViewChange():
                if any(hides_parent(vote, message.view, message.highest.height) for vote in self.votes):
                    raise Broken("a view change that hides what a vote shows to be known")
                self.changes.append(message)
            case Certified():
                self._certificates.append(message.certificate)
        self._sent.append(message)

    def _answer(self) -> None:
        if self._answers:
            self._take(self._answers.pop(self._choose(len(self._answers))))
        else:
            self._take(PendingChanged(self._choose(3) > 0, self._now))

    def _time_out(self) -> None:
        if self.state.deadline is not None:
            self._now = max(self._now, self.state.deadline)
        self._take(TimerFired(self._now))

    def _wait(self) -> None:
        self._now += 0.3
        self._take(TimerFired(self._now))

    def _crash(self) -> None:
        """Forget everything but what was persisted."""
        if self.state.ended is None and not self.state.halted:
            self._answers.clear()
            self.state = restored_state(self._configuration, *self._final, self._record, tuple(self._kept.values()))

    # What the liars do

    def _send(self, sender: int, message: ConsensusMessage) -> None:
        self._sent.append(message)
        del self._sent[:-40]
        self._take(Received(sender, message, self._now))

    def _learn(self, block: Block) -> None:
        self._headers.append(block.header)
        self._blocks[header_hash(block.header)] = block

    def _liar(self) -> int:
        return self._liars[self._choose(3)]

    def _recent(self) -> Header:
        return self._headers[-1 - self._choose(min(6, len(self._headers)))]

    def _certificate(self) -> QuorumCertificate:
        return self._certificates[-1 - self._choose(min(4, len(self._certificates)))]

    def _propose(self) -> None:
        view = View(max(1, self.state.view - 1 + self._choose(4)))
        proposer = _MEMBERS.proposer(view)
        if proposer == self._position:
            return
        certificate = self._certificate()
        left = next((one for one in reversed(self._exits) if one.view == view - 1), None)
        if left is not None and self._choose(4):
            certificate = left.highest
        parent = next((h for h in self._headers if header_hash(h) == certificate.block), self._recent())
        index = 0
        if self._choose(2):
            parent = self._recent()
            index = (parent.index + 1) % _BLOCKS_PER_VIEW
            view = parent.view if index else view
            proposer = _MEMBERS.proposer(view)
            if proposer == self._position or parent is _GENESIS:
                return
        closing = self._closes(parent) if self._choose(8) else not self._closes(parent)
        header = make_header(_MEMBERS, parent, view, BlockIndex(index), bytes([self._choose(3)]), closing=closing)
        block = Block(header, () if self._choose(3) == 0 else (b"y",))
        self._learn(block)
        known = certificate if certificate.block == header.parent else None
        signature = _SCHEME.tag(proposer, proposal_message(CHAIN_ID, header))
        self._send(proposer, PrepareBlock(block, known, left if index == 0 else None, signature))

    def _go_on(self) -> None:
        """Behave well for one block: propose what the view wants next, let it be executed, certify it."""
        state = self.state
        proposer = _MEMBERS.proposer(state.view)
        if proposer == self._position:
            self._answer()
            made = self._blocks.get(state.proposed) if state.proposed is not None else None
        else:
            made = self._next_block()
            if made is not None:
                self._learn(made)
                index, left = made.header.index, state.entry.view_change
                certificate = next((one for one in self._certificates if one.block == made.header.parent), None)
                signature = _SCHEME.tag(proposer, proposal_message(CHAIN_ID, made.header))
                self._send(proposer, PrepareBlock(made, certificate, left if index == 0 else None, signature))
                while self._answers and self._choose(16):
                    self._take(self._answers.pop(0))
        if made is not None and self._choose(8):
            certificate = certify({voter: self._vote_of(voter, made.header) for voter in self._liars}, _SCHEME, 4)
            self._certificates.append(certificate)
            self._send(self._liar(), Certified(certificate))

    def _next_block(self) -> Block | None:
        """What an honest proposer of the validator's view would make."""
        state = self.state
        mine = [header for header in self._headers if header.view == state.view and header is not _GENESIS]
        parent = max(mine, key=lambda header: header.index, default=None)
        if parent is None:
            entry = state.entry.view_change.highest if state.entry.view_change else state.entry.certificate
            parent = next((h for h in self._headers if entry is not None and header_hash(h) == entry.block), None)
        elif parent.index == _BLOCKS_PER_VIEW - 1:
            return None
        if parent is None:
            return None
        index = parent.index + 1 if mine else 0
        closing = self._closes(parent)
        name = bytes([self._choose(3)])
        header = make_header(_MEMBERS, parent, state.view, BlockIndex(index), name, closing=closing)
        return Block(header, () if closing else (b"z",))

    def _closes(self, parent: Header) -> bool:
        """Whether a child of the block is a closing block."""
        last = self._configuration.last_height
        return last is not None and parent.height >= last

    def _vote_of(self, voter: int, header: Header) -> PrepareVote:
        name = header_hash(header)
        statement = vote_message(CHAIN_ID, header.epoch, header.view, header.index, header.height, name)
        signature = _SCHEME.tag(voter, statement)
        return PrepareVote(header.epoch, header.view, header.index, header.height, name, voter, signature)

    def _vote(self) -> None:
        header = self._recent()
        for voter in self._liars[self._choose(3) :]:
            self._send(voter, self._vote_of(voter, header))

    def _certify(self) -> None:
        """All liars vote for a block, whatever it is, which is a quorum; sometimes the validator hears of it."""
        header = self._recent()
        if header is _GENESIS:
            return
        certificate = certify({voter: self._vote_of(voter, header) for voter in self._liars}, _SCHEME, 4)
        self._certificates.append(certificate)
        if self._choose(2):
            self._send(self._liar(), Certified(certificate))

    def _change_of(self, sender: int, view: View, highest: QuorumCertificate) -> ViewChange:
        statement = view_change_message(CHAIN_ID, _EPOCH, view, highest)
        entry = self.state.entry if view == self.state.view else ViewEntry(self._certificate(), None)
        return ViewChange(_EPOCH, view, sender, highest, entry, _SCHEME.tag(sender, statement))

    def _change_view(self) -> None:
        sender = self._liar()
        self._send(sender, self._change_of(sender, View(self.state.view + self._choose(2)), self._certificate()))

    def _leave(self) -> None:
        """The liars leave a view, reporting what they like; the validator hears of it now, later or never."""
        view = View(self.state.view + self._choose(2))
        changes = {liar: self._change_of(liar, view, self._certificate()) for liar in self._liars}
        self._exits.append(certify_view_change(changes, _SCHEME, 4))
        if self._choose(2):
            self._send(self._liar(), ViewSync(ViewEntry(None, self._exits[-1])))

    def _fetch(self) -> None:
        """Answer a request that was or was not made."""
        block = self._blocks.get(header_hash(self._recent()))
        if block is None:
            return
        name = header_hash(block.header)
        certificate = next((one for one in self._certificates if one.block == name), None)
        signature = _SCHEME.tag(block.header.proposer, proposal_message(CHAIN_ID, block.header))
        self._take(BlockFetched(block, signature, certificate if self._choose(2) else None, self._now))

    def _show(self) -> None:
        """Show the end of an epoch, if there is anything like it."""
        highest = max(self._certificates, key=rank)
        by_name = {header_hash(header): header for header in self._headers}
        line = [by_name[highest.block]] if highest.block in by_name else []
        while line and line[0].parent in by_name and len(line) < 5:
            line.insert(0, by_name[line[0].parent])
        certificates = {one.block: one for one in self._certificates}
        names = [header_hash(header) for header in line[-3:]]
        if len(line) >= 3 and all(name in certificates for name in names):
            headers = tuple(line[-3 - self._choose(len(line) - 2) :])
            self._send(self._liar(), EpochSync(FinalityProof(headers, tuple(certificates[name] for name in names))))

    def _break(self) -> None:
        if self._sent:
            message = self._sent[self._choose(len(self._sent))]
            sender = self._liar()
            changed = broken(self._draw, message)
            if isinstance(changed, PrepareVote) and self._choose(2):
                changed = replace(changed, voter=sender)
            self._send(sender, changed)

    def _repeat(self) -> None:
        if self._sent:
            self._send(self._liar(), self._sent[self._choose(len(self._sent))])
