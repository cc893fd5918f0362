"""The result party's side of one attempt, as a pure step: gather four outputs, and three signatures on one digest.

It has no veto: three members' signatures release the escrow whether or not it likes the output, and any member may
send them.
"""

from dataclasses import dataclass, replace

from koinon.kernel.ids import Hash32
from koinon.wire.committee import OutputPackage


@dataclass(frozen=True)
class MemberOutput:
    """What one member handed over; its signature on the digest has been checked."""

    position: int
    output: OutputPackage
    output_digest: Hash32
    signature: bytes


@dataclass(frozen=True)
class ResultState:
    study: int
    attempt: int
    outputs: tuple[MemberOutput, ...] = ()
    completed: bool = False


@dataclass(frozen=True)
class Complete:
    """Put the digest with these signatures on the chain and open the output. ``signers`` are positions in order."""

    output_digest: Hash32
    signers: tuple[int, ...]
    signatures: tuple[bytes, ...]
    outputs: tuple[OutputPackage, ...]


def step(state: ResultState, event: MemberOutput) -> tuple[ResultState, tuple[Complete, ...]]:
    """Take one member's output; complete as soon as three agree. A second output from one seat changes nothing."""
    if state.completed or event.position in {output.position for output in state.outputs}:
        return state, ()
    outputs = (*state.outputs, event)
    gathered = replace(state, outputs=outputs)
    agreeing = sorted((o for o in outputs if o.output_digest == event.output_digest), key=lambda o: o.position)
    if len(agreeing) < 3:
        return gathered, ()
    complete = Complete(
        event.output_digest,
        tuple(output.position for output in agreeing),
        tuple(output.signature for output in agreeing),
        tuple(output.output for output in outputs),
    )
    return replace(gathered, completed=True), (complete,)
