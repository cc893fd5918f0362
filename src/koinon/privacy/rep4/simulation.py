"""The engine with all four parties in one process: for tests, simulation and measurements.

It runs exactly the protocol of the four workers, from dealing to opening; only the links and the signatures are ideal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from koinon.crypto.signature import NodeKey
from koinon.kernel.effects import Rng
from koinon.privacy.backend import Adversary, PlainInput, Program, Result, check_inputs, named_outputs
from koinon.privacy.estimate import estimate
from koinon.privacy.opening import reconstruct
from koinon.privacy.rep4 import lockstep
from koinon.privacy.rep4.lockstep import Corruption, Ending
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.seals import SEAL_DOMAIN
from koinon.privacy.rep4.session import Terms, take_part
from koinon.privacy.rep4.shares import Shares
from koinon.privacy.rep4.signing import IdealSignatures
from koinon.privacy.rep4.transcript import RecordedRng, RecordedSignatures, Transcript
from koinon.privacy.sharing import Dealing, accept_package, deal
from koinon.wire.committee import POSITIONS, ShareManifest, SharePackage

ADVERSARY: Final = Adversary(
    4,
    1,
    True,
    "Any one of the four may do whatever it likes: it learns nothing, and a wrong result is never opened; it can stop"
    " the run. Any two together learn everything.",
)

Dealt = tuple[ShareManifest, tuple[SharePackage, SharePackage, SharePackage, SharePackage]]


@dataclass(frozen=True, slots=True)
class SimulatedRep4:
    """The backend ``rep4`` in one process.

    Attributes:
        corruption: what a corrupted party does; None for an honest run.
    """

    corruption: Corruption | None = None

    @property
    def name(self) -> str:
        return "rep4"

    @property
    def adversary(self) -> Adversary:
        return ADVERSARY

    def run(self, program: Program, inputs: Sequence[PlainInput], rng: Rng) -> Result:
        """See ``Backend.run``."""
        check_inputs(program, inputs)
        estimate(program)
        dealing = Dealing(rng.bytes(32), 0, rng.bytes(32))
        dealt = [
            deal(each.values, each.columns, program.fraction_bits, dealing, NodeKey.generate(rng), rng)
            for each in inputs
        ]
        endings = simulate(program, dealt, rng, self.corruption)
        packages = [outcome.package for outcome in lockstep.finished(endings)]
        values, liars = reconstruct(packages, packages[0].session)
        return Result(named_outputs(program, values), liars)


@dataclass(frozen=True, slots=True)
class Stage:
    """Four simulated parties on dealt inputs, before they start; and what a judge needs afterwards.

    Attributes:
        identity: of the run.
        transcripts: of the positions, filled as they run.
    """

    identity: bytes
    program: Program
    dealt: Sequence[Dealt]
    secrets: tuple[bytes, bytes, bytes, bytes]
    transcripts: tuple[Transcript, ...]

    @classmethod
    def draw(cls, program: Program, dealt: Sequence[Dealt], rng: Rng) -> "Stage":
        """A fresh run: identity and signing keys."""
        identity = rng.bytes(32)
        secrets = (rng.bytes(32), rng.bytes(32), rng.bytes(32), rng.bytes(32))
        return cls(identity, program, dealt, secrets, tuple(Transcript() for _ in POSITIONS))

    @property
    def session(self) -> bytes:
        return _terms(self.program, self.identity, [manifest for manifest, _ in self.dealt]).digest()

    def signatures(self, position: int) -> IdealSignatures:
        """What ``position`` signs with."""
        return IdealSignatures(position, self.secrets)

    def inputs(self, position: int) -> list[Shares]:
        """The shares that the owners dealt to ``position``."""
        return [accept_package(manifest, position, packages[position]) for manifest, packages in self.dealt]


def simulate(
    program: Program,
    dealt: Sequence[Dealt],
    rng: Rng,
    corruption: Corruption | None = None,
    used: Callable[[int, list[Shares]], list[Shares]] | None = None,
) -> list[Ending]:
    """Four parties on dealt inputs, one of them perhaps corrupted; how each ended.

    Args:
        used: (position, its shares of the inputs) → what a corrupted position computes with instead.
    """
    return perform(Stage.draw(program, dealt, rng), rng, corruption, used)


def perform(
    stage: Stage,
    rng: Rng,
    corruption: Corruption | None = None,
    used: Callable[[int, list[Shares]], list[Shares]] | None = None,
) -> list[Ending]:
    """As ``simulate``, on a stage that a judge can look at afterwards. A stage serves once."""
    parties, protocols = [], []
    for position in POSITIONS:
        transcript, inputs = stage.transcripts[position], stage.inputs(position)
        signatures = RecordedSignatures(stage.signatures(position), transcript, SEAL_DOMAIN)
        party = Party(position, stage.session, signatures, transcript)
        held = inputs if used is None else used(position, inputs)
        parties.append(party)
        protocols.append(take_part(party, stage.identity, stage.program, held, RecordedRng(rng, transcript)))
    return lockstep.run(parties, protocols, corruption)


def _terms(program: Program, identity: bytes, manifests: Sequence[ShareManifest]) -> Terms:
    nobody = (bytes(32), bytes(32), bytes(32), bytes(32))
    return Terms(identity, program.name, bytes(32), b"", bytes(32), nobody, nobody, tuple(manifests))
