"""A client's node has strangers' nodes answer about encrypted rows: fees, bonds, a liar charged, offers refused."""

import msgspec
import numpy as np
import pytest
from node_cases_world import until
from node_joins_world import ordered
from node_market_world import COEFFICIENTS, COLUMNS, INTERCEPT, Network
from onnx import load_from_string

from koinon.contracts.outsourcing import Outsourcing, OutsourcingTerms
from koinon.jobs.outsourcing import Task, model_name
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import KoinonError, Refused, Unavailable
from koinon.kernel.ids import to_hex
from koinon.kernel.quantities import TokenAmount, UnixSeconds
from koinon.models.onnx_export import LogisticParameters, export_logistic
from koinon.node import orders
from koinon.node.context import Context
from koinon.node.roles import outsourced_jobs
from koinon.node.roles.encrypted_models import EncryptedModelsRole
from koinon.node.roles.outsourced_jobs import NOBODY
from koinon.node.roles.outsourced_work import MOST_MODELS, WorkRole
from koinon.node.roles.outsourcing import OutsourceRole
from koinon.privacy.encrypted.models import EncryptedModel, Link, layer
from koinon.privacy.encrypted.onnx_layers import layers_of
from koinon.privacy.rep4.adversary import SeededRng
from koinon.wire.encrypted import EncryptedQuestion, FetchEncryptedOffer, GiveModel, OfferWork

UNIT = 1_000_000
FEE, BOND = TokenAmount(UNIT // 2), TokenAmount(20 * UNIT)
NAMES = ("provider-0", "provider-1", "provider-2")
ROWS = np.array([[1.0, 20.0, 0.5], [9.0, 80.0, 4.5], [5.0, 50.0, 2.5], [2.0, 90.0, 1.0]])


LOW, HIGH = (np.array([getattr(column, end) for column in COLUMNS]) for end in ("low", "high"))
PARAMETERS = LogisticParameters(LOW, HIGH, np.array(COEFFICIENTS), INTERCEPT)


async def client_of(network: Network) -> Context:
    """A node with a model and rows on its disk."""
    client = await network.node("buyer", ("publisher",))
    OutsourceRole(client).attach()
    lines = [",".join(column.name for column in COLUMNS), *(",".join(map(repr, row)) for row in ROWS.tolist())]
    (client.home.path / "rows.csv").write_text("\n".join(lines) + "\n")
    (client.home.path / "model.onnx").write_bytes(export_logistic(PARAMETERS))
    return client


async def worker_of(network: Network, name: str, fee: TokenAmount = FEE, role: type[WorkRole] = WorkRole) -> Context:
    context = await network.node(name, ("service",))
    role(context, EncryptedModelsRole(context)).attach()
    await ordered(context, "work.take", orders.TakeWork(fee, BOND), orders.Nothing)
    return context


def job(client: Context, workers: list[Context]) -> orders.Outsource:
    return orders.Outsource(
        model=str(client.home.path / "model.onnx"),
        path=str(client.home.path / "rows.csv"),
        workers=tuple(worker.account for worker in workers),
        agree=2,
        piece_rows=2,
        fee=FEE,
        bond=BOND,
        contract=b"",
        seconds=600,
        claim_seconds=300,
    )


def in_the_clear(rows: np.ndarray) -> np.ndarray:
    scaled = 2 * (rows - LOW) / (HIGH - LOW) - 1
    return np.asarray(1 / (1 + np.exp(-(scaled @ np.array(COEFFICIENTS) + INTERCEPT))))


async def opened(network: Network, client: Context, workers: list[Context]) -> tuple[Outsourcing, int]:
    """Work that a client has opened and not offered yet."""
    contract = await Outsourcing.deploy(client.client, network.suite.token.address, NOBODY)
    await client.suite.token.approve(contract.address, TokenAmount(10**12))
    accounts = tuple(worker.account for worker in workers)
    deadline = UnixSeconds(client.clock.unix() + 600)
    return contract, await contract.open(OutsourcingTerms(accounts, 1, 2, FEE, BOND, deadline, 60))


class LyingWork(WorkRole):
    """A worker that adds a little to one weight."""

    def _show(self, job: outsourced_jobs.Job, content: bytes, model: EncryptedModel) -> None:
        first = model.layers[0]
        weights = ((first.weights[0][0] + 1e-5, *first.weights[0][1:]),)
        super()._show(job, content, EncryptedModel((msgspec.structs.replace(first, weights=weights),), model.link))


async def wealth_of(network: Network, contexts: list[Context]) -> list[int]:
    return [int(await network.suite.token.balance_of(one.account)) for one in contexts]


async def failure(asker: Context, worker: Context, question: EncryptedQuestion) -> str:
    """What a worker says to a question that it cannot answer."""
    with pytest.raises(KoinonError) as refused:
        await asker.transport.call(worker.transport.endpoint, question)
    return str(refused.value)


@pytest.mark.long
async def test_a_sample_of_strangers_that_answer_and_of_one_that_answers_otherwise(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outsourced_jobs, "POLL_SECONDS", 0.1)
    client = await client_of(network)
    roles = (WorkRole, LyingWork, WorkRole)
    workers = [await worker_of(network, name, role=role) for name, role in zip(NAMES, roles, strict=True)]
    everybody = [client, *workers]
    before = await wealth_of(network, everybody)
    # With this draw the liar is asked about one piece or more.
    client.rng = SeededRng(b"draw")
    done = await ordered(client, "work.outsource", job(client, workers), orders.WorkDone)
    np.testing.assert_allclose(done.values, in_the_clear(ROWS), atol=1e-3)
    assert (done.outputs, done.charged, done.silent) == (1, (workers[1].account,), ())

    contract = Outsourcing(client.client, done.contract)
    terms = await contract.terms_of(done.job)
    (shown,) = next(iter(outsourced_jobs.kept_jobs(workers[2]))).models
    named = model_name(done.contract, done.job, shown)
    question = EncryptedQuestion(named, b"", (), b"")
    task, domain = encode(Task(1, done.contract, done.job, 2)), await contract.domain()
    beyond = EncryptedQuestion(named, b"", (), task)
    again = EncryptedQuestion(named, b"", (), encode(Task(domain.chain_id, done.contract, done.job, 0)))
    other = EncryptedQuestion("mine", b"", (), task)
    for asker, asked, sentence in (
        (workers[0], FetchEncryptedOffer(named), "only the client of the work"),
        (workers[0], question, "only the client of the work"),
        (client, question, "names no piece of the work"),
        (client, beyond, "names no piece of the work"),
        (client, other, "did not take the work that the question names"),
    ):
        with pytest.raises(Refused, match=sentence):
            await asker.transport.call(workers[2].transport.endpoint, asked)
    # Twice it may find out that this is no question; then it does not look any more.
    told = [await failure(client, workers[2], again) for _ in range(3)]
    assert "answers 2 questions for a piece" in told[-1]

    # A worker that starts again goes on with its jobs, and gets its bond back.
    await workers[2].close()
    again_up = await network.node(NAMES[2], ("service",))
    role = WorkRole(again_up, EncryptedModelsRole(again_up))
    role.attach()
    assert role.report() == [f"work {done.job} for {to_hex(client.keys.node.node_id)[:18]}"]
    everybody[3] = again_up

    network.chain.time = int(terms.deadline) + terms.claim_seconds + 4
    for context in everybody:
        await until(lambda context=context: not outsourced_jobs.kept_jobs(context))  # type: ignore[misc]
    after = await wealth_of(network, everybody)
    gained = [new - old for old, new in zip(before, after, strict=True)]
    assert gained == [-4 * FEE, 2 * FEE, -BOND, 2 * FEE]
    # Whoever was outvoted pays nobody who could gain by it.
    assert await contract.credit_of(NOBODY) == BOND
    assert await contract.total_held() == 0


@pytest.mark.long
async def test_a_sample_of_strangers_that_have_parts_of_a_model_and_of_one_that_answers_otherwise(
    network: Network,
) -> None:
    """Two cuts of rows by four parts; nobody is given all four, and the liar's bond goes."""
    client = await client_of(network)
    low, high = np.zeros(4), np.array([1.0, 2.0, 4.0, 8.0])
    coefficients, rows = np.array([1.5, -2.0, 0.5, 3.0]), np.random.default_rng(3).uniform(low, high, (3, 4))
    four = LogisticParameters(low, high, coefficients, INTERCEPT)
    (client.home.path / "four.onnx").write_bytes(export_logistic(four))
    lines = ["a,b,c,d", *(",".join(map(repr, row)) for row in rows.tolist())]
    (client.home.path / "four.csv").write_text("\n".join(lines) + "\n")
    roles = (WorkRole, WorkRole, LyingWork, WorkRole)
    names = [f"provider-{number}" for number in range(4)]
    workers = [await worker_of(network, name, role=role) for name, role in zip(names, roles, strict=True)]
    wanted = msgspec.structs.replace(
        job(client, workers),
        model=str(client.home.path / "four.onnx"),
        path=str(client.home.path / "four.csv"),
        split="model",
    )
    before = await wealth_of(network, workers)
    done = await ordered(client, "work.outsource", wanted, orders.WorkDone)
    scaled = 2 * (rows - low) / (high - low) - 1
    np.testing.assert_allclose(done.values, 1 / (1 + np.exp(-(scaled @ coefficients + INTERCEPT))), atol=1e-3)
    assert (done.pieces, done.outputs, done.silent) == (8, 1, ())
    assert done.charged == (workers[2].account,)
    whole = layers_of(load_from_string(export_logistic(four)))
    shown = []
    for worker in workers:
        (kept,) = outsourced_jobs.kept_jobs(worker)
        models = [decode(EncryptedModel, content) for content in kept.models]
        shown.append({model.layers[0].weights[0][0] for model in models})
        assert all(model.features == 1 and not any(model.layers[0].bias) for model in models)
    assert all(0 < len(weights) < 4 for weights in shown)
    assert set().union(*shown) == set(whole.layers[0].weights[0])
    contract = Outsourcing(client.client, done.contract)
    earned = [int(await contract.credit_of(worker.account)) for worker in workers]
    after = await wealth_of(network, workers)
    assert [new - old for old, new in zip(before, after, strict=True)] == [-BOND] * 4
    assert (sum(earned), earned[2], await contract.credit_of(NOBODY)) == (16 * FEE, 0, BOND)


async def test_a_client_gives_models_for_its_own_job_and_no_more_than_are_needed(network: Network) -> None:
    client = await client_of(network)
    worker, other = [await worker_of(network, name) for name in NAMES[:2]]
    contract, number = await opened(network, client, [worker, other])
    for _ in range(2):  # a second offer changes nothing
        await client.transport.call(worker.transport.endpoint, OfferWork(contract.address, number))
    small = [EncryptedModel((layer(np.array([[float(one)]]), np.zeros(1)),), Link.IDENTITY) for one in range(20)]
    for model in [*small[:MOST_MODELS], small[0]]:
        await client.transport.call(worker.transport.endpoint, GiveModel(contract.address, number, encode(model)))
    for sender, content, sentence in (
        (client, encode(small[MOST_MODELS]), "takes 16 models for one job"),
        (other, encode(small[0]), "only the client of the work that this node took"),
    ):
        with pytest.raises(Refused, match=sentence):
            await sender.transport.call(worker.transport.endpoint, GiveModel(contract.address, number, content))
    (kept,) = outsourced_jobs.kept_jobs(worker)
    assert kept.models == tuple(map(encode, small[:MOST_MODELS]))


@pytest.mark.parametrize("content", [b"", b"no model", encode(EncryptedModel((), Link.IDENTITY))])
async def test_what_is_no_model_is_not_kept(network: Network, content: bytes) -> None:
    client = await client_of(network)
    worker, other = [await worker_of(network, name) for name in NAMES[:2]]
    contract, number = await opened(network, client, [worker, other])
    await client.transport.call(worker.transport.endpoint, OfferWork(contract.address, number))
    with pytest.raises(KoinonError, match=r"EncryptedModel|1 to 3 layers"):
        await client.transport.call(worker.transport.endpoint, GiveModel(contract.address, number, content))
    assert [kept.models for kept in outsourced_jobs.kept_jobs(worker)] == [()]


async def test_offers_that_a_worker_does_not_take_cost_nothing(network: Network) -> None:
    client = await client_of(network)
    worker = await worker_of(network, NAMES[0], fee=TokenAmount(UNIT))
    other = await network.node(NAMES[1], ("service",))
    WorkRole(other, EncryptedModelsRole(other)).attach()
    everybody = [client, worker, other]
    wanted = job(client, [worker, other])
    narrow = client.home.path / "narrow.csv"
    narrow.write_text("size\n1.5\n2.5\n")
    before = await wealth_of(network, everybody)
    for changes, sentence in (
        ({"model": str(client.home.path / "rows.csv")}, "rows.csv is not an ONNX model"),
        ({"model": str(client.home.path / "none.onnx")}, "cannot read none.onnx"),
        ({"path": str(narrow)}, "the model takes rows of 3 numbers; the file has 1 columns"),
        ({"piece_rows": 10**6}, "a piece has 1 to"),
        ({"workers": (worker.account, worker.account)}, "name 2 different workers or more"),
        ({"workers": (worker.account,)}, "name 2 different workers or more"),
        ({"path": str(client.home.path / "none.csv")}, "none.csv"),
        ({"contract": network.suite.token.address}, "there is no Outsourcing contract of this version"),
        ({"split": "columns"}, "split by rows or by model"),
        ({"split": "model"}, "2 workers are too few for none of them to see the whole model"),
        ({"contract": b"short"}, "there is no Outsourcing contract of this version"),
    ):
        with pytest.raises(KoinonError, match=sentence):
            await ordered(client, "work.outsource", msgspec.structs.replace(wanted, **changes), orders.WorkDone)
    assert await wealth_of(network, everybody) == before

    with pytest.raises(Unavailable, match="0 of 2 workers take part and 2 are needed; the fees come back"):
        await ordered(client, "work.outsource", wanted, orders.WorkDone)
    (open_job,) = outsourced_jobs.kept_jobs(client)
    mine = await Outsourcing.deploy(client.client, network.suite.token.address, client.account)
    with pytest.raises(Refused, match="takes no work for others"):
        await client.transport.call(other.transport.endpoint, OfferWork(open_job.contract, open_job.number))
    for sender, offer, sentence in (
        (client, OfferWork(open_job.contract, open_job.number), "works from 1 tokens a piece"),
        (other, OfferWork(open_job.contract, open_job.number), "offered by the node whose account opened it"),
        (client, OfferWork(open_job.contract, 99), "nothing has the number 99"),
        (client, OfferWork(mine.address, 1), "gives the bonds of outvoted workers to somebody"),
        (client, OfferWork(network.suite.token.address, 1), "no Outsourcing contract"),
        (client, GiveModel(open_job.contract, open_job.number, b""), "only the client of the work that this node took"),
    ):
        with pytest.raises(KoinonError, match=sentence):
            await sender.transport.call(worker.transport.endpoint, offer)
    assert outsourced_jobs.kept_jobs(worker) == []
    assert (await wealth_of(network, everybody))[1:] == before[1:]
