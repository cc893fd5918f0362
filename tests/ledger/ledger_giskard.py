"""Hand-made consensus: four validators with ideal signatures, blocks, certificates and view changes at will."""

from koinon.kernel.quantities import BlockIndex, Epoch, Height, Seconds, View
from koinon.ledger.giskard.certificates import (
    certify,
    certify_view_change,
    genesis_certificate,
    proposal_message,
    view_change_message,
    vote_message,
)
from koinon.ledger.giskard.ideal import IdealScheme
from koinon.ledger.giskard.protocol import step
from koinon.ledger.giskard.rules import Rules
from koinon.ledger.giskard.shells import CHAIN_ID, FIRST_EPOCH, make_header
from koinon.ledger.giskard.start import initial_state
from koinon.ledger.giskard.state import Configuration, Effect, Event, Execute, Executed, Received, State
from koinon.ledger.types import (
    Block,
    Header,
    PrepareBlock,
    PrepareVote,
    QuorumCertificate,
    Validator,
    ValidatorSet,
    ViewChange,
    ViewChangeCertificate,
    ViewEntry,
    header_hash,
)

NODES = 4
BLOCKS_PER_VIEW = 3
SCHEME = IdealScheme(b"test")
MEMBERS = ValidatorSet(
    tuple(Validator(bytes([n]) * 32, bytes(20), bytes([n]) * 48) for n in range(NODES))  # type: ignore[arg-type]
)
GENESIS = make_header(MEMBERS, None, View(0), BlockIndex(BLOCKS_PER_VIEW - 1), b"")
GENESIS_CERTIFICATE = genesis_certificate(GENESIS, NODES, BLOCKS_PER_VIEW)
FIRST_ENTRY = ViewEntry(GENESIS_CERTIFICATE, None)


def fresh_state(
    position: int = 0,
    rules: Rules | None = None,
    last_height: Height | None = None,
    epoch: Epoch = FIRST_EPOCH,
    root: Header | None = None,
) -> State:
    """A validator that has seen nothing of its epoch but the block it begins on."""
    configuration = Configuration(
        chain_id=CHAIN_ID,
        epoch=epoch,
        validators=MEMBERS,
        position=position,
        blocks_per_view=BLOCKS_PER_VIEW,
        base_timeout=Seconds(1.0),
        verifier=SCHEME,
        signer=SCHEME.signer(position),
        rules=rules or Rules(),
        last_height=last_height,
    )
    return initial_state(configuration, root or GENESIS)


def header(
    parent: Header,
    view: int,
    index: int = 0,
    payload: bytes = b"",
    epoch: Epoch | None = None,
    *,
    closing: bool = False,
) -> Header:
    """A child of ``parent``, in its epoch unless another is given."""
    return make_header(
        MEMBERS,
        parent,
        View(view),
        BlockIndex(index),
        payload,
        parent.epoch if epoch is None else epoch,
        closing=closing,
    )


A1 = header(GENESIS, 1)
A2 = header(A1, 1, 1)
A3 = header(A2, 1, 2)
"""The blocks of view 1 in most tests."""


def proposal(
    made: Header,
    certificate: QuorumCertificate | None = None,
    left: ViewChangeCertificate | None = None,
    transactions: tuple[bytes, ...] = (b"transaction",),
) -> PrepareBlock:
    """The block as its proposer signs it, with a transaction in it."""
    signature = SCHEME.tag(made.proposer, proposal_message(CHAIN_ID, made))
    return PrepareBlock(Block(made, transactions), certificate, left, signature)


def vote(made: Header, voter: int) -> PrepareVote:
    """A vote for the block."""
    name = header_hash(made)
    statement = vote_message(CHAIN_ID, made.epoch, made.view, made.index, made.height, name)
    return PrepareVote(made.epoch, made.view, made.index, made.height, name, voter, SCHEME.tag(voter, statement))


def certificate(made: Header, voters: tuple[int, ...] = (0, 1, 2)) -> QuorumCertificate:
    """Votes of a quorum."""
    return certify({voter: vote(made, voter) for voter in voters}, SCHEME, NODES)


def view_change(view: int, sender: int, highest: QuorumCertificate, entry: ViewEntry = FIRST_ENTRY) -> ViewChange:
    """A report out of ``view``."""
    statement = view_change_message(CHAIN_ID, Epoch(0), View(view), highest)
    return ViewChange(Epoch(0), View(view), sender, highest, entry, SCHEME.tag(sender, statement))


def left_view(view: int, reports: dict[int, QuorumCertificate]) -> ViewChangeCertificate:
    """The certificate that ends ``view``, from these reports."""
    return certify_view_change(
        {sender: view_change(view, sender, highest) for sender, highest in reports.items()}, SCHEME, NODES
    )


def feed(state: State, *events: Event) -> tuple[State, list[Effect]]:
    """Take in events, and say yes to every execution."""
    effects: list[Effect] = []
    waiting = list(events)
    while waiting:
        state, more = step(state, waiting.pop(0))
        effects.extend(more)
        waiting.extend(
            Executed(header_hash(effect.block.header), True, 0.0) for effect in more if isinstance(effect, Execute)
        )
    return state, effects


def hear(state: State, sender: int, *messages: object) -> tuple[State, list[Effect]]:
    """Take in messages of one sender."""
    return feed(state, *(Received(sender, message, 0.0) for message in messages))  # type: ignore[arg-type]
