"""A Byzantine validator for simulations: signs whatever may hurt and tells it to whom it may hurt.

It hears everything the honest ones send to it, adds up certificates before they do, and then, at random: votes for
anything, builds several blocks for one place on any parent that some justification allows, reports a lower certified
block than it knows, keeps certificates back until they are old, repeats old messages, sends broken ones, and stays
silent. Whatever it says, it says to some.
"""

import hashlib
from collections import defaultdict
from itertools import count

from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import BlockIndex, Height, View
from koinon.ledger.giskard.broken import broken
from koinon.ledger.giskard.certificates import (
    certify,
    certify_view_change,
    proposal_message,
    rank,
    root_certificate,
    view_change_message,
    vote_message,
)
from koinon.ledger.giskard.roster import EpochPlan
from koinon.ledger.giskard.shells import CHAIN_ID, make_header
from koinon.ledger.types import (
    Block,
    Certified,
    Header,
    PrepareBlock,
    PrepareVote,
    QuorumCertificate,
    ViewChange,
    ViewChangeCertificate,
    ViewEntry,
    header_hash,
)
from koinon.sim.network import Network
from koinon.sim.world import World
from koinon.wire.consensus import ConsensusMessage


class Liar:
    """One of them in one epoch. What it does is drawn from the world's randomness.

    Args:
        liars: all lying nodes; they believe each other.
        root: the block that the epoch begins on.
    """

    def __init__(
        self,
        node: int,
        liars: frozenset[int],
        plan: EpochPlan,
        root: Header,
        network: Network,
        world: World,
        blocks_per_view: int,
    ) -> None:
        position = plan.position_of(node)
        assert position is not None, "a liar is a member of every set"
        self.silent = False
        self._node = node
        self._position = position
        self._honest = [at for at, member in enumerate(plan.members) if member not in liars]
        self._plan = plan
        self._root = root
        self._scheme = plan.scheme
        self._signer = plan.scheme.signer(position)
        self._network = network
        self._world = world
        self._validators = plan.validators
        self._last = blocks_per_view - 1
        self._blocks: dict[Hash32, Header] = {}
        self._certificates: dict[Hash32, QuorumCertificate] = {}
        self._votes: defaultdict[tuple[View, BlockIndex, Height, Hash32], dict[int, PrepareVote]] = defaultdict(dict)
        self._changes: defaultdict[View, dict[int, ViewChange]] = defaultdict(dict)
        self._heard: list[ConsensusMessage] = []
        self._entries: dict[View, ViewEntry] = {}
        self._numbers = count()
        self._view = View(1)
        self._mood = 0.5
        self._to_all = False

    def start(self) -> None:
        """Lie from time to time."""
        self._mood = self._world.random.choice((0.1, 0.4, 0.8))
        self._world.after(0.01, self._act)

    # Hearing

    def hear(self, message: object) -> None:
        """Take in a message of this epoch."""
        match message:
            case PrepareBlock():
                header = message.block.header
                self._blocks[header_hash(header)] = header
                self._view = max(self._view, header.view)
                if message.parent_certificate is not None:
                    self._learn(message.parent_certificate)
                if message.view_change is not None:
                    self._entries[header.view] = ViewEntry(None, message.view_change)
            case PrepareVote():
                place = (message.view, message.index, message.height, message.block)
                votes = self._votes[place]
                votes[message.voter] = message
                self._view = max(self._view, message.view)
                self._add_up(place)
            case Certified():
                self._learn(message.certificate)
            case ViewChange():
                self._changes[message.view][message.sender] = message
                self._view = max(self._view, message.view)
                self._learn(message.highest)
                self._entries.setdefault(message.view, message.entry)
            case _:
                return
        self._heard.append(message)
        del self._heard[:-200]

    def _learn(self, certificate: QuorumCertificate) -> None:
        self._certificates.setdefault(certificate.block, certificate)

    def _add_up(self, place: tuple[View, BlockIndex, Height, Hash32]) -> None:
        """Certify with the own vote, which nobody else may have."""
        votes = dict(self._votes[place])
        votes[self._position] = self._vote_for(*place)
        if len(votes) >= self._validators.quorum and place[3] not in self._certificates:
            self._learn(certify(votes, self._scheme, len(self._validators)))

    # Lying

    def _act(self) -> None:
        if self.silent:
            return
        draw = self._world.random
        if draw.random() < self._mood:
            action = draw.choice(
                (self._vote, self._vote, self._propose, self._propose, self._change_view, self._repeat, self._break)
            )
            action()
        self._world.after(draw.uniform(0.002, 0.06), self._act)

    def propose_in_turn(self) -> None:
        """Build on any justification if the others are in a view of ours, and tell everybody."""
        self._to_all = True
        self._propose()
        self._to_all = False

    def vote_with_the_rest(self, receivers: list[int]) -> None:
        """Tell these our vote for every block of the current view, as an honest validator would."""
        for made in [made for made in self._blocks.values() if made.view == self._view]:
            for receiver in receivers:
                vote = self._vote_for(made.view, made.index, made.height, header_hash(made))
                self._send(receiver, vote)

    def report_something(self) -> None:
        """Send everybody one view change that reports any certificate we know, or none at all."""
        certificates = sorted(self._certificates.values(), key=rank)[-5:]
        if not certificates or self._view not in self._entries:
            return
        # The second highest of all keeps two chains growing in turns, which is what the liar would like best.
        highest = certificates[-2:][0] if self._world.random.random() < 0.5 else self._world.random.choice(certificates)
        change = self._report(self._view, highest, self._entries[self._view])
        self._changes[self._view][self._position] = change
        for receiver in range(len(self._validators)):
            if receiver != self._position:
                self._send(receiver, change)

    def _tell_some(self, message: ConsensusMessage) -> None:
        others = [position for position in range(len(self._validators)) if position != self._position]
        some = others if self._to_all else self._world.random.sample(others, self._world.random.randint(1, len(others)))
        for receiver in some:
            self._send(receiver, message)

    def _send(self, receiver: int, message: ConsensusMessage) -> None:
        self._network.send(self._node, self._plan.members[receiver], message)

    def _vote_for(self, view: View, index: BlockIndex, height: Height, block: Hash32) -> PrepareVote:
        statement = vote_message(CHAIN_ID, self._plan.epoch, view, index, height, block)
        return PrepareVote(self._plan.epoch, view, index, height, block, self._position, self._signer.sign(statement))

    def _vote(self) -> None:
        recent = [header for header in self._blocks.values() if header.view >= self._view - 2]
        if recent:
            header = self._world.random.choice(recent)
            self._tell_some(self._vote_for(header.view, header.index, header.height, header_hash(header)))

    def _repeat(self) -> None:
        """Send an old message again, whoever's it was."""
        if self._heard:
            self._tell_some(self._world.random.choice(self._heard))

    def _break(self) -> None:
        """Send something that no honest validator sends."""
        if self._heard:
            receiver = self._world.random.choice(self._honest)
            self._send(receiver, broken(self._world.random, self._world.random.choice(self._heard)))

    def _change_view(self) -> None:
        certificates = list(self._certificates.values())
        if not certificates or self._view not in self._entries:
            return
        draw = self._world.random
        best = sorted(certificates, key=rank)[-4:]
        for _ in range(draw.randint(1, 2)):
            highest = draw.choice(best)
            change = self._report(self._view, highest, self._entries[self._view])
            self._changes[self._view].setdefault(self._position, change)
            self._tell_some(change)

    def _report(self, view: View, highest: QuorumCertificate, entry: ViewEntry) -> ViewChange:
        signature = self._signer.sign(view_change_message(CHAIN_ID, self._plan.epoch, view, highest))
        return ViewChange(self._plan.epoch, view, self._position, highest, entry, signature)

    def _propose(self) -> None:
        """A block for any view of ours that anything known justifies."""
        draw = self._world.random
        for view in (View(self._view + 1), self._view):
            if self._validators.proposer(view) != self._position:
                continue
            options = self._justifications(view)
            chosen = options if draw.random() < 0.5 else options[:1]
            for certificate, left in chosen:
                self._send_block(view, BlockIndex(0), certificate.block, certificate.height, certificate, left)
            own = [h for h in self._blocks.values() if h.view == view and h.index < self._last]
            if own:
                parent = draw.choice(own)
                known = self._certificates.get(header_hash(parent))
                self._send_block(view, BlockIndex(parent.index + 1), header_hash(parent), parent.height, known, None)

    def _justifications(self, view: View) -> list[tuple[QuorumCertificate, ViewChangeCertificate | None]]:
        options: list[tuple[QuorumCertificate, ViewChangeCertificate | None]] = [
            (certificate, None)
            for certificate in self._certificates.values()
            if certificate.view == view - 1 and certificate.index == self._last
        ]
        changes = self._changes[View(view - 1)]
        quorum = self._validators.quorum
        if changes and self._position not in changes:
            # Report no more than the least of the others, so that what only we know may be passed over.
            least = min((change.highest for change in changes.values()), key=rank)
            changes[self._position] = self._report(View(view - 1), least, next(iter(changes.values())).entry)
        if len(changes) >= quorum:
            chosen = self._world.random.sample(sorted(changes), quorum)
            left = certify_view_change({p: changes[p] for p in chosen}, self._scheme, len(self._validators))
            options.append((left.highest, left))
            # Also with a parent that this certificate does not allow: receivers must notice.
            lower = [c for c in self._certificates.values() if rank(c) < rank(left.highest)]
            if lower:
                options.append((max(lower, key=rank), left))
        if view == 1 and not options:
            root = root_certificate(self._root, self._plan.epoch, len(self._validators), self._last + 1)
            options.append((root, None))
        return options

    def _send_block(
        self,
        view: View,
        index: BlockIndex,
        parent: Hash32,
        parent_height: int,
        certificate: QuorumCertificate | None,
        left: ViewChangeCertificate | None,
    ) -> None:
        payload = hashlib.sha256(f"{self._position} {next(self._numbers)}".encode()).digest()
        last = self._plan.last_height
        closes = last is not None and parent_height >= last
        marked = closes if last is None or self._world.random.random() < 0.9 else not closes
        shell = make_header(self._validators, None, view, index, payload, self._plan.epoch, closing=marked)
        header = Header(
            **{
                **{name: getattr(shell, name) for name in shell.__struct_fields__},
                "height": Height(parent_height + 1),
                "parent": parent,
            }
        )
        self._blocks[header_hash(header)] = header
        signature = self._signer.sign(proposal_message(CHAIN_ID, header))
        empty = closes and self._world.random.random() < 0.8
        self._tell_some(PrepareBlock(Block(header, () if empty else (payload[:8],)), certificate, left, signature))
