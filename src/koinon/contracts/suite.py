"""The whole suite: deploying it, wiring it, finding it again, and checking that it is what it claims to be."""

from dataclasses import dataclass
from typing import Final, Self

from koinon.contracts.artifacts import SUITE, artifact
from koinon.contracts.assets import Assets
from koinon.contracts.client import ChainClient
from koinon.contracts.contract import Contract
from koinon.contracts.evaluations import Evaluations
from koinon.contracts.judgements import Judgements
from koinon.contracts.market import Market
from koinon.contracts.names import Names
from koinon.contracts.providers import Providers
from koinon.contracts.receipts import Receipts
from koinon.contracts.studies import Studies
from koinon.contracts.token import Token
from koinon.kernel.codec import Record
from koinon.kernel.errors import Forged, InvalidInput, Unavailable
from koinon.kernel.ids import Address, parse_address, to_hex
from koinon.kernel.quantities import TOKEN_UNIT, BasisPoints, TokenAmount

DAY: Final = 24 * 60 * 60


class SuiteAddresses(Record, frozen=True):
    """Where the contracts of one suite are deployed; what a network's configuration holds."""

    token: bytes
    providers: bytes
    studies: bytes
    assets: bytes
    evaluations: bytes
    names: bytes
    market: bytes
    receipts: bytes
    judgements: bytes


@dataclass(frozen=True, slots=True)
class SuiteParameters:
    """What is fixed at deployment, for ever.

    Attributes:
        draw_delay: blocks between a lock and the block whose hash is used; so many that f + 1 proposers make them.
        freeze_seconds: how long stake asked back stays at risk.
        slash_share: part of the stake lost by an unanswered challenge; likewise ``outlier_share`` of a wilful outlier
            and ``absent_share`` of an evaluator that stays away.
        close_delay: seconds a receiver has to settle after the payer asked to close.
        judge_fee: for each judge that votes about a member that pleads, paid by that member.
        plead_seconds: time an accused member has to plead; ``judge_seconds`` to draw its judges, and for them to vote.
    """

    supply: TokenAmount = TokenAmount(1_000_000_000 * TOKEN_UNIT)  # noqa: RUF009
    minimum_stake: TokenAmount = TokenAmount(1_000 * TOKEN_UNIT)  # noqa: RUF009
    freeze_seconds: int = 7 * DAY
    draw_delay: int = 4
    slash_share: BasisPoints = BasisPoints(1_000)  # noqa: RUF009
    outlier_share: BasisPoints = BasisPoints(1_000)  # noqa: RUF009
    absent_share: BasisPoints = BasisPoints(200)  # noqa: RUF009
    close_delay: int = DAY
    judge_fee: TokenAmount = TokenAmount(TOKEN_UNIT)  # noqa: RUF009
    plead_seconds: int = DAY
    judge_seconds: int = DAY


@dataclass(frozen=True, slots=True)
class Suite:
    """Typed clients of one suite, all through one ``ChainClient``."""

    client: ChainClient
    token: Token
    providers: Providers
    studies: Studies
    assets: Assets
    evaluations: Evaluations
    names: Names
    market: Market
    receipts: Receipts
    judgements: Judgements

    @classmethod
    def at(cls, client: ChainClient, addresses: SuiteAddresses) -> Self:
        """Clients of a suite that exists. Nothing is checked; see ``verify``."""
        return cls(
            client=client,
            token=Token(client, Address(addresses.token)),
            providers=Providers(client, Address(addresses.providers)),
            studies=Studies(client, Address(addresses.studies)),
            assets=Assets(client, Address(addresses.assets)),
            evaluations=Evaluations(client, Address(addresses.evaluations)),
            names=Names(client, Address(addresses.names)),
            market=Market(client, Address(addresses.market)),
            receipts=Receipts(client, Address(addresses.receipts)),
            judgements=Judgements(client, Address(addresses.judgements)),
        )

    @classmethod
    async def deploy(cls, client: ChainClient, parameters: SuiteParameters) -> Self:
        """Deploy and wire everything; ten transactions. The whole token supply goes to the client's account."""
        token = await Token.deploy(client, parameters.supply)
        providers = await Providers.deploy(client, token.address, parameters.minimum_stake, parameters.freeze_seconds)
        studies = await Studies.deploy(
            client, token.address, providers.address, parameters.draw_delay, parameters.slash_share
        )
        assets = await Assets.deploy(client, token.address, studies.address)
        evaluations = await Evaluations.deploy(
            client,
            token.address,
            providers.address,
            assets.address,
            parameters.draw_delay,
            parameters.outlier_share,
            parameters.absent_share,
        )
        names = await Names.deploy(client, assets.address, evaluations.address)
        market = await Market.deploy(client, assets.address, parameters.close_delay)
        receipts = await Receipts.deploy(client, assets.address, providers.address)
        judgements = await Judgements.deploy(
            client,
            token.address,
            providers.address,
            studies.address,
            parameters.draw_delay,
            parameters.slash_share,
            parameters.judge_fee,
            parameters.plead_seconds,
            parameters.judge_seconds,
        )
        await providers.wire([studies.address, evaluations.address, judgements.address])
        return cls(client, token, providers, studies, assets, evaluations, names, market, receipts, judgements)

    @property
    def contracts(self) -> dict[str, Contract]:
        """The clients by contract name, in the order of deployment."""
        return {name: getattr(self, name.lower()) for name in SUITE}

    @property
    def addresses(self) -> SuiteAddresses:
        """Where the suite is; ``Suite.at`` takes it."""
        return SuiteAddresses(**{name.lower(): contract.address for name, contract in self.contracts.items()})

    def through(self, client: ChainClient) -> Self:
        """The same suite, called by another account."""
        return self.at(client, self.addresses)

    async def verify(self) -> None:
        """Check that every address holds the code of our artefact and that the contracts point at one another.

        Raises:
            Unavailable: an address holds no code on this chain.
            Forged: it holds other code, or a contract of the suite trusts one outside of it.
        """
        for name, contract in self.contracts.items():
            code = await self.client.code(contract.address)
            if not code:
                raise Unavailable(
                    f"there is no {name} at {to_hex(contract.address)} on this chain; check the addresses"
                )
            if not artifact(name).is_code(code):
                raise Forged(f"the code at {to_hex(contract.address)} is not this version's {name}")
        for name, wires in _WIRES.items():
            for getter, target in wires:
                expected = self.contracts[target].address
                found = await self.contracts[name].read_address(getter)
                if found != expected:
                    raise Forged(f"{name} trusts another {target}, at {to_hex(found)}, than this suite's")
        for name in ("Studies", "Evaluations", "Judgements"):
            if not await self.providers.is_authorised(self.contracts[name].address):
                raise Forged(f"Providers does not let {name} draw; the suite is not wired")


_WIRES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "Providers": (("token", "Token"),),
    "Studies": (("token", "Token"), ("providers", "Providers")),
    "Assets": (("token", "Token"), ("studies", "Studies")),
    "Evaluations": (("token", "Token"), ("providers", "Providers"), ("assets", "Assets")),
    "Names": (("assets", "Assets"), ("evaluations", "Evaluations")),
    "Market": (("token", "Token"), ("assets", "Assets")),
    "Receipts": (("assets", "Assets"), ("providers", "Providers")),
    "Judgements": (("token", "Token"), ("providers", "Providers"), ("studies", "Studies")),
}


def parse_addresses(text_by_name: dict[str, str]) -> SuiteAddresses:
    """Read the addresses of a suite from configuration, by lower-case contract name.

    Raises:
        InvalidInput: one is missing, unknown, or no address.
    """
    wanted = {name.lower() for name in SUITE}
    if set(text_by_name) != wanted:
        different = ", ".join(sorted(wanted.symmetric_difference(text_by_name)))
        raise InvalidInput(
            f"the addresses of a suite are {', '.join(sorted(wanted))}; missing or too many: {different}"
        )
    return SuiteAddresses(**{name: parse_address(text) for name, text in text_by_name.items()})
