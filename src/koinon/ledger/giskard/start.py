"""How a validator begins an epoch: from the block before it, or from what it made durable."""

from koinon.kernel.errors import InvalidInput
from koinon.kernel.quantities import View
from koinon.ledger.giskard.certificates import rank, root_certificate
from koinon.ledger.giskard.state import (
    Configuration,
    SafetyRecord,
    State,
    Tracked,
)
from koinon.ledger.types import (
    Block,
    Header,
    QuorumCertificate,
    ViewEntry,
    header_hash,
)


def initial_state(configuration: Configuration, root: Header) -> State:
    """A validator that has seen nothing of its epoch but the block it begins on.

    Args:
        root: genesis, or the final block of height ``last_height`` of the epoch before.

    Raises:
        InvalidInput: the epoch would be over before it begins.
    """
    if configuration.last_height is not None and root.height >= configuration.last_height:
        raise InvalidInput(
            f"epoch {configuration.epoch} ends at height {configuration.last_height}; it cannot begin on "
            f"block {root.height}"
        )
    certificate = root_certificate(
        root, configuration.epoch, len(configuration.validators), configuration.blocks_per_view
    )
    return State(
        configuration=configuration,
        view=View(1),
        entry=ViewEntry(certificate, None),
        root=certificate,
        highest=certificate,
        final_header=root,
        locked_height=root.height,
        certificates={certificate.block: certificate},
    )


def restored_state(
    configuration: Configuration,
    final_header: Header,
    final_certificate: QuorumCertificate,
    record: SafetyRecord | None,
    blocks: tuple[tuple[Block, bytes | None], ...],
) -> State:
    """A validator after a restart, from what ``Persist`` and ``Finalise`` made durable.

    Args:
        final_certificate: of the last final block; of the epoch before where the epoch begins on that block.
        record: ignored where it is of an earlier epoch, in which nothing is signed any more.

    Raises:
        InvalidInput: the last final block ends the epoch; open the next one.
    """
    state = initial_state(configuration, final_header)
    if final_certificate.epoch == configuration.epoch:
        last = configuration.blocks_per_view - 1
        state.view = View(final_certificate.view + (final_certificate.index == last))
        state.entry = ViewEntry(final_certificate, None)
        state.highest = final_certificate
        state.certificates = {final_certificate.block: final_certificate}
    for block, signature in blocks:
        if block.header.epoch == configuration.epoch and block.header.height > final_header.height:
            state.blocks[header_hash(block.header)] = Tracked(block, signature, None, justified=False)
    if record is None or record.epoch != configuration.epoch:
        return state
    for certificate in record.certificates:
        if certificate.height > final_header.height:
            state.certificates[certificate.block] = certificate
    if rank(record.highest) > rank(state.highest):
        state.highest = record.highest
        state.certificates.setdefault(record.highest.block, record.highest)
    if record.view >= state.view:
        state.view, state.entry = record.view, record.entry
        state.timed_out = record.timed_out
        state.voted = record.voted
        if record.accepted is not None:
            state.accepted = (record.voted[-1][0], record.accepted)
        state.proposed_index, state.proposed = record.proposed_index, record.proposed
    return state
