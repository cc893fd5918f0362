"""``koinon verify-finality``: whether a block is final, from a proof and a genesis file, with no network and no key."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from koinon.cli.console import console, print_json
from koinon.cli.options import JSON
from koinon.kernel.errors import InvalidInput, MalformedMessage, Unavailable
from koinon.kernel.ids import to_hex

if TYPE_CHECKING:
    from koinon.ledger.genesis import Genesis
    from koinon.ledger.types import ValidatorSet
    from koinon.wire.consensus import FinalityProof

LARGEST_PROOF: Final = 16 << 20
LARGEST_GENESIS: Final = 64 << 20


@click.command("verify-finality")
@click.argument("proof", type=click.Path(path_type=Path))
@click.option(
    "--genesis",
    "genesis_file",
    type=click.Path(path_type=Path),
    required=True,
    help="The file genesis that you trust, as in every node's home; it names the validators.",
)
@click.option(
    "--epochs",
    "ends_files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="File with an answer of koinon_epochEnds; repeat in order. Needed for blocks of later epochs.",
)
@JSON
def verify_finality(proof: Path, genesis_file: Path, ends_files: tuple[Path, ...], as_json: bool) -> None:
    """Check that the block of a PROOF is final.

    PROOF is a file with the answer of koinon_finality: the JSON, its field "proof" alone, or the bytes that this stands
    for. Nothing is asked of any node: the validators' signatures are checked against the keys in the genesis file.
    Where validators change, the ends of epochs lead from those keys to the ones that signed the block.
    """
    from koinon.ledger import finality
    from koinon.ledger.types import bitmap_positions, header_hash

    genesis = _genesis(genesis_file)
    held = read_proof(proof)
    validators = _validators(genesis, ends_files, held.headers[-1].epoch)
    header = finality.verify_finality(held.headers, held.certificates, validators)
    if header.chain_id != genesis.chain_id:
        raise InvalidInput(f"the proof is of chain {header.chain_id}; the genesis file is of chain {genesis.chain_id}")
    signers = [bitmap_positions(one.signers, len(validators)) for one in held.certificates]
    facts = {
        "final": True,
        "height": header.height,
        "block": to_hex(header_hash(header)),
        "state_root": to_hex(header.state_root),
        "timestamp": header.timestamp,
        "chain_id": header.chain_id,
        "validators": len(validators),
        "quorum": validators.quorum,
        "signers": [list(positions) for positions in signers],
    }
    if as_json:
        print_json(facts)
        return
    least = min(len(positions) for positions in signers)
    console.print(
        f"block {header.height} ({facts['block']}) is final: three linked certificates, each signed by at least "
        f"{least} of {len(validators)} validators ({validators.quorum} are needed)",
        soft_wrap=True,
    )


def _validators(genesis: "Genesis", files: tuple[Path, ...], epoch: int) -> "ValidatorSet":
    """The set of an epoch, by the ends that lead there. Raises InvalidInput, MalformedMessage or Forged."""
    from koinon.kernel.codec import decode
    from koinon.ledger.finality import verify_epochs
    from koinon.wire.ledger import EpochEnd

    ends: list[EpochEnd] = []
    for path in files:
        text = _bytes(path, LARGEST_PROOF, "ends of epochs")
        try:
            answer = json.loads(text)
            entries = answer["result"] if isinstance(answer, dict) else answer
            ends.extend(decode(EpochEnd, bytes.fromhex(entry.removeprefix("0x"))) for entry in entries)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise MalformedMessage(f"{path.name} holds no answer of koinon_epochEnds") from None
    if len(ends) < epoch:
        raise InvalidInput(
            f"the block is of epoch {epoch}, and the ends of {len(ends)} epochs were given; ask a node for all before "
            "it (koinon_epochEnds) and give them with --epochs"
        )
    return verify_epochs(genesis.validator_set(), ends[:epoch])[-1]


def read_proof(path: Path) -> "FinalityProof":
    """The proof in a file, in any of its forms. Raises InvalidInput or MalformedMessage where there is none."""
    from koinon.kernel.codec import decode
    from koinon.wire.consensus import FinalityProof

    data = _bytes(path, LARGEST_PROOF, "proof")
    text = data.strip()
    if text[:1] == b"{":
        try:
            answer = json.loads(text)
            inner = answer.get("result", answer)
            text = str(inner["proof"]).encode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise MalformedMessage(
                f'{path.name} holds no answer of koinon_finality: a field "proof" is missing'
            ) from None
    if text[:2] == b"0x":
        try:
            data = bytes.fromhex(text[2:].decode("ascii"))
        except ValueError:
            raise MalformedMessage(f"the proof in {path.name} is not hexadecimal") from None
    return decode(FinalityProof, data, limit=LARGEST_PROOF)


def _genesis(path: Path) -> "Genesis":
    from koinon.kernel.codec import decode
    from koinon.ledger.genesis import Genesis

    genesis = decode(Genesis, _bytes(path, LARGEST_GENESIS, "genesis"), limit=LARGEST_GENESIS)
    genesis.check()
    return genesis


def _bytes(path: Path, most: int, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as problem:
        raise Unavailable(f"cannot read the {what} {path.name}: {problem.strerror}") from None
    if len(data) > most:
        raise InvalidInput(f"{path.name} is larger than {most >> 20} MiB; it is no {what}")
    return data
