"""A deployed suite with a publisher, three owners, eight staked providers and a buyer, and the usual steps."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace

from contracts_chain import EvmChain, Snapshot

from koinon.contracts import eip712
from koinon.contracts.assets import AssetKind, Mint
from koinon.contracts.client import ChainClient
from koinon.contracts.contract import PaysCredit
from koinon.contracts.evaluations import EvaluationTerms, Score, report_commitment
from koinon.contracts.evaluations import nonce_commitment as request_commitment
from koinon.contracts.market import Offer
from koinon.contracts.providers import Role
from koinon.contracts.rpc import Rpc
from koinon.contracts.studies import StudyTerms, nonce_commitment
from koinon.contracts.suite import Suite, SuiteParameters
from koinon.contracts.token import UNLIMITED
from koinon.crypto.hash import keccak256
from koinon.crypto.signature import AccountKey
from koinon.kernel.ids import Address, Hash32, NodeId
from koinon.kernel.quantities import BasisPoints, PartsPerMillion, TokenAmount, UnixSeconds

UNIT = 1_000_000
STAKE = TokenAmount(2_000 * UNIT)
PURSE = TokenAmount(1_000_000 * UNIT)
DRAW_DELAY = 4
OWNERS = ("north", "south", "west")
PROVIDERS = tuple(f"provider-{number}" for number in range(8))
PEOPLE = ("publisher", *OWNERS, *PROVIDERS, "buyer", "stranger")
PARAMETERS = SuiteParameters(
    supply=TokenAmount(1_000_000_000 * UNIT),
    minimum_stake=TokenAmount(1_000 * UNIT),
    freeze_seconds=1_000,
    draw_delay=DRAW_DELAY,
    close_delay=500,
    judge_fee=TokenAmount(UNIT + 1),
    plead_seconds=200,
    judge_seconds=150,
)


def key_of(name: str) -> AccountKey:
    """The key of a person of the world."""
    return AccountKey.from_secret(keccak256(f"key of {name}".encode()))


def digest_of(text: str) -> Hash32:
    """Some hash."""
    return keccak256(text.encode())


@dataclass
class World:
    """See the module."""

    rpc: Rpc
    client: ChainClient
    suite: Suite

    @classmethod
    async def build(cls, client: ChainClient, suite: Suite, rpc: Rpc) -> "World":
        """Fund, approve, register and stake."""
        world = cls(rpc, client, suite)
        await asyncio.gather(*(suite.token.transfer(world.address(name), PURSE) for name in PEOPLE))
        await asyncio.gather(*(world.approve(name) for name in PEOPLE))
        await asyncio.gather(*(world.enrol(number, name) for number, name in enumerate(PROVIDERS)))
        return world

    async def approve(self, name: str) -> None:
        """Let the suite pull from a person."""
        own = self.by(name)
        await asyncio.gather(*(own.token.approve(contract.address, UNLIMITED) for contract in self.payers()))

    async def enrol(self, number: int, name: str) -> None:
        """Make a person a provider with a stake; the last two belong to one operator."""
        own = self.by(name)
        operator = digest_of(f"operator {min(number, len(PROVIDERS) - 2)}")
        roles = Role.COMPUTE | Role.EVALUATE | Role.SERVE
        await own.providers.register(NodeId(digest_of(f"node {name}")), operator, roles)
        await own.providers.stake(STAKE)

    def address(self, name: str) -> Address:
        """Account of a person."""
        return key_of(name).address

    def name(self, account: Address) -> str:
        """Person behind an account."""
        return next(name for name in PEOPLE if self.address(name) == account)

    def by(self, name: str) -> Suite:
        """The suite as one person calls it."""
        return self.suite.through(self.client.with_key(key_of(name)))

    def payers(self) -> tuple[PaysCredit, ...]:
        """The contracts that hold money."""
        suite = self.suite
        return (suite.providers, suite.studies, suite.assets, suite.evaluations, suite.market, suite.judgements)

    async def now(self) -> UnixSeconds:
        """Time of the last block."""
        return (await self.client.block()).timestamp

    # ------------------------------------------------------------------------------------------ studies

    async def terms(self, owners: Iterable[str] = OWNERS) -> StudyTerms:
        """Sound terms."""
        return StudyTerms(
            spec_hash=digest_of("spec"),
            algorithm_hash=digest_of("algorithm"),
            owners=tuple(self.address(name) for name in owners),
            result_party=self.address("publisher"),
            committee_fee=TokenAmount(10 * UNIT),
            owner_fee=TokenAmount(25 * UNIT),
            bond=TokenAmount(7 * UNIT + 1),
            consent_deadline=UnixSeconds(await self.now() + 1_000),
            reveal_seconds=200,
            run_seconds=300,
            challenge_seconds=100,
            maximum_attempts=3,
        )

    def nonce(self, name: str) -> Hash32:
        """The nonce a party will open."""
        return digest_of(f"nonce of {name}")

    def commitment(self, name: str, terms: StudyTerms) -> Hash32:
        """What a party commits to."""
        return nonce_commitment(self.address(name), terms.spec_hash, self.nonce(name))

    async def propose(self, terms: StudyTerms | None = None) -> int:
        """A proposal by the publisher."""
        terms = terms or await self.terms()
        return await self.by("publisher").studies.propose(terms, self.commitment("publisher", terms))

    async def consent(self, study_id: int, name: str, relay: str = "stranger") -> None:
        """An owner's signed consent, sent in by somebody else."""
        terms = await self.suite.studies.terms_of(study_id)
        commitment = self.commitment(name, terms)
        dataset = digest_of(f"dataset of {name}")
        digest = eip712.consent_digest(
            await self.suite.studies.domain(), study_id, terms.spec_hash, dataset, commitment, terms.consent_deadline
        )
        signature = key_of(name).sign_digest(digest)
        await self.by(relay).studies.consent(study_id, self.address(name), dataset, commitment, signature)

    async def locked(self, terms: StudyTerms | None = None) -> int:
        """A study to which all have consented."""
        study_id = await self.propose(terms)
        for owner in (await self.suite.studies.terms_of(study_id)).owners:
            await self.consent(study_id, self.name(owner))
        return study_id

    async def push(self, height: int) -> None:
        """Blocks until one after ``height`` exists."""
        await self.by("stranger").client.advance_past(height)

    async def seeded(self, terms: StudyTerms | None = None) -> int:
        """A study whose nonces are all open."""
        study_id = await self.locked(terms)
        study = await self.suite.studies.study_of(study_id)
        await self.push(study.draw_height)
        owners = (await self.suite.studies.terms_of(study_id)).owners
        for party, name in enumerate(("publisher", *(self.name(owner) for owner in owners))):
            await self.by("stranger").studies.reveal(study_id, party, self.nonce(name))
        return study_id

    async def draw(self, study_id: int) -> tuple[str, ...]:
        """The committee of the current attempt, by name."""
        study = await self.suite.studies.study_of(study_id)
        await self.push(study.draw_height)
        committee = await self.by("stranger").studies.draw(study_id)
        return tuple(self.name(member) for member in committee)

    async def running(self, terms: StudyTerms | None = None) -> tuple[int, tuple[str, ...]]:
        """A study with a committee."""
        study_id = await self.seeded(terms)
        return study_id, await self.draw(study_id)

    async def result_signatures(
        self, study_id: int, attempt: int, output: Hash32, members: Iterable[str], signing: Iterable[int] = range(4)
    ) -> list[bytes]:
        """Signatures by position; empty where a member does not sign."""
        digest = eip712.result_digest(await self.suite.studies.domain(), study_id, attempt, output)
        chosen = set(signing)
        return [
            key_of(name).sign_digest(digest) if position in chosen else b"" for position, name in enumerate(members)
        ]

    async def completed(self, terms: StudyTerms | None = None) -> int:
        """A study with a result."""
        study_id, committee = await self.running(terms)
        output = digest_of("output")
        signatures = await self.result_signatures(study_id, 0, output, committee)
        await self.by("stranger").studies.complete(study_id, 0, output, signatures)
        return study_id

    # ------------------------------------------------------------------------------------------ assets and evaluations

    async def model(self, **changes: object) -> int:
        """A model of the publisher whose revenue four share, with a share that does not divide evenly."""
        payees = tuple(self.address(name) for name in ("publisher", *OWNERS))
        shares = tuple(map(BasisPoints, (4_000, 3_333, 1_667, 1_000)))
        mint = Mint(AssetKind.MODEL, digest_of("weights"), "bafymodel", (), payees, shares)
        return await self.by("publisher").assets.mint(replace(mint, **changes))

    async def service(self, node_share: int = 3_000) -> int:
        """A service of the publisher with an open offer."""
        model = await self.model()
        service = await self.model(kind=AssetKind.SERVICE, content_hash=digest_of("service"), parents=(model,))
        offer = Offer(TokenAmount(33), TokenAmount(1_001), TokenAmount(33), BasisPoints(node_share), True)
        await self.by("publisher").market.set_offer(service, offer)
        return service

    def evaluation_terms(self, model: int) -> EvaluationTerms:
        """Two criteria, three evaluators."""
        return EvaluationTerms(
            model_id=model,
            criteria=("auc", "log_loss"),
            tolerances=(PartsPerMillion(10_000), PartsPerMillion(20_000)),
            fee=TokenAmount(5 * UNIT),
            evaluators=3,
            commit_seconds=100,
            reveal_seconds=100,
        )

    async def requested(self, model: int | None = None) -> int:
        """A request for an evaluation, by the publisher."""
        model = model or await self.model()
        commitment = request_commitment(self.address("publisher"), model, self.nonce("publisher"))
        return await self.by("publisher").evaluations.request(self.evaluation_terms(model), commitment)

    async def evaluating(self, model: int | None = None) -> tuple[int, tuple[str, ...]]:
        """A request whose evaluators are drawn."""
        request_id = await self.requested(model)
        await self.push((await self.suite.evaluations.request_of(request_id)).draw_height)
        chosen = await self.by("publisher").evaluations.draw(request_id, self.nonce("publisher"))
        return request_id, tuple(self.name(account) for account in chosen)

    async def commit(self, request_id: int, name: str, scores: tuple[Score, ...]) -> None:
        """An evaluator's commitment."""
        commitment = report_commitment(request_id, self.address(name), scores, digest_of(name), digest_of("salt"))
        await self.by(name).evaluations.commit(request_id, commitment)

    async def reveal(self, request_id: int, name: str, scores: tuple[Score, ...]) -> None:
        """An evaluator's reveal."""
        await self.by(name).evaluations.reveal(request_id, scores, digest_of(name), digest_of("salt"))

    # ------------------------------------------------------------------------------------------ money

    async def check_balances(self) -> None:
        """Every contract has exactly what it holds and owes."""
        for contract in self.payers():
            balance = await self.suite.token.balance_of(contract.address)
            held, credit = await contract.total_held(), await contract.total_credit()
            assert balance == held + credit, f"{contract.NAME} has {balance}, holds {held} and owes {credit}"

    async def check_money(self) -> None:
        """Conservation: besides, everybody's credits add up, and no token was made or lost."""
        await self.check_balances()
        people = [self.address(name) for name in PEOPLE]
        for contract in self.payers():
            owed = sum([await contract.credit_of(account) for account in people])
            assert await contract.total_credit() == owed, f"{contract.NAME} does not owe what everybody's credit is"
        everybody = [*people, self.client.account, *(contract.address for contract in self.payers())]
        assert sum([await self.suite.token.balance_of(account) for account in everybody]) == PARAMETERS.supply

    async def wealth(self, name: str) -> int:
        """Tokens and credit of a person, without stake."""
        account = self.address(name)
        owed = [await contract.credit_of(account) for contract in self.payers()]
        return await self.suite.token.balance_of(account) + sum(owed)


def score(value: int, width: int = 5_000) -> Score:
    """A score with a symmetric interval."""
    return Score(PartsPerMillion(value), PartsPerMillion(value - width), PartsPerMillion(value + width))


_built: list[tuple[EvmChain, World, Snapshot]] = []


def fresh_world() -> tuple[EvmChain, World]:
    """The world on the chain inside this process, as it was built; building happens once."""
    if not _built:
        with asyncio.Runner() as runner:
            chain, world = runner.run(_evm_world())
        _built.append((chain, world, chain.snapshot()))
    chain, world, snapshot = _built[0]
    chain.restore(snapshot)
    # A new client for each test: a lock belongs to one event loop, and nonces went back in time.
    client = world.client.with_key(key_of("deployer"))
    return chain, World(chain, client, world.suite.through(client))


async def _evm_world() -> tuple[EvmChain, World]:
    chain = EvmChain()
    for name in ("deployer", *PEOPLE):
        chain.fund(key_of(name).address)
    client = ChainClient(chain, key_of("deployer"), now=chain.now)
    suite = await Suite.deploy(client, PARAMETERS)
    return chain, await World.build(client, suite, chain)
