"""What a reverted call says, as one sentence: the contract, its error with its values, and what to do."""

from functools import cache
from typing import Any, Final

from koinon.contracts.abi import Interface, Method, decode, snake_case
from koinon.contracts.artifacts import SUITE, SYSTEM, artifact
from koinon.crypto.hash import keccak256
from koinon.kernel.errors import MalformedMessage, Refused
from koinon.kernel.ids import to_hex

ERROR_STRING: Final = keccak256(b"Error(string)")[:4]
PANIC: Final = keccak256(b"Panic(uint256)")[:4]
LONGEST_REASON: Final = 300

ADVICE: Final = {
    "AlreadyDone": "{account} has done this already; nothing more is needed",
    "AuthorizationSpent": "this authorisation was used or cancelled; sign one with another nonce",
    "BadField": "{name} is missing or out of range; correct it",
    "BadName": "a name has 3 to 64 of a-z, 0-9, '-' and '.'; the last two neither first, last nor together",
    "BadOpening": "what {party} opened is not what it committed to; send the very values of the commitment",
    "BadSignature": "the signature is not {signer}'s over this; sign with that account's key and the right chain",
    "ChallengeOpen": "{count} challenges are open; answer them or let them expire first",
    "ChannelIsClosed": "the channel is closed; open one with another salt",
    "ClaimOutOfRange": "the voucher must be above the {claimed} claimed and at most the deposit of {deposit}",
    "ERC20InsufficientAllowance": "{spender} may take {allowance} and needs {needed}; approve more",
    "ERC20InsufficientBalance": "{sender} has {balance} and needs {needed}; add funds",
    "ERC2612ExpiredSignature": "the permit expired at Unix second {deadline}; sign a new one",
    "ERC2612InvalidSigner": "the permit is signed by {signer}, not by {owner}",
    "ERC721NonexistentToken": "there is no token {token_id}",
    "EntropyOutOfReach": "the hash of block {height} is out of reach; call capture, which schedules the draw anew",
    "EtherRefused": "prices are in the payment token; send no native money",
    "EvidenceOutOfReach": "the evidence is of epoch {epoch_}, which is too long ago or has not come",
    "ForeignProvenance": "no owner of the study consented with the dataset that asset {parent} stands for",
    "Full": "there is no room for another one now",
    "HeightNotReached": "wait until a block after {height} exists",
    "KeyTaken": "this BLS key or node has been registered; make new keys",
    "Locked": "{account} has {locks} assignments; wait until they end",
    "NameTaken": "the name belongs to {owner}; choose another",
    "NotACandidate": "number {number} is no candidate",
    "NotAllowed": "{caller} has no right to do this",
    "NotEnough": "there is {held} and {wanted} is needed",
    "NotEnoughProviders": "{found} eligible providers with different operators were found and {needed} are needed",
    "NotOffered": "the owner of service {service_id} offers nothing now",
    "NotProven": "the keys or the evidence do not prove what they must",
    "NotRegistered": "{account} must register as a provider first",
    "NothingToWithdraw": "{account} has no credit",
    "NotesMoved": "the asset has {count} commitments by now; read them again before adding more",
    "OutOfSequence": "the next batch starts at receipt {expected}, not {given}",
    "PaymentRefused": "{account} does not take coins",
    "PoolFull": "no more providers are admitted to this role now",
    "PriceAbove": "the price is {price}, above the maximum of {maximum} you set",
    "ShareFixed": "the share can be changed again in era {until_era}",
    "StakeTooSmall": "the stake is {stake}; ask for no more",
    "TooEarly": "this is allowed after Unix second {time}",
    "TooFewSignatures": "{given} signatures were given and {needed} are needed",
    "TooLate": "the deadline was Unix second {time}",
    "Unknown": "nothing has the number {id}",
    "UnknownName": "nobody registered this name",
    "WrongAttempt": "attempt {current} is under way, not {attempt}",
    "WrongPhase": "the subject is in phase {phase}, in which this step does not exist",
}


class Reverted(Refused):
    """A contract refused a call, and nothing has changed.

    Attributes:
        error: name of the contract's error, such as ``NotAllowed``; empty where it gave none.
        arguments: its values by name.
    """

    def __init__(self, sentence: str, error: str = "", arguments: dict[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.error = error
        self.arguments = arguments or {}


@cache
def _errors() -> dict[bytes, Method]:
    known: dict[bytes, Method] = {}
    for name in (*SUITE, *SYSTEM):
        known |= Interface(artifact(name)).errors
    return known


def explain(data: bytes, doing: str) -> Reverted:
    """The error to raise for revert data.

    Args:
        data: what the call returned; hostile, as everything from a chain's RPC.
        doing: contract and step, such as ``Studies refused complete``.
    """
    selector, body = data[:4], data[4:]
    try:
        if selector == ERROR_STRING:
            (reason,) = decode([{"type": "string", "name": "reason"}], body, doing)
            return Reverted(f"{doing}: {reason[:LONGEST_REASON]}")
        if selector == PANIC:
            (code,) = decode([{"type": "uint256", "name": "code"}], body, doing)
            return Reverted(f"{doing}: its arithmetic failed (panic {code:#x}); an amount is too large", "Panic")
        method = _errors().get(selector)
        if method is None:
            return Reverted(f"{doing} without a reason that is known here ({to_hex(selector)})")
        values = decode(method.inputs, body, doing)
    except MalformedMessage:
        return Reverted(f"{doing} with a reason that cannot be read")
    arguments = {snake_case(entry["name"]): value for entry, value in zip(method.inputs, values, strict=True)}
    shown = {name: _show(value, name) for name, value in arguments.items()}
    listed = ", ".join(f"{name}={value}" for name, value in shown.items())
    sentence = f"{doing}: {method.name}({listed})"
    advice = ADVICE.get(method.name)
    if advice is not None:
        sentence += " — " + advice.format(**shown)
    return Reverted(sentence, method.name, arguments)


def _show(value: object, name: str) -> str:
    if isinstance(value, bytes):
        text = value.rstrip(b"\0")
        if name == "name" and text.isascii() and text.decode().isprintable():
            return text.decode()
        return to_hex(value)
    return str(value)[:LONGEST_REASON]
