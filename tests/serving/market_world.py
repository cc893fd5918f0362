"""A market on a chain that a test writes by hand, and a buyer with a channel on it."""

from dataclasses import dataclass, field

from koinon.contracts.eip712 import channels_domain
from koinon.crypto.hash import sha256
from koinon.crypto.signature import AccountKey
from koinon.kernel.errors import Unavailable
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import ChainId, TokenAmount, UnixSeconds
from koinon.market.channels import Channel
from koinon.market.passes import Pass
from koinon.market.payments import Terms

SERVICE = 7
DOMAIN = channels_domain(ChainId(1337), Address(sha256(b"market")[:20]))
BUYER = AccountKey.from_secret(sha256(b"buyer"))
STRANGER = AccountKey.from_secret(sha256(b"stranger"))
RECEIVER = AccountKey.from_secret(sha256(b"receiver")).address
CHANNEL = sha256(b"channel")
TERMS = Terms(SERVICE, TokenAmount(10), pass_required=True)
FAR_FUTURE = UnixSeconds(1_900_000_000)


@dataclass
class HandWrittenMarket:
    """Answers a gate's questions from dictionaries and counts them."""

    channels: dict[Hash32, Channel] = field(default_factory=dict)
    passes: dict[int, Pass] = field(default_factory=dict)
    questions: int = 0
    reachable: bool = True

    async def channel(self, identifier: Hash32, /) -> Channel | None:
        self._ask()
        return self.channels.get(identifier)

    async def pass_(self, number: int, /) -> Pass | None:
        self._ask()
        return self.passes.get(number)

    def _ask(self) -> None:
        self.questions += 1
        if not self.reachable:
            raise Unavailable("the chain cannot be reached")


def channel(deposit: int = 1000, ends: int = FAR_FUTURE, settled: int = 0) -> Channel:
    return Channel(
        CHANNEL,
        BUYER.address,
        RECEIVER,
        SERVICE,
        TokenAmount(deposit),
        TokenAmount(settled),
        UnixSeconds(ends),
    )


def market(quota: int = 50) -> HandWrittenMarket:
    return HandWrittenMarket({CHANNEL: channel()}, {3: Pass(3, SERVICE, BUYER.address, quota, FAR_FUTURE)})
