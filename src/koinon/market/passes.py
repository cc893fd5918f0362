"""Passes: the right to call a service a number of times until a date. Off the chain only the count is kept.

Who may use a pass is its owner on the chain. A voucher signed by that owner's key is sufficient proof of being the
owner, so no further signature is asked: a pass works only together with a channel of the same account.
"""

from dataclasses import dataclass, replace

from koinon.kernel.errors import InvalidInput, Refused
from koinon.kernel.ids import Address, to_hex
from koinon.kernel.quantities import UnixSeconds

_LONGEST_NUMBER = 78


@dataclass(frozen=True)
class Pass:
    """A pass as the market contract shows it: ``quota`` answers of ``service`` for ``owner`` until ``expires``."""

    number: int
    service: int
    owner: Address
    quota: int
    expires: UnixSeconds


@dataclass(frozen=True)
class PassAccount:
    """This node's count for one pass: ``used`` answers, those in flight included."""

    held: Pass
    used: int = 0


def use(account: PassAccount, *, caller: Address, service: int, answers: int, now: UnixSeconds) -> PassAccount:
    """Count ``answers`` against the pass.

    Raises:
        Refused: not the caller's pass, not for this service, expired, or not enough quota left; nothing is counted.
    """
    held = account.held
    if held.service != service:
        raise Refused(f"pass {held.number} is for service {held.service}, not {service}; buy one for this service")
    if held.owner != caller:
        raise Refused(f"pass {held.number} belongs to {to_hex(held.owner)}, not to the voucher's signer")
    if now >= held.expires:
        raise Refused(f"pass {held.number} has expired; renew it")
    if account.used + answers > held.quota:
        raise Refused(
            f"pass {held.number} is exhausted: {held.quota - account.used} of {held.quota} answers left, "
            f"{answers} asked; buy another"
        )
    return replace(account, used=account.used + answers)


def give_back(account: PassAccount, answers: int) -> PassAccount:
    """Uncount a call that got no answer."""
    return replace(account, used=account.used - answers)


def parse_pass_number(text: str) -> int:
    """Read a ``Koinon-Pass`` header. Raises InvalidInput unless it is a decimal number from 1 to 2^256 − 1."""
    if not (text.isascii() and text.isdigit()) or len(text) > _LONGEST_NUMBER or not 0 < int(text) < 1 << 256:
        raise InvalidInput("Koinon-Pass must be the decimal number of a pass")
    return int(text)
