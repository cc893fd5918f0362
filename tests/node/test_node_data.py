"""A data owner's node: it answers studies by its policy, and a restart never costs it its bond."""

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest
from contracts_world import OWNERS
from node_market_world import COLUMNS, TARGET, Network, desk_of, party

from koinon.contracts.assets import AssetKind, Mint
from koinon.data.schema import Schema
from koinon.data.table import Table, write_csv
from koinon.jobs import owner
from koinon.jobs.study import StudyFile, Terms
from koinon.journey import study as proposing
from koinon.journey.results import Study
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import InvalidInput, Refused
from koinon.kernel.ids import Hash32, NodeId
from koinon.kernel.quantities import ALL_BASIS_POINTS, BasisPoints, TokenAmount
from koinon.node.context import Context
from koinon.node.create import DEFAULT_POLICY
from koinon.node.datasets import Datasets
from koinon.node.orders import Answered, AskData
from koinon.node.privacy_ledger import PrivacyLedger, added
from koinon.node.roles.data import DataRole
from koinon.node.roles.publisher import PublisherRole
from koinon.node.roles.spending import PrivacyDesk
from koinon.node.tasks import Narrator
from koinon.privacy.differential.budget import check_opened, find, pure_entry, spent
from koinon.privacy.programs.offer import settings_from
from koinon.privacy.programs.registry import algorithm_hash, offer
from koinon.privacy.sharing import accept_package
from koinon.wire.studies import DeliverShares


def table(seed: int) -> Table:
    rng = np.random.default_rng(seed)
    low = np.array([column.low for column in COLUMNS])
    high = np.array([column.high for column in COLUMNS])
    target = (np.arange(40) % 2).astype(np.float64)
    return Table(Schema(COLUMNS, TARGET), rng.uniform(low, high, (40, len(COLUMNS))), target)


async def study_file(publisher: Context) -> StudyFile:
    unit = 1_000_000
    return StudyFile(
        version=1,
        title="Illness",
        purpose="Tumour risk, for a test",
        algorithm="logistic-regression/1",
        algorithm_hash=algorithm_hash("logistic-regression/1"),
        columns=COLUMNS,
        target=TARGET,
        sensitive_column=COLUMNS[0].name,
        outputs=("coefficients", "intercept"),
        epsilon=0.0,
        minimum_rows=20,
        owners=tuple(party(name) for name in OWNERS),
        publisher=party("publisher"),
        owner_revenue=BasisPoints(1_000),
        terms=Terms(TokenAmount(unit), TokenAmount(2 * unit), TokenAmount(unit), 100, 100, 100, 10, 2),
        chain_id=await publisher.client.chain_id(),
        studies_contract=publisher.suite.studies.address,
    )


async def publisher_of(network: Network) -> Context:
    context = await network.node("publisher", ("publisher",))
    PublisherRole(context).attach()
    return context


async def owner_of(network: Network, name: str, policy: str = DEFAULT_POLICY) -> Context:
    """An owner's node with rows and a policy; opened again under its name, it has what it had."""
    context = await network.node(name, ("data",))
    home = context.home
    home.datasets.mkdir(exist_ok=True)
    home.policy.write_text(policy, "utf-8")
    path = home.path / "rows.csv"
    write_csv(table(OWNERS.index(name)), path)
    Datasets(home.datasets).add(path, Schema(COLUMNS, TARGET), TARGET, context.rng)
    return context


def follow(context: Context) -> DataRole:
    role = DataRole(context)
    role.attach()
    context.spawn(context.feed.follow(), "feed")
    return role


async def _not_asked(*_: object) -> None:
    """In place of asking the owners before money moves."""


@pytest.mark.parametrize(
    ("line", "changed", "reason"),
    [
        ('purposes = ["tumour risk"] ', 'purposes = ["insurance"]', "the purpose is none the policy accepts"),
        ("privacy_epsilon = 8.0", "privacy_epsilon = 0.5", "the privacy budget of this data set does not cover it"),
    ],
)
async def test_a_refusal_reaches_the_publisher_with_its_reason_and_the_money_is_back(
    network: Network, line: str, changed: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert line in DEFAULT_POLICY
    publisher = await publisher_of(network)
    for name in OWNERS[:-1]:
        follow(await owner_of(network, name))
    follow(await owner_of(network, OWNERS[-1], DEFAULT_POLICY.replace(line, changed)))
    desk, _ = desk_of(publisher)
    noisy = msgspec.structs.replace(await study_file(publisher), epsilon=1.0)
    before = await network.suite.token.balance_of(publisher.account)
    with pytest.raises(Refused, match=reason + r".*; nothing was sent"):
        await proposing.propose(desk, noisy)
    assert await network.suite.token.balance_of(publisher.account) == before
    assert await network.suite.studies.count() == 0
    # Without the question beforehand the owner's no comes over the chain, and the escrow back.
    monkeypatch.setattr(proposing, "_consult", _not_asked)
    with pytest.raises(Refused, match=reason + r".*; the escrow and all bonds are back"):
        await proposing.propose(desk, noisy)
    credit = await network.suite.studies.credit_of(publisher.account)
    assert await network.suite.token.balance_of(publisher.account) + credit == before


@pytest.mark.parametrize(
    ("algorithm", "outputs", "settings", "reason"),
    [
        ("poisson-regression/1", ("coefficients",), {}, "column 'size' holds fractions"),
        ("k-means/1", ("sizes",), {"minimum_group": 121}, "with 120 rows the study cannot be computed"),
    ],
)
async def test_rows_that_a_program_cannot_take_are_refused_before_anything_is_signed(
    network: Network, algorithm: str, outputs: tuple[str, ...], settings: dict[str, object], reason: str
) -> None:
    """Nobody's rows alone show that they are too few: the owners say how many they have, and the publisher adds."""
    publisher = await publisher_of(network)
    policy = DEFAULT_POLICY.replace("logistic-regression/1", algorithm).replace('"worth"', f'"{outputs[0]}"')
    for name in OWNERS:
        context = await owner_of(network, name, policy)
        path, schema = context.home.path / "measures.csv", Schema(COLUMNS, "")
        write_csv(Table(schema, table(OWNERS.index(name)).features, np.zeros(0)), path)
        Datasets(context.home.datasets).add(path, schema, "", context.rng)
        follow(context)
    found = offer(algorithm)
    file = msgspec.structs.replace(
        await study_file(publisher),
        algorithm=algorithm,
        algorithm_hash=algorithm_hash(algorithm),
        target="size" if algorithm == "poisson-regression/1" else "",
        sensitive_column="",
        outputs=outputs,
        settings=settings_from(found, settings),
    )
    before = await network.suite.token.balance_of(publisher.account)
    with pytest.raises(Refused, match=reason + r".*; nothing was sent"):
        await proposing.propose(desk_of(publisher)[0], file)
    assert await network.suite.token.balance_of(publisher.account) == before
    assert await network.suite.studies.count() == 0


async def test_two_studies_at_once_cannot_both_spend_the_last_of_the_budget(network: Network) -> None:
    publisher = await publisher_of(network)
    for name in OWNERS[:-1]:
        follow(await owner_of(network, name))
    narrow = DEFAULT_POLICY.replace("privacy_epsilon = 8.0", "privacy_epsilon = 3.0")
    last = await owner_of(network, OWNERS[-1], narrow)
    follow(last)
    desk, _ = desk_of(publisher)
    file = await study_file(publisher)
    noisy = [msgspec.structs.replace(file, title=title, epsilon=2.5) for title in ("one", "other")]
    outcomes = await asyncio.gather(*(proposing.propose(desk, each) for each in noisy), return_exceptions=True)
    signed = [outcome for outcome in outcomes if isinstance(outcome, Study)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert (len(signed), len(refused)) == (1, 1)
    assert "the privacy budget of this data set does not cover it: ε = 2.5 of 3 is spent" in str(refused[0])
    dataset = Datasets(last.home.datasets).all()[0].dataset_hash
    (paid,) = PrivacyLedger(last.memory).entries(dataset)
    assert (paid.study, paid.attempt, paid.mechanism) == (signed[0].number, 0, "gaussian")


async def test_what_a_study_cost_that_ended_before_any_share_was_dealt_is_paid_back(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = await publisher_of(network)
    for name in OWNERS[:-1]:
        first = await owner_of(network, name)
        follow(first)
    follow(await owner_of(network, OWNERS[-1], DEFAULT_POLICY.replace("tumour risk", "insurance")))
    desk, _ = desk_of(publisher)
    monkeypatch.setattr(proposing, "_consult", _not_asked)
    with pytest.raises(Refused, match="purpose"):
        await proposing.propose(desk, await study_file(publisher))
    await first.close()
    # As if it had died between its consent and the news of the end.
    number, dataset = 1, Datasets(first.home.datasets).all()[0].dataset_hash
    consented = owner.OwnerState(number, "consented", bytes(32), dataset)
    again = await owner_of(network, OWNERS[-2])
    before = PrivacyLedger(again.memory).entries(dataset)
    paid = before if find(before, number, 0) is not None else (*before, pure_entry(number, 0, 1.0, bytes(32)))
    again.memory.write(
        {
            b"owner/" + number.to_bytes(8, "big"): encode(consented),
            **added(dataset, before, paid),
        }
    )
    await DataRole(again).resume()
    entries = PrivacyLedger(again.memory).entries(dataset)
    assert find(entries, number, 0) is None
    assert spent(entries, 1e-6) == 0.0


async def minted(context: Context) -> int:
    dataset = Datasets(context.home.datasets).all()[0].dataset_hash
    whole = (context.account,), (ALL_BASIS_POINTS,)
    return await context.suite.assets.mint(Mint(AssetKind.DATASET, Hash32(dataset), "", (), *whole))


async def test_own_answers_are_paid_noted_on_the_chain_and_opened_to_an_auditor(network: Network) -> None:
    context = await owner_of(network, OWNERS[0], DEFAULT_POLICY.replace("privacy_epsilon = 8.0", "privacy_epsilon = 2"))
    asset = await minted(context)
    privacy = PrivacyDesk(context, Datasets(context.home.datasets))
    privacy.offer()
    dataset = Datasets(context.home.datasets).all()[0].dataset_hash
    column = COLUMNS[0]

    async def ask(question: str, arguments: tuple[float, ...], epsilon: float) -> Answered:
        order = AskData(dataset[:4], question, column.name, arguments, epsilon)
        return await privacy.ask(encode(order), Narrator())

    mean = (await ask("mean", (), 1.0)).values[0]
    assert column.low <= mean <= column.high
    assert len((await ask("histogram", (4.0,), 0.5)).values) == 4
    for question, arguments, epsilon, reason in (
        ("median", (), 0.1, "the questions and how many numbers"),
        ("count", (2.0, 1.0), 0.1, "lower end"),
        ("quantile", (1.5,), 0.1, "between 0 and 1"),
        ("histogram", (float("nan"),), 0.1, "1 to 1000 bins"),
        ("mean", (), -1.0, "ε above 0"),
        ("mean", (), 0.6, "the privacy budget of this data set does not cover it"),
    ):
        with pytest.raises(InvalidInput, match=reason):
            await ask(question, arguments, epsilon)
    entries = privacy.ledger.entries(dataset)
    assert [entry.millionths for entry in entries] == [1_000_000, 500_000]
    notes = await context.suite.assets.notes_of(asset)
    check_opened(entries, notes.count, notes.head)
    # The same node with an older copy of its disk answers nothing more.
    context.memory.write({}, [key for key, _ in context.memory.scan(b"privacy-budget/")][1:])
    with pytest.raises(Refused, match="restore the newest copy"):
        await ask("mean", (), 0.1)


async def test_a_commitment_stands_on_the_chain_before_the_consent(network: Network) -> None:
    publisher = await publisher_of(network)
    contexts = [await owner_of(network, name) for name in OWNERS]
    assets = [await minted(context) for context in contexts]
    for context in contexts:
        follow(context)
    desk, _ = desk_of(publisher)
    await proposing.propose(desk, msgspec.structs.replace(await study_file(publisher), epsilon=1.0))
    for context, asset in zip(contexts, assets, strict=True):
        entries = PrivacyLedger(context.memory).entries(Datasets(context.home.datasets).all()[0].dataset_hash)
        notes = await context.suite.assets.notes_of(asset)
        check_opened(entries, notes.count, notes.head)
        assert spent(entries, 1e-6) == pytest.approx(1.0, abs=2e-3)


async def test_a_study_that_plants_rows_is_dealt_them_with_the_owner_s_own(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = await publisher_of(network)
    for name in OWNERS[:-1]:
        follow(await owner_of(network, name))
    last = await owner_of(network, OWNERS[-1])
    role = follow(last)
    dealt: list[DeliverShares] = []

    async def kept(_: NodeId, shares: DeliverShares) -> None:
        dealt.append(shares)

    monkeypatch.setattr(role, "_deliver", kept)
    desk, _ = desk_of(publisher)
    signed = await proposing.propose(desk, msgspec.structs.replace(await study_file(publisher), planted=8))
    stored = Datasets(last.home.datasets).all()[0]
    member = NodeId(bytes(32))
    await role._perform(signed.number, owner.DealShares(0, (member,) * 4, stored.dataset_hash))
    manifest = dealt[0].shares.manifest
    assert manifest.rows == stored.rows + 8
    for position, shares in enumerate(dealt):
        assert accept_package(manifest, position, shares.shares.package).shape == (stored.rows + 8, len(COLUMNS) + 1)


async def test_an_unreadable_policy_is_told_before_any_study(network: Network) -> None:
    context = await owner_of(network, OWNERS[0], "purposes = [")
    with pytest.raises(InvalidInput, match=r"policy.toml is not TOML"):
        DataRole(context).attach()


async def test_an_owner_that_was_down_at_the_lock_still_reveals_its_nonce(network: Network) -> None:
    publisher = await publisher_of(network)
    first = [await owner_of(network, name) for name in OWNERS]
    for context in first:
        follow(context)
    desk, _ = desk_of(publisher)
    study = await proposing.propose(desk, await study_file(publisher))
    # The last owner's process dies before it hears of the lock; its memory is on disk.
    for context in first:
        await context.close()
    key = b"owner/" + study.number.to_bytes(8, "big")
    stored = first[-1].memory.get(key)
    assert stored is not None
    state_then = decode(owner.OwnerState, stored)
    # Whatever it had heard by then, what it wrote last before the chain knew more was its consent.
    first[-1].memory.write(
        {key: encode(owner.OwnerState(study.number, "consented", state_then.nonce, state_then.dataset_hash))}
    )
    await DataRole(await owner_of(network, OWNERS[-1])).resume()
    last = await publisher.suite.studies.party_of(study.number, 1 + OWNERS.index(OWNERS[-1]))
    assert last.revealed


def test_rows_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    from koinon.crypto.random import SystemRng

    path = tmp_path / "rows.csv"
    write_csv(table(1), path)
    folder = tmp_path / "datasets"
    stored = Datasets(folder).add(path, Schema(COLUMNS, TARGET), TARGET, SystemRng())
    place = folder / stored.dataset_hash.hex()
    assert place.stat().st_mode & 0o077 == 0
    assert "secret" not in repr(stored)
