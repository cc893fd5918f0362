"""How a validator begins: from genesis, or from what it made durable."""

from koinon.kernel.quantities import View
from koinon.ledger.giskard.certificates import (
    genesis_certificate,
    rank,
)
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


def initial_state(configuration: Configuration, genesis: Header) -> State:
    """A validator that has seen nothing but genesis."""
    certificate = genesis_certificate(genesis, len(configuration.validators), configuration.blocks_per_view)
    return State(
        configuration=configuration,
        view=View(1),
        entry=ViewEntry(certificate, None),
        highest=certificate,
        final_header=genesis,
        certificates={certificate.block: certificate},
    )


def restored_state(
    configuration: Configuration,
    final_header: Header,
    final_certificate: QuorumCertificate,
    record: SafetyRecord | None,
    blocks: tuple[tuple[Block, bytes | None], ...],
) -> State:
    """A validator after a restart, from what ``Persist`` and ``Finalise`` made durable."""
    state = State(
        configuration=configuration,
        view=View(1),
        entry=ViewEntry(final_certificate, None),
        highest=final_certificate,
        final_header=final_header,
        certificates={final_certificate.block: final_certificate},
    )
    last = configuration.blocks_per_view - 1
    state.view = View(final_certificate.view + (final_certificate.index == last))
    for block, signature in blocks:
        if block.header.height > final_header.height:
            state.blocks[header_hash(block.header)] = Tracked(block, signature, None, justified=False)
    if record is None:
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
