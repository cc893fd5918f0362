"""Who acts in the demonstration: the company's node by its operator's orders, a stranger who pays, one who audits."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from koinon.contracts.client import ChainClient
from koinon.contracts.studies import COMMITTEE_SIZE
from koinon.contracts.suite import Suite, parse_addresses
from koinon.crypto.hash import blake3
from koinon.crypto.random import SystemRng
from koinon.crypto.signature import AccountKey, NodeKey
from koinon.journey import audit, pay
from koinon.journey.results import Audited, Check, Hardened, Named, Paid, Published, Served, Study, Trained, Validated
from koinon.journey.story import Tell
from koinon.kernel.ids import parse_address, to_hex
from koinon.kernel.quantities import TOKEN_UNIT, BasisPoints, TokenAmount, Wei
from koinon.net.discovery import Directory
from koinon.net.transport import Transport
from koinon.node import orders
from koinon.node.config import read_config
from koinon.node.context import SystemClock
from koinon.node.local_network import Network
from koinon.node.setup import account_names, silent
from koinon.wire.discovery import Endpoint

EVALUATION_FEE: Final = TokenAmount(20 * TOKEN_UNIT)
CALL_PRICE: Final = TokenAmount(10_000)
"""A hundredth of a token."""
PASS_PRICE: Final = TokenAmount(5 * TOKEN_UNIT)
NODE_SHARE: Final = BasisPoints(3_000)
BUYER_MONEY: Final = TokenAmount(100 * TOKEN_UNIT)
COMMIT_SECONDS: Final = 90
REVEAL_SECONDS: Final = 60
EVALUATORS: Final = 3
ENDPOINTS: Final = 2
COPIES: Final = 2
VICTIM_SEAT: Final = 1
WATCH_SECONDS: Final = 0.05
LIAR_SEAT: Final = 2
VALIDATOR: Final = "hospital-2"
DRAWN: Final = "committee drawn: "


@dataclass(frozen=True)
class Scene:
    """What the demonstration is about.

    Attributes:
        study_text: the study file's text.
        model_name: as it will be registered, such as ``tumour-risk.clinic``.
        rows: the buyer's own, float32 (N, columns).
        effort: of the evaluation; 1 is the full suite.
        chaos: None, ``kill``, ``lie`` or ``validator``.
        gas_money: what a new account needs on this chain.
    """

    study_text: str
    model_name: str
    rows: NDArray[np.float32]
    calls: int
    bundle: Path
    effort: float
    chaos: str | None
    gas_money: Wei


class DemonstrationActors:
    """Implements ``journey.story.Actors``. ``disturbances`` says what was made to go wrong."""

    def __init__(self, network: Network, scene: Scene) -> None:
        self.disturbances: list[str] = []
        self._falling: asyncio.Task[None] | None = None
        self._network = network
        self._scene = scene
        company = next(name for name in network.names() if "publisher" in network.roles(name))
        self._operator = network.operator(company)
        self._config = read_config(network.home(company).config)
        self._names = account_names(network)

    # ------------------------------------------------------------------------------------ the publisher's orders

    async def study(self, tell: Tell) -> Study:
        return await self._operator.run("study.propose", orders.ProposeStudy(self._scene.study_text), Study, tell)

    async def train(self, study: Study, tell: Tell) -> Trained:
        if self._scene.chaos == "lie":
            await self._plan_a_lie()

        def listen(sentence: str, fraction: float) -> None:
            tell(self._named(sentence), fraction)
            if sentence.startswith(DRAWN):
                self._disturb(sentence.removeprefix(DRAWN).split(", "), tell)

        return await self._operator.run("study.train", study, Trained, listen)

    async def publish(self, trained: Trained, tell: Tell) -> Published:
        order = orders.Publish(trained, self._scene.model_name, COPIES)
        return await self._operator.run("model.publish", order, Published, self._naming(tell))

    async def harden(self, published: Published, tell: Tell) -> Hardened:
        return await self._operator.run("model.harden", published, Hardened, self._naming(tell))

    async def validate(self, hardened: Hardened, tell: Tell) -> Validated:
        times = (COMMIT_SECONDS, REVEAL_SECONDS)
        order = orders.Validate(hardened, EVALUATORS, EVALUATION_FEE, *times, self._scene.effort)
        return await self._operator.run("model.validate", order, Validated, self._naming(tell))

    async def name(self, validated: Validated, tell: Tell) -> Named:
        order = orders.NameModel(validated, self._scene.model_name)
        return await self._operator.run("model.name", order, Named, tell)

    async def serve(self, named: Named, tell: Tell) -> Served:
        order = orders.Serve(named, ENDPOINTS, CALL_PRICE, PASS_PRICE, NODE_SHARE)
        return await self._operator.run("model.serve", order, Served, self._naming(tell))

    # ------------------------------------------------------------------------------------------------- strangers

    async def pay(self, served: Served, tell: Tell) -> Paid:
        """A stranger with a new key; the company gives it its first tokens, as an exchange would."""
        key = AccountKey.generate(SystemRng())
        money = orders.Pay((key.address,), BUYER_MONEY, self._scene.gas_money)
        await self._operator.run("account.pay", money, orders.Nothing, tell)
        async with ChainClient(list(self._config.chain.rpc), key) as client:
            stranger = pay.Stranger(self._suite(client), SystemClock(), SystemRng(), self._naming(tell))
            return await pay.pay(stranger, served, self._scene.rows, self._scene.calls)

    async def audit(self, paid: Paid, tell: Tell) -> Audited:
        """Another stranger, with a fresh key and no rights anywhere."""
        key = NodeKey.generate(SystemRng())
        keepers = [Endpoint(peer.node_id, peer.host, peer.port) for peer in self._config.bootstrap]
        path = self._scene.bundle
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(ChainClient(list(self._config.chain.rpc)))
            transport = await stack.enter_async_context(Transport.open(key))
            directory = Directory(transport, SystemClock(), keepers)
            auditor = audit.Auditor(self._suite(client), transport, directory, key, tell)
            await audit.export(auditor, self._scene.model_name, path)
        report = await asyncio.to_thread(audit.check, path)
        checks = tuple(Check(one.identifier, one.sentence, one.ok, one.detail) for one in report.checks)
        failed = [one.identifier for one in report.checks if not one.ok]
        tell(f"{len(checks)} checks; {'all hold' if not failed else 'these do not hold: ' + ', '.join(failed)}", 1.0)
        bundle_hash = blake3(await asyncio.to_thread(path.read_bytes))
        return Audited(paid, path.name, bundle_hash, checks)

    def _suite(self, client: ChainClient) -> Suite:
        # The company's file was written when it adopted the contracts, after this object was made.
        home = self._network.home(self._config.name)
        addresses = dict(read_config(home.config).chain.suite)
        return Suite.at(client, parse_addresses({name: to_hex(address) for name, address in addresses.items()}))

    # --------------------------------------------------------------------------------------------- disturbances

    async def _plan_a_lie(self) -> None:
        """Whoever is drawn for one seat of the first attempt will flip one bit of what it sends."""
        providers = [name for name in self._network.names() if "compute" in self._network.roles(name)]
        lie = orders.Lie(0, LIAR_SEAT)
        orders_given = (
            self._network.operator(name).run("fault.lie", lie, orders.Nothing, silent) for name in providers
        )
        await asyncio.gather(*orders_given)

    def _disturb(self, members: list[str], tell: Tell) -> None:
        if self.disturbances:
            return
        victim = self._names.get(parse_address(members[VICTIM_SEAT]), "")
        match self._scene.chaos:
            case "kill":
                self._network.kill(victim)
                self.disturbances.append(f"kill -9 of {victim}, a committee member, in the middle of the study")
            case "lie":
                liar = self._names.get(parse_address(members[LIAR_SEAT]), "")
                self.disturbances.append(f"{liar}, a committee member, flipped one bit of one value it sent")
            case "validator":
                self._falling = asyncio.create_task(self._fell_validator(tell))
        for disturbance in self.disturbances:
            tell(disturbance, 0.3)

    async def _fell_validator(self, tell: Tell) -> None:
        """Kill it once the committee computes: it is a data owner too, and the study needs its shares first."""
        computes = [name for name in self._network.names() if "compute" in self._network.roles(name)]
        while True:
            reports = [(await self._network.operator(name).status())["compute"] for name in computes]
            if sum("running" in line for lines in reports for line in lines) == COMMITTEE_SIZE:
                break
            await asyncio.sleep(WATCH_SECONDS)
        self._network.kill(VALIDATOR)
        self.disturbances.append(f"kill -9 of {VALIDATOR}, one of four validators; started again after the job")
        tell(self.disturbances[-1], 0.3)

    def _named(self, sentence: str) -> str:
        """The sentence with the organisations' names in place of their addresses."""
        for account, name in self._names.items():
            sentence = sentence.replace(to_hex(account), name)
        return sentence

    def _naming(self, tell: Tell) -> Tell:
        return lambda sentence, fraction: tell(self._named(sentence), fraction)
