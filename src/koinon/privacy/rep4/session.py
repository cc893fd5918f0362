"""One position's whole run, from agreement to the output package, as one protocol.

    agree on the session and the keys → checkpoint → check the inputs' ranges
    → the program, with a checkpoint every so many rounds
    → re-randomise the output → last checkpoint, which compares the output digests → output package

Nothing is opened among the four: each sends its package to the result party, and only after all four have signed that
every check passed.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from koinon.crypto.hash import tagged_hash
from koinon.kernel.codec import encode
from koinon.kernel.effects import Rng
from koinon.privacy.backend import Program
from koinon.privacy.opening import component_digest, output_digest, output_salt
from koinon.privacy.rep4 import abort
from koinon.privacy.rep4.agreement import agree
from koinon.privacy.rep4.arithmetic import joint_input
from koinon.privacy.rep4.checkpoint import Statements, checkpoint
from koinon.privacy.rep4.contradiction import digests_in, odd_one
from koinon.privacy.rep4.domain import check_domain
from koinon.privacy.rep4.machine import Rep4Machine
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.shares import ROUTES, Shares, summed
from koinon.privacy.secret import Secret, aligned, joined
from koinon.privacy.sharing import manifest_hash
from koinon.wire.committee import POSITIONS, Four, OutputComponent, OutputPackage, ShareManifest

ROUNDS_PER_CHECKPOINT: Final = 200
FIXED_ROUNDS: Final = 4 + 1 + 6 + 1 + 1
"""Agreement, checkpoint, range checks, re-randomisation, last checkpoint."""
_SESSION_DOMAIN: Final = "koinon/rep4/session/1"
_ZERO_PAIRS: Final = ((2, 3), (3, 0), (0, 1))
"""Three pairs that connect all four components: their zero sharings add up to a uniform one."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the four must agree on before a share is used.

    Attributes:
        identity: 32-byte id of the run (study and attempt), under which the result party and the chain know it.
        program, algorithm, parameters: name, hash and canonical encoding.
        result_party: node id of who may open the output.
        nodes, workers: node ids and ephemeral worker keys by position.
        manifests: of the owners' dealings, in party order.
    """

    identity: bytes
    program: str
    algorithm: bytes
    parameters: bytes
    result_party: bytes
    nodes: Four
    workers: Four
    manifests: tuple[ShareManifest, ...]

    def digest(self) -> bytes:
        """The session: 32 bytes to which every hash, key and signature of the run is bound."""
        return tagged_hash(
            _SESSION_DOMAIN,
            self.identity,
            self.program.encode(),
            self.algorithm,
            self.parameters,
            self.result_party,
            encode([list(self.nodes), list(self.workers)]),
            *(manifest_hash(manifest) for manifest in self.manifests),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one position has at the end: its package for the result party, the digest for the chain, the evidence."""

    package: OutputPackage
    digest: bytes
    statements: Statements


def take_part(
    party: Party, identity: bytes, program: Program, inputs: Sequence[Shares], rng: Rng
) -> Generator[None, None, Outcome]:
    """The run of one position.

    Args:
        party: made for the session's digest.
        identity: of the run, as in ``Terms``.
        inputs: the accepted shares of each owner's rows.
        rng: for our contributions to the keys.

    Raises:
        CommitteeAbort: somebody deviated; nothing was opened.
    """
    yield from agree(party, rng)
    yield from checkpoint(party)
    flags = [program.flags_of(number) for number in range(len(inputs))]
    yield from check_domain(party, inputs, program.fraction_bits, flags)
    machine = Rep4Machine(party)
    secrets = [Secret(machine, shares, program.fraction_bits, 1.0) for shares in inputs]
    outputs = yield from _with_checkpoints(party, program.compute(machine, secrets))
    return (yield from _outcome(party, identity, outputs))


def _with_checkpoints(
    party: Party, computation: Generator[None, None, Sequence[Secret]]
) -> Generator[None, None, Sequence[Secret]]:
    rounds = 0
    while True:
        try:
            next(computation)
        except StopIteration as end:
            outputs: Sequence[Secret] = end.value
            return outputs
        yield
        rounds += 1
        if rounds % ROUNDS_PER_CHECKPOINT == 0:
            yield from checkpoint(party)


def _outcome(party: Party, identity: bytes, outputs: Sequence[Secret]) -> Generator[None, None, Outcome]:
    vector = _as_vector(outputs)
    shares = yield from _rerandomised(party, vector.data)
    salts = {j: output_salt(key, party.session) for j, key in party.keys.items()}
    values = {j: shares.part(j).astype("<u8").tobytes() for j in party.keys}
    digests = {j: component_digest(identity, j, values[j], salts[j]) for j in party.keys}
    note = b"".join(digests[j] for j in sorted(digests))
    party.check_seals()  # whoever is named by these digests can be cleared by its view alone
    statements = yield from checkpoint(party, note)
    agreed = _compared(party, digests, statements)
    first, second, third = (OutputComponent(j, values[j], salts[j]) for j in sorted(values))
    package = OutputPackage(
        identity, party.position, shares.shape[0], vector.fraction_bits, (first, second, third), agreed
    )
    return Outcome(package, output_digest(agreed), statements)


def _as_vector(outputs: Sequence[Secret]) -> Secret:
    finest = outputs[0]
    for each in outputs[1:]:
        finest, _ = aligned(finest, each)
    flat = [each.widened(finest.fraction_bits - each.fraction_bits).reshape(-1) for each in outputs]
    return joined(flat, 0)


def _rerandomised(party: Party, shares: Shares) -> Generator[None, None, Shares]:
    """Add a fresh sharing of zero, so that the four components tell nothing but their sum: one round."""
    zeros = []
    for pair in _ZERO_PAIRS:
        known = np.zeros(shares.shape, np.uint64) if party.position not in pair else None
        zeros.append(joint_input(party, ROUTES[pair], known, shares.shape))
    yield
    return summed([shares, *zeros], party.position)


def _compared(party: Party, mine: Mapping[int, bytes], statements: Statements) -> Four:
    """The four digests, of each of which three hold the value. Raises CommitteeAbort where a holder states another.

    Who says otherwise than the two others is named alone, and the frames of all three show it.
    """
    stated = {position: digests_in(position, statement.note) for position, statement in statements.items()}
    for j in POSITIONS:
        holders = {position: digests[j] for position, digests in stated.items() if position != j}
        if len(set(holders.values())) == 1:
            continue
        odd = odd_one(holders)
        if odd is None or odd == party.position:
            raise party.complain(abort.INCONSISTENT, next(p for p in holders if p not in (odd, party.position)))
        problem = party.complain(abort.ODD_DIGEST, odd)
        frames = {**party.heard_from, party.position: party.told[party.peers[0]]}
        problem.frames = tuple(frames[position] for position in holders)
        raise problem
    agreed = {**mine, party.position: stated[party.peers[0]][party.position]}
    return agreed[0], agreed[1], agreed[2], agreed[3]
