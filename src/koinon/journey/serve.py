"""serve: mint a service on the model, set its price, have providers answer for it, and let the name resolve to them."""

import asyncio
from dataclasses import replace
from typing import Final, Protocol

from koinon.contracts.assets import AssetKind, Mint
from koinon.contracts.market import Offer
from koinon.contracts.names import Resolution, ServiceEndpoint
from koinon.contracts.providers import Role
from koinon.crypto.hash import tagged_hash
from koinon.journey.desk import Desk
from koinon.journey.package import providers_of
from koinon.journey.results import Endpoint, Named, Served
from koinon.kernel.codec import Record, encode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Unavailable
from koinon.kernel.ids import Address, Hash32, NodeId
from koinon.kernel.quantities import BasisPoints, Seconds, TokenAmount
from koinon.wire.studies import DeployService, ServiceReady

DEPLOY_SECONDS: Final = Seconds(60.0)
MOST_ENDPOINTS: Final = 8


class ServiceDescription(Record, frozen=True):
    """What a service asset's content hash stands for."""

    name: str
    model: int
    weights_hash: Hash32


class Serving(Protocol):
    """What is wanted.

    Attributes:
        named: the model and its name.
        endpoints: how many providers, no two of one operator, shall answer; 1 to 8.
        price: of one answer by voucher.
        pass_price: of a pass for each day begun; 0 for a service that asks for no pass. The calls of a pass's quota
            cost nothing when it is bought.
        node_share: part of voucher revenue for the node that answers, in basis points.
    """

    @property
    def named(self) -> Named: ...

    @property
    def endpoints(self) -> int: ...

    @property
    def price(self) -> TokenAmount: ...

    @property
    def pass_price(self) -> TokenAmount: ...

    @property
    def node_share(self) -> BasisPoints: ...


async def serve(desk: Desk, wanted: Serving) -> Served:
    """Bring a named model into service.

    Raises:
        InvalidInput: endpoints or prices out of range.
        Unavailable: fewer providers than asked for can be brought to answer; says how each failed.
    """
    named = wanted.named
    if not 1 <= wanted.endpoints <= MOST_ENDPOINTS:
        raise InvalidInput(f"a name has 1 to {MOST_ENDPOINTS} endpoints; got {wanted.endpoints}")
    if wanted.pass_price and not wanted.price:
        raise InvalidInput(
            "a service that asks for a pass needs a price per call of at least 1, whose voucher proves it"
        )
    hardened = named.validated.hardened
    service = await _mint(desk, named)
    offer = Offer(
        price_per_call=TokenAmount(0),
        price_per_day=wanted.pass_price,
        voucher_price=wanted.price,
        node_share=wanted.node_share,
        open=True,
    )
    await desk.suite.market.set_offer(service, offer)
    desk.say(f"service {service} is minted and offered", 0.2)
    try:
        found = await _deploy(desk, named, service, wanted.endpoints)
    except KoinonError:
        # Nobody shall buy a pass for a service that nobody answers for.
        await desk.suite.market.set_offer(service, replace(offer, open=False))
        raise
    resolution = Resolution(
        model_id=hardened.model,
        weights_hash=hardened.weights_hash,
        evaluation_id=named.validated.evaluation,
        endpoints=tuple(ServiceEndpoint(one.url, one.account) for one in found),
    )
    await desk.suite.names.set_resolution(named.name, resolution)
    desk.say(f"{named.name} resolves to {len(found)} endpoints", 1.0)
    return Served(named, service, found)


def contract_entry(service: int, node: bytes) -> bytes:
    """Where the publisher's node notes that it asked a node to serve: ``service-contract/``, service, node id."""
    return b"service-contract/" + service.to_bytes(8, "big") + node


def description_hash(description: ServiceDescription) -> Hash32:
    """The content hash of a service asset."""
    return tagged_hash("koinon/service/description/1", encode(description))


async def _mint(desk: Desk, named: Named) -> int:
    hardened = named.validated.hardened
    model = await desk.suite.assets.asset_of(hardened.model)
    return await desk.suite.assets.mint(
        Mint(
            kind=AssetKind.SERVICE,
            content_hash=description_hash(ServiceDescription(named.name, hardened.model, hardened.weights_hash)),
            uri=f"koinon-name:{named.name}",
            parents=(hardened.model,),
            payees=model.payees,
            shares=model.shares,
        )
    )


async def _deploy(desk: Desk, named: Named, service: int, wanted: int) -> tuple[Endpoint, ...]:
    """Ask providers until enough of them answer; those that fail are passed over with the reason."""
    waiting = await providers_of(desk, (Role.SERVE,))
    operators = {a: (await desk.suite.providers.provider_of(a)).operator for a in waiting}
    found: list[Endpoint] = []
    used: set[Hash32] = set()
    failures: list[str] = []
    while len(found) < wanted:
        turn = different_operators(waiting, operators, used)[: wanted - len(found)]
        if not turn:
            because = "; ".join(failures) or "no more providers with different operators are in the pool"
            raise Unavailable(f"{len(found)} of {wanted} endpoints answer for service {service}: {because}")
        waiting = [account for account in waiting if account not in turn]
        outcomes = await asyncio.gather(*(_ask(desk, named, service, account) for account in turn))
        for account, outcome in zip(turn, outcomes, strict=True):
            if isinstance(outcome, str):
                failures.append(outcome)
                continue
            used.add(operators[account])
            found.append(outcome)
            desk.say(f"{outcome.url} answers with the right weights", 0.2 + 0.7 * len(found) / wanted)
    return tuple(found)


def different_operators(accounts: list[Address], operators: dict[Address, Hash32], used: set[Hash32]) -> list[Address]:
    """Of these accounts in their order, those whose operator has not been used, one for each operator."""
    taken = set(used)
    chosen = []
    for account in accounts:
        if operators[account] not in taken:
            taken.add(operators[account])
            chosen.append(account)
    return chosen


async def _ask(desk: Desk, named: Named, service: int, account: Address) -> Endpoint | str:
    """The provider's endpoint once it was seen to serve the right weights, or why there is none."""
    hardened = named.validated.hardened
    try:
        record = await desk.directory.find_account(account)
    except KoinonError as problem:
        return f"0x{account.hex()[:8]}…: {problem}"
    node = NodeId(record.claim.node_id)
    contract = contract_entry(service, node)
    desk.memory.write({contract: b"1"})
    try:
        order = DeployService(service, hardened.model, named.name)
        ready = await desk.transport.call(record.endpoint, order, DEPLOY_SECONDS)
        assert isinstance(ready, ServiceReady)  # the transport lets no other answer through
        if ready.weights_hash != hardened.weights_hash:
            raise Forged("it would serve other weights")
        endpoint = Endpoint(ready.url, node, account)
        await _verify(desk, named, endpoint)
    except KoinonError as problem:
        # Whoever does not answer for the model gets no key to it either.
        desk.memory.write({}, delete=[contract])
        return f"0x{account.hex()[:8]}…: {problem}"
    return endpoint


async def _verify(desk: Desk, named: Named, endpoint: Endpoint) -> None:
    """See over HTTP, as a caller would, that the endpoint serves these weights. Raises Forged or Unavailable."""
    from koinon.serving import names
    from koinon.serving.http_client import open_http

    hardened = named.validated.hardened
    resolution = names.Resolution(
        name=named.name,
        owner=desk.account,
        model=hardened.model,
        weights=hardened.weights_hash,
        evaluation=named.validated.evaluation,
        endpoints=(names.Endpoint(endpoint.url, endpoint.account, endpoint.node),),
    )
    async with open_http() as http:
        await names.nearest(resolution, http, desk.clock)
