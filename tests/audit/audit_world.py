"""The main job on a chain in the test process, from the study file to the settlement, with all its evidence."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from audit_chain import ProvingChain

from koinon.audit.bundle import ChainProof
from koinon.audit.collect import Needed, collect
from koinon.audit.evidence import MODEL_CONTRACTS, STUDY_CONTRACTS, Document, Network, ServiceReceipts, Subject
from koinon.audit.proof_readers import KoinonProofs, OutsideProofs
from koinon.audit.receipt_log import Draft, ReceiptLog
from koinon.contracts import eip712
from koinon.contracts.assets import AssetKind, Mint
from koinon.contracts.client import ChainClient
from koinon.contracts.contract import PaysCredit
from koinon.contracts.evaluations import EvaluationTerms, Score, report_commitment
from koinon.contracts.evaluations import nonce_commitment as request_commitment
from koinon.contracts.market import Offer
from koinon.contracts.names import Resolution, ServiceEndpoint
from koinon.contracts.providers import Role
from koinon.contracts.rpc import HttpRpc
from koinon.contracts.studies import StudyTerms, nonce_commitment
from koinon.contracts.suite import Suite, SuiteParameters
from koinon.contracts.token import UNLIMITED
from koinon.crypto.hash import keccak256, sha256, tagged_hash
from koinon.crypto.signature import AccountKey, NodeKey
from koinon.jobs.study import SIGNATURE_DOMAIN, Column, Party, StudyFile, sign_study, specification_hash
from koinon.jobs.study import Terms as FileTerms
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import BasisPoints, PartsPerMillion, TokenAmount, UnixSeconds
from koinon.market.payments import Payment
from koinon.market.vouchers import sign_voucher

UNIT = 1_000_000
PEOPLE = ("deployer", "publisher", "north", "south", "west", "buyer", *(f"provider-{number}" for number in range(9)))
NAME = "tumour-risk.clinic"
OWNERS = ("north", "south", "west")
PROVIDERS = tuple(f"provider-{number}" for number in range(9))
EXPORTER = NodeKey.from_seed(sha256(b"exporter"))
SECRET_ROW = b'{"inputs":[{"name":"features","shape":[1,2],"datatype":"FP32","data":[17.123456,10.987654]}]}'
CARD = b"card of the model: " + b"what it is for"
EVIDENCE_DOMAIN = "koinon/trust/evidence/1"


@dataclass
class StillClock:
    ticks: float = 0.0

    def monotonic(self) -> float:
        return self.ticks

    def unix(self) -> UnixSeconds:
        return UnixSeconds(1_800_000_500)


class CountedRng:
    def __init__(self) -> None:
        self._count = 0

    def bytes(self, count: int, /) -> bytes:
        self._count += 1
        return sha256(b"rng %d" % self._count)[:count]


def account(name: str) -> AccountKey:
    return AccountKey.from_secret(keccak256(f"account of {name}".encode()))


def node(name: str) -> NodeKey:
    return NodeKey.from_seed(sha256(f"node of {name}".encode()))


def digest_of(text: str) -> Hash32:
    return keccak256(text.encode())


@dataclass
class Evidence:
    """Everything an exporter has."""

    subject: Subject
    network: Network
    proof: ChainProof
    needed: Needed
    documents: tuple[Document, ...]
    receipts: tuple[ServiceReceipts, ...]
    study_proof: ChainProof
    study_network: Network


def proving_chain(*, outside: bool = False) -> ProvingChain:
    """A chain on which everybody has gas money."""
    return ProvingChain([account(name).address for name in PEOPLE], outside=outside)


class Journey:
    """Plays the main job. Each method is one step."""

    def __init__(self, folder: Path, chain: ProvingChain | HttpRpc, *, outside: bool = False) -> None:
        self.outside = outside
        clock = {"now": chain.now} if isinstance(chain, ProvingChain) else {}
        self.client = ChainClient(chain, account("deployer"), **clock)
        self.folder = folder
        self.documents: list[Document] = []
        self.suite: Suite
        self.study_file: StudyFile
        self.study = self.model = self.service = self.evaluation = 0
        self.datasets: list[int] = []
        self.weights = sha256(b"the weights")

    async def time(self) -> int:
        return (await self.client.block()).timestamp

    def by(self, name: str) -> Suite:
        return self.suite.through(self.client.with_key(account(name)))

    async def deploy(self) -> None:
        parameters = SuiteParameters(
            supply=TokenAmount(1_000_000_000 * UNIT), minimum_stake=TokenAmount(1_000 * UNIT), draw_delay=2
        )
        self.suite = await Suite.deploy(self.client, parameters)
        payers = {
            "publisher": (self.suite.studies, self.suite.evaluations),
            "buyer": (self.suite.market,),
            **dict.fromkeys(OWNERS, (self.suite.studies,)),
            **dict.fromkeys(PROVIDERS, (self.suite.providers,)),
        }
        await asyncio.gather(*(self._fund(name, contracts) for name, contracts in payers.items()))
        # The last two have one operator, so that one of them can never be drawn with the other.
        operators = [digest_of(f"operator {min(number, len(PROVIDERS) - 2)}") for number in range(len(PROVIDERS))]
        await asyncio.gather(*(self._enlist(*each) for each in zip(PROVIDERS, operators, strict=True)))

    async def _fund(self, name: str, contracts: tuple[PaysCredit, ...]) -> None:
        await self.suite.token.transfer(account(name).address, TokenAmount(10_000 * UNIT))
        own = self.by(name)
        await asyncio.gather(*(own.token.approve(contract.address, UNLIMITED) for contract in contracts))

    async def _enlist(self, name: str, operator: Hash32) -> None:
        own = self.by(name)
        await own.providers.register(node(name).node_id, operator, Role.COMPUTE | Role.EVALUATE | Role.SERVE)
        await own.providers.stake(TokenAmount(2_000 * UNIT))

    async def agree(self) -> None:
        def party(name: str) -> Party:
            return Party(name, node(name).node_id, account(name).address)

        file_terms = FileTerms(TokenAmount(10 * UNIT), TokenAmount(25 * UNIT), TokenAmount(7), 900, 300, 300, 100, 3)
        self.study_file = StudyFile(
            version=1,
            title="Tumour risk",
            purpose="Tell benign from malignant",
            algorithm="logistic-regression/1",
            algorithm_hash=digest_of("algorithm"),
            columns=(Column("radius", 0.0, 40.0), Column("texture", 0.0, 50.0)),
            target="malignant",
            sensitive_column="radius",
            outputs=("coefficients", "intercept"),
            epsilon=0.0,
            minimum_rows=50,
            owners=tuple(party(name) for name in OWNERS),
            publisher=party("publisher"),
            owner_revenue=BasisPoints(1_111),
            terms=file_terms,
            chain_id=await self.client.chain_id(),
            studies_contract=self.suite.studies.address,
        )
        signed = sign_study(self.study_file, node("publisher"))
        self.documents.append(
            Document("study", "keccak256", signed.study, node("publisher").node_id, SIGNATURE_DOMAIN, signed.signature)
        )
        terms = StudyTerms(
            spec_hash=specification_hash(self.study_file),
            algorithm_hash=self.study_file.algorithm_hash,
            owners=tuple(account(name).address for name in OWNERS),
            result_party=account("publisher").address,
            committee_fee=file_terms.committee_fee,
            owner_fee=file_terms.owner_fee,
            bond=file_terms.bond,
            consent_deadline=UnixSeconds(await self.time() + 900),
            reveal_seconds=300,
            run_seconds=300,
            challenge_seconds=100,
            maximum_attempts=3,
        )

        def commitment(name: str) -> Hash32:
            return nonce_commitment(account(name).address, terms.spec_hash, digest_of(f"nonce {name}"))

        self.study = await self.by("publisher").studies.propose(terms, commitment("publisher"))
        domain = await self.suite.studies.domain()
        for name in OWNERS:
            dataset = digest_of(f"dataset {name}")
            digest = eip712.consent_digest(
                domain, self.study, terms.spec_hash, dataset, commitment(name), terms.consent_deadline
            )
            signature = account(name).sign_digest(digest)
            await self.by(name).studies.consent(self.study, account(name).address, dataset, commitment(name), signature)
            body = f"share manifest of {name}".encode()
            self.documents.append(
                Document(
                    "shares", "", body, node(name).node_id, "koinon shares 1", node(name).sign("koinon shares 1", body)
                )
            )

    async def train(self) -> None:
        await self._pass_height((await self.suite.studies.study_of(self.study)).draw_height)
        for party, name in enumerate(("publisher", *OWNERS)):
            await self.by(name).studies.reveal(self.study, party, digest_of(f"nonce {name}"))
        first = await self.by("publisher").studies.draw(self.study)
        # The receiver at position 2 complains: a second committee is drawn without the three.
        await self.by(self._person(first[2])).studies.complain(self.study, 0, 0, 1, 2)
        await self._pass_height((await self.suite.studies.study_of(self.study)).draw_height)
        committee = await self.by("publisher").studies.draw(self.study)
        output = digest_of("output")
        digest = eip712.result_digest(await self.suite.studies.domain(), self.study, 1, output)
        signatures = [account(self._person(member)).sign_digest(digest) for member in committee]
        signatures[1] = b""
        await self.by("publisher").studies.complete(self.study, 1, output, signatures)

    async def publish(self) -> None:
        for name in OWNERS:
            mint = Mint(
                AssetKind.DATASET,
                digest_of(f"dataset {name}"),
                "",
                (),
                (account(name).address,),
                (BasisPoints(10_000),),
            )
            self.datasets.append(await self.by(name).assets.mint(mint))
        package = b"package manifest naming the card " + sha256(CARD)
        self.documents += [Document("package", "sha256", package), Document("card", "sha256", CARD)]
        payees = tuple(account(name).address for name in ("publisher", *OWNERS))
        shares = tuple(map(BasisPoints, (10_000 - 3 * 1_111, 1_111, 1_111, 1_111)))
        model = Mint(
            AssetKind.MODEL, sha256(package), "bafymodel", tuple(self.datasets), payees, shares, study_id=self.study
        )
        trained = await self.by("publisher").assets.mint(model)
        variant = Mint(AssetKind.MODEL, sha256(package), "bafyvariant", (trained,), payees, shares)
        self.model = await self.by("publisher").assets.mint(variant)
        service = Mint(AssetKind.SERVICE, digest_of("service"), "", (self.model,), payees, shares)
        self.service = await self.by("publisher").assets.mint(service)
        offer = Offer(TokenAmount(33), TokenAmount(1_001), TokenAmount(33), BasisPoints(2_999), True)
        await self.by("publisher").market.set_offer(self.service, offer)

    async def evaluate(self) -> None:
        terms = EvaluationTerms(
            self.model,
            ("auc", "log_loss"),
            (PartsPerMillion(50_000), PartsPerMillion(50_000)),
            TokenAmount(5 * UNIT),
            3,
            100,
            100,
        )
        nonce = digest_of("nonce of the request")
        commitment = request_commitment(account("publisher").address, self.model, nonce)
        own = self.by("publisher").evaluations
        self.evaluation = await own.request(terms, commitment)
        await self._pass_height((await own.request_of(self.evaluation)).draw_height)
        evaluators = [self._person(each) for each in await own.draw(self.evaluation, nonce)]
        reports = {}
        for number, name in enumerate(evaluators):
            scores = (_score(980_000 + number), _score(-70_000 - 3 * number))
            body = f"evidence of {name}".encode()
            self.documents.append(Document("evaluation", f"tagged:{EVIDENCE_DOMAIN}", body))
            reports[name] = (scores, tagged_hash(EVIDENCE_DOMAIN, body), digest_of(f"salt {name}"))
        for name, (scores, evidence, salt) in reports.items():
            opening = report_commitment(self.evaluation, account(name).address, scores, evidence, salt)
            await self.by(name).evaluations.commit(self.evaluation, opening)
        for name, (scores, evidence, salt) in reports.items():
            await self.by(name).evaluations.reveal(self.evaluation, scores, evidence, salt)
        await own.finalise(self.evaluation)

    async def serve(self) -> tuple[ServiceReceipts, ...]:
        await self.by("publisher").names.register(NAME)
        server = account("provider-0").address
        endpoints = (ServiceEndpoint("http://127.0.0.1:8000", server),)
        await self.by("publisher").names.set_resolution(
            NAME, Resolution(self.model, self.weights, self.evaluation, endpoints)
        )
        number = await self.by("buyer").market.buy(self.service, 20, 3600, TokenAmount(UNIT))
        expiry = UnixSeconds(await self.time() + 3600)
        channel = await self.by("buyer").market.open(
            server, self.service, TokenAmount(10_000), expiry, digest_of("salt")
        )
        domain = await self.suite.market.domain()
        log = await ReceiptLog.open(
            self.folder / "receipts", self.service, node("provider-0"), rng=CountedRng(), clock=StillClock()
        )
        for call in range(1, 13):
            total = TokenAmount(33 * call)
            voucher = sign_voucher(account("buyer"), domain, channel, total)
            payment = Payment(channel, total, voucher.signature, TokenAmount(33), number, 1)
            await log.append(Draft(self.weights, SECRET_ROW, b"[0.25]", StillClock().unix(), payment))
            if call in (5, 12):
                await self.by("provider-0").market.settle(channel, total, voucher.signature)
        sample = await log.prove(7)
        for anchor in log.pending_anchors():
            receipt = await self.by("provider-0").receipts.anchor(
                anchor.service, anchor.root, anchor.count, anchor.first_sequence
            )
            await log.anchored(anchor, receipt.transaction_hash)
        batches = tuple(batch for anchor, _ in log.anchors() for batch in log.anchored_batches(anchor))
        await log.close()
        return (ServiceReceipts(server, batches, (sample,)),)

    async def evidence(self) -> Evidence:
        """Play everything and collect."""
        await self.deploy()
        await self.agree()
        await self.train()
        await self.publish()
        await self.evaluate()
        receipts = await self.serve()
        subject = Subject(NAME, self.study, self.model, self.service, self.evaluation)
        addresses = {name: contract.address for name, contract in self.suite.contracts.items()}
        needed = await collect(self.client, addresses, subject)
        reader = OutsideProofs(self.client) if self.outside else KoinonProofs(self.client)
        network = await reader.network({name: addresses[name] for name in MODEL_CONTRACTS})
        proof = await reader.prove(needed.transactions, needed.heights)
        alone = await collect(self.client, addresses, Subject("", self.study, 0, 0, 0))
        of_study = await reader.prove(alone.transactions, alone.heights)
        few = await reader.network({name: addresses[name] for name in STUDY_CONTRACTS})
        return Evidence(subject, network, proof, needed, tuple(self.documents), receipts, of_study, few)

    def _person(self, address: Address) -> str:
        return next(name for name in ("publisher", *OWNERS, *PROVIDERS) if account(name).address == address)

    async def _pass_height(self, height: int) -> None:
        await self.by("publisher").client.advance_past(height)


def _score(value: int) -> Score:
    return Score(PartsPerMillion(value), PartsPerMillion(value - 5_000), PartsPerMillion(value + 5_000))
