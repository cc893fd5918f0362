"""A small world on a chain: what real organisations would do there, through the real clients of the real contracts.

It runs the same on the in-process EVM and on anvil, so that pages can be tested on either.
"""

from asyncio import gather
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from koinon.contracts.assets import AssetKind, Mint
from koinon.contracts.client import ChainClient
from koinon.contracts.eip712 import consent_digest, result_digest, studies_domain, voucher_digest
from koinon.contracts.evaluations import EvaluationTerms, Score, report_commitment
from koinon.contracts.evaluations import nonce_commitment as request_commitment
from koinon.contracts.market import Offer
from koinon.contracts.names import Resolution, ServiceEndpoint
from koinon.contracts.providers import Role
from koinon.contracts.rpc import Rpc
from koinon.contracts.studies import StudyTerms, nonce_commitment
from koinon.contracts.suite import Suite, SuiteParameters
from koinon.crypto.hash import keccak256
from koinon.crypto.signature import AccountKey
from koinon.kernel.ids import Address, Hash32, NodeId, to_hex
from koinon.kernel.quantities import TOKEN_UNIT, BasisPoints, PartsPerMillion, TokenAmount, UnixSeconds, Wei
from koinon.privacy.differential.budget import (
    OWN_ANSWER,
    Budget,
    Entry,
    commitment,
    exact_entry,
    gaussian_entry,
    pure_entry,
)
from koinon.privacy.differential.opened import OpenedLedger

NAME = "tumour-risk.clinic"
DAY = 86_400
CRITERIA = {
    "auc": (991_200, 982_000, 997_300),
    "recall": (942_000, 905_000, 971_000),
    "log_loss": (104_000, 83_000, 131_000),
    "robustness_suite": (571_000, 480_000, 655_000),
    "auc_noise": (988_000, 975_000, 995_000),
    "auc_missing": (983_000, 968_000, 993_000),
    "load_p99": (6_400_000, 5_900_000, 7_300_000),
    "fairness_recall_gap": (61_000, 12_000, 142_000),
    "fairness_auc_gap": (18_000, 4_000, 49_000),
    "brier": (28_000, 21_000, 38_000),
}
HOSPITALS = ("hospital-1", "hospital-2", "hospital-3")
ENTRIES = (
    gaussian_entry(1, 0, 12.5, 40, bytes([1] * 32)),
    exact_entry(2, 0, bytes([2] * 32)),
    Entry(2, 0, "unused", 1, 1, bytes([3] * 32)),
    pure_entry(OWN_ANSWER, 0, 0.5, bytes([4] * 32)),
    gaussian_entry(3, 0, 8.0, 20, bytes([5] * 32)),
)
"""What the first hospital's rows told: two noisy studies, an answer of its own, and one that was paid back."""
PROVIDERS = tuple(f"provider-{number}" for number in range(1, 8))


def digest(text: str) -> Hash32:
    """A hash that stands for something of that name."""
    return keccak256(text.encode())


def tokens(amount: float) -> TokenAmount:
    """Whole tokens in smallest units."""
    return TokenAmount(round(amount * TOKEN_UNIT))


@dataclass
class World:
    """Everybody and everything on one chain.

    Attributes:
        rpc: the chain.
        bank: an account with gas money; it deploys the suite as the company.
        sleep: lets so many seconds pass on the chain.
        now: the chain's present time.
    """

    rpc: Rpc
    bank: AccountKey
    sleep: Callable[[int], Awaitable[None]]
    now: Callable[[], Awaitable[int]]
    keys: dict[str, AccountKey] = field(default_factory=dict)
    service: int = 0
    model: int = 0
    channels: list[Hash32] = field(default_factory=list)
    datasets: list[int] = field(default_factory=list)

    # ------------------------------------------------------------------------------------------------- beginning

    async def found(self) -> None:
        """Deploy the suite; give everybody gas and tokens; register the providers."""
        self.client = ChainClient(self.rpc, self.bank)
        self.keys["company"] = self.bank
        everybody = (*HOSPITALS, *PROVIDERS, "buyer")
        self.keys |= {name: AccountKey.from_secret(digest(f"key of {name}")) for name in everybody}
        await gather(*(self.client.send(self.address(name), b"", Wei(10**20)) for name in everybody))
        self.suite = await Suite.deploy(self.client, SuiteParameters(draw_delay=2))
        await gather(*(self.suite.token.transfer(self.address(name), tokens(2_000)) for name in everybody))
        await gather(*map(self._settle_in, self.keys))

    async def _settle_in(self, name: str) -> None:
        """One organisation lets the contracts pull what it owes; a provider registers and stakes."""
        own = self.of(name)
        for spender in (own.providers, own.studies, own.evaluations, own.market):
            await own.token.approve(spender.address, tokens(10**6))
        if name in PROVIDERS:
            roles = Role.COMPUTE | Role.EVALUATE | Role.SERVE
            await own.providers.register(NodeId(digest(f"node of {name}")), digest(f"operator of {name}"), roles)
            await own.providers.stake(tokens(1_500))

    def of(self, name: str) -> Suite:
        """The suite as one of the organisations calls it."""
        return self.suite.through(self.client.with_key(self.keys[name]))

    def address(self, name: str) -> Address:
        """Account of an organisation."""
        return self.keys[name].address

    def name_of(self, account: Address) -> str:
        """The organisation behind an account."""
        return next(name for name, key in self.keys.items() if key.address == account)

    @property
    def addresses(self) -> dict[str, str]:
        """Where the contracts are, as the site wants them."""
        return {name: to_hex(one.address) for name, one in self.suite.contracts.items()}

    # ------------------------------------------------------------------------------------------------- studies

    async def propose(self) -> tuple[int, StudyTerms]:
        """A study of the company with the three hospitals."""
        terms = StudyTerms(
            spec_hash=digest("study file"),
            algorithm_hash=digest("logistic regression on rep4"),
            owners=tuple(self.address(name) for name in HOSPITALS),
            result_party=self.address("company"),
            committee_fee=tokens(12.5),
            owner_fee=tokens(40),
            bond=tokens(25),
            consent_deadline=UnixSeconds(await self.now() + DAY),
            reveal_seconds=3_600,
            run_seconds=3_600,
            challenge_seconds=600,
            maximum_attempts=3,
        )
        commitment = nonce_commitment(self.address("company"), terms.spec_hash, digest("nonce company"))
        return await self.suite.studies.propose(terms, commitment), terms

    async def consent(self, study: int, terms: StudyTerms, name: str) -> None:
        """One hospital agrees; the company relays its signature."""
        commitment = nonce_commitment(self.address(name), terms.spec_hash, digest(f"nonce {name}"))
        data = digest(f"rows of {name}")
        domain = studies_domain(await self.client.chain_id(), self.suite.studies.address)
        signed = self.keys[name].sign_digest(
            consent_digest(domain, study, terms.spec_hash, data, commitment, terms.consent_deadline)
        )
        await self.suite.studies.consent(study, self.address(name), data, commitment, signed)

    async def draw(self, study: int) -> tuple[Address, ...]:
        """The next committee, once its block exists."""
        await self.client.advance_past((await self.suite.studies.study_of(study)).draw_height)
        return await self.suite.studies.draw(study)

    async def lock_and_draw(self) -> tuple[int, tuple[Address, ...]]:
        """A new study up to its first committee."""
        study, terms = await self.propose()
        for name in HOSPITALS:
            await self.consent(study, terms, name)
        await self.client.advance_past((await self.suite.studies.study_of(study)).draw_height)
        for place, name in enumerate(("company", *HOSPITALS)):
            await self.suite.studies.reveal(study, place, digest(f"nonce {name}"))
        return study, await self.suite.studies.draw(study)

    async def silence(self, study: int, attempt: int, position: int) -> None:
        """A member is challenged, says nothing, and loses stake."""
        await self.of("hospital-1").studies.challenge(study, attempt, position)
        await self.sleep(700)
        await self.suite.studies.expire_challenge(study, attempt, position)

    async def complete(self, study: int, attempt: int, committee: tuple[Address, ...]) -> None:
        """Three of the four sign the result."""
        output = digest(f"weights of study {study}")
        domain = studies_domain(await self.client.chain_id(), self.suite.studies.address)
        signing = result_digest(domain, study, attempt, output)
        signatures = [self.keys[self.name_of(member)].sign_digest(signing) for member in committee]
        await self.suite.studies.complete(study, attempt, output, [*signatures[:3], b""])

    async def train(self) -> int:
        """A study in which one member falls silent and the second committee delivers."""
        study, _ = await self.lock_and_draw()
        await self.silence(study, 0, 2)
        await self.complete(study, 1, await self.draw(study))
        return study

    async def complained(self) -> int:
        """A study whose first committee breaks up over a wrong value; the second is at work."""
        study, committee = await self.lock_and_draw()
        await self.of(self.name_of(committee[3])).studies.complain(study, 0, 1, 2, 3)
        return study

    async def refused(self) -> int:
        """A study that a hospital refuses."""
        study, terms = await self.propose()
        await self.consent(study, terms, "hospital-1")
        await self.of("hospital-2").studies.refuse(study, digest("the purpose is not in our policy"))
        return study

    # ------------------------------------------------------------------------------------------------- market

    async def publish(self, study: int) -> None:
        """Datasets, model and service as assets."""
        hospitals = tuple(self.address(name) for name in HOSPITALS)
        datasets = [
            await self.of(name).assets.mint(
                Mint(
                    AssetKind.DATASET, digest(f"rows of {name}"), "", (), (self.address(name),), (BasisPoints(10_000),)
                )
            )
            for name in HOSPITALS
        ]
        self.datasets = datasets
        payees = (self.address("company"), *hospitals)
        shares = tuple(map(BasisPoints, (4_000, 2_000, 2_000, 2_000)))
        self.model = await self.suite.assets.mint(
            Mint(AssetKind.MODEL, digest("weights"), "", tuple(datasets), payees, shares, digest("code"), study)
        )
        self.service = await self.suite.assets.mint(
            Mint(AssetKind.SERVICE, digest("service"), "", (self.model,), payees, shares)
        )

    async def evaluate(self, *, outlier: bool = True) -> int:
        """Three drawn evaluators measure the model; the last may be far off."""
        nonce = digest("nonce of the request")
        terms = EvaluationTerms(
            model_id=self.model,
            criteria=tuple(CRITERIA),
            tolerances=tuple(PartsPerMillion(40_000_000 if name == "load_p99" else 50_000) for name in CRITERIA),
            fee=tokens(20),
            evaluators=3,
            commit_seconds=3_600,
            reveal_seconds=3_600,
        )
        evaluations = self.suite.evaluations
        request = await evaluations.request(terms, request_commitment(self.address("company"), self.model, nonce))
        await self.client.advance_past((await evaluations.request_of(request)).draw_height)
        evaluators = await evaluations.draw(request, nonce)
        reports = {}
        for place, account in enumerate(evaluators):
            shift = -300_000 if outlier and place == 2 else 900 * place
            scores = [
                Score(*(PartsPerMillion(number + (shift if name == "auc" else 700 * place)) for number in numbers))
                for name, numbers in CRITERIA.items()
            ]
            evidence, salt = digest(f"evidence {place}"), digest(f"salt {place}")
            reports[account] = (scores, evidence, salt)
            commitment = report_commitment(request, account, scores, evidence, salt)
            await self.of(self.name_of(account)).evaluations.commit(request, commitment)
        for account, report in reports.items():
            await self.of(self.name_of(account)).evaluations.reveal(request, *report)
        await evaluations.finalise(request)
        return request

    async def name(self, evaluation: int, name: str = NAME, urls: tuple[str, ...] = ()) -> None:
        """The model gets its name and two endpoints."""
        given = urls or ("http://127.0.0.1:9101", "http://127.0.0.1:9102")
        endpoints = tuple(
            ServiceEndpoint(url, self.address(provider)) for url, provider in zip(given, PROVIDERS, strict=False)
        )
        await self.suite.names.register(name)
        await self.suite.names.set_resolution(name, Resolution(self.model, digest("weights"), evaluation, endpoints))

    async def sell(self) -> None:
        """An offer, a pass, two channels, settlements, receipts; one channel is closed."""
        await self.suite.market.set_offer(
            self.service,
            Offer(TokenAmount(25_001), TokenAmount(100_003), TokenAmount(25_001), BasisPoints(1_500), True),
        )
        buyer = self.of("buyer").market
        await buyer.buy(self.service, 200, 30 * DAY, tokens(1_000))
        for place, provider in enumerate(PROVIDERS[:2]):
            expiry = UnixSeconds(await self.now() + 7 * DAY)
            channel = await buyer.open(self.address(provider), self.service, tokens(5), expiry, digest(f"salt {place}"))
            self.channels.append(channel)
            await self.settle(place, TokenAmount(25_001 * (101 + 7 * place)))
            await self.of(provider).receipts.anchor(self.service, digest(f"receipts {place}"), 101 + 7 * place, 0)
        await self.of(PROVIDERS[1]).market.close(self.channels[1])

    async def told(self) -> None:
        """The first hospital's commitments to what its rows told, minutes apart; the last is not on the chain yet."""
        assets = self.of(HOSPITALS[0]).assets
        for number, entry in enumerate(ENTRIES[:-1]):
            await assets.note(self.datasets[0], number, [commitment(entry)])
            await self.sleep(60)

    @property
    def ledgers(self) -> dict[str, OpenedLedger]:
        """The first hospital's ledger as it opens it to a site."""
        return {to_hex(digest(f"rows of {HOSPITALS[0]}")): OpenedLedger(Budget(8.0, 1e-6), ENTRIES)}

    async def settle(self, place: int, cumulative: TokenAmount) -> None:
        """The service node takes what the buyer's voucher says."""
        market = self.of(PROVIDERS[place]).market
        digest_ = voucher_digest(await market.domain(), self.channels[place], cumulative)
        await market.settle(self.channels[place], cumulative, self.keys["buyer"].sign_digest(digest_))

    def on(self, rpc: Rpc) -> "World":
        """The same world on a copy of its chain."""
        other = replace(self, rpc=rpc, channels=list(self.channels))
        other.client = ChainClient(rpc, self.bank)
        other.suite = self.suite.through(other.client)
        return other

    async def play(self) -> None:
        """The whole story."""
        await self.found()
        study = await self.train()
        await self.publish(study)
        await self.name(await self.evaluate())
        await self.sell()
        await self.refused()
        await self.complained()
        await self.told()
