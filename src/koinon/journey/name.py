"""name: take a name for the model. What it resolves to is set when somebody answers for it (``serve``)."""

from koinon.contracts.refusals import Reverted
from koinon.journey.desk import Desk
from koinon.journey.results import Named, Validated
from koinon.kernel.errors import Refused
from koinon.kernel.ids import Address, to_hex


async def name(desk: Desk, validated: Validated, name: str) -> Named:
    """Register a name; one that is this account's already is as good as new.

    Raises:
        Refused: the name belongs to somebody else, or is no name.
    """
    owner = await owner_of(desk, name)
    if owner is None:
        try:
            await desk.suite.names.register(name)
        except Reverted as refusal:
            if refusal.error != "NameTaken":
                raise
        # Somebody may have been quicker by one block.
        owner = await owner_of(desk, name)
    if owner != desk.account:
        taken = "nobody" if owner is None else to_hex(owner)
        raise Refused(f"the name {name[:64]!r} belongs to {taken}; choose another")
    desk.say(f"the name {name} is registered", 1.0)
    return Named(validated, name)


async def owner_of(desk: Desk, name: str) -> Address | None:
    """Who registered a name; None for nobody."""
    try:
        owner, _ = await desk.suite.names.resolve(name)
    except Reverted as refusal:
        if refusal.error == "UnknownName":
            return None
        raise
    return Address(owner)
