"""What the demonstration does, step by step: one network, one story, one report."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from koinon.cli.actors import VALIDATOR, DemonstrationActors, Scene
from koinon.cli.console import Progress, console
from koinon.cli.report import ModelScore, Scores, print_story, report_of
from koinon.contracts.client import ChainClient
from koinon.crypto.random import SystemRng
from koinon.crypto.signature import AccountKey
from koinon.jobs.study import Party, Terms
from koinon.journey.predictors import arrays_of
from koinon.journey.results import Audited
from koinon.journey.story import Tell, main_job
from koinon.kernel.errors import InvalidInput
from koinon.kernel.quantities import TOKEN_UNIT, TokenAmount, Wei
from koinon.node.drafts import Draft, write_draft
from koinon.node.local_network import DEMONSTRATION, Network, OutsideChain
from koinon.node.orders import AddData
from koinon.node.setup import GAS_MONEY, Chain, account_names, add_rows, found_by_nodes, put_to_work

if TYPE_CHECKING:
    from koinon.data.table import Table

OUTSIDE_DRAW_DELAY: Final = 3
MODEL_NAME: Final = "tumour-risk.clinic"
DEMONSTRATION_GROUP: Final = "mean_texture"
TERMS: Final = Terms(
    committee_fee=TokenAmount(5 * TOKEN_UNIT),
    owner_fee=TokenAmount(10 * TOKEN_UNIT),
    bond=TokenAmount(20 * TOKEN_UNIT),
    consent_seconds=60,
    reveal_seconds=60,
    run_seconds=60,
    challenge_seconds=8,
    maximum_attempts=4,
)
OWNER_REVENUE_BASIS_POINTS: Final = 2_000
LOGISTIC: Final = ("logistic-regression/1", ("coefficients", "intercept"))
BAYES: Final = ("naive-bayes/1", ("priors", "means", "variances"))
"""A program that makes a model, and what it opens. Ciphertexts are only added: sums are all that naive Bayes needs."""


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    folder: Path
    chaos: str | None
    chain_url: str | None
    chain_key: Path | None
    data_folder: Path | None
    target: str | None
    sensitive: str | None
    calls: int
    seed: int
    effort: float
    by_columns: bool = False
    engine: str = "rep4"
    worth: bool = False

    @property
    def program(self) -> tuple[str, tuple[str, ...]]:
        """What is computed, and what is opened of it."""
        from koinon.privacy.valuation.shapley import WORTH

        name, outputs = BAYES if self.engine == "he" else LOGISTIC
        return name, (*outputs, WORTH) if self.worth else outputs


@dataclass(frozen=True, eq=False)
class Rows:
    """Where everybody's rows are before the demonstration hands them out.

    Attributes:
        owners: the data owners' files by organisation, as each is told to add its own.
        evaluation: rows that no owner and no publisher has.
        ranges: public range (name, low, high) of every column.
        alone: what each owner that knows the answers could learn from by itself, and
        pooled: what all have together; for scores that only a demonstration can compute.
        holders: owners of each column, where owners hold different ones.
    """

    owners: dict[str, AddData]
    evaluation: Path
    ranges: tuple[tuple[str, float, float], ...]
    alone: dict[str, "Table"]
    pooled: "Table"
    held_out: "Table"
    holders: dict[str, tuple[str, ...]]

    @property
    def target(self) -> str:
        """The column that the model predicts."""
        return self.held_out.schema.target


class Demonstration:
    """One run."""

    def __init__(self, options: Options, progress: Progress) -> None:
        self._options = options
        self._progress = progress
        self._network = Network(options.folder / "network")

    async def run(self, report: Path, *, stay: bool, quiet: bool) -> dict[str, Any]:
        """The whole of it; the network is stopped at the end whatever happens, unless it is to stay.

        Raises:
            KoinonError: a step failed; the sentence says which and why.
        """
        progress = self._progress
        with progress.step("rows", "rows") as step:
            rows = await asyncio.to_thread(read_rows, self._options)
            counts = ", ".join(f"{name} {table.rows}" for name, table in rows.alone.items())
            split = f"{rows.pooled.rows} patients, columns split among {len(rows.owners)} hospitals"
            step.say(f"{split if rows.holders else counts}; evaluators {rows.held_out.rows} that nobody else has")
        try:
            with progress.step("network", "network") as step:
                chain = await self._open_network(step.say)
            with progress.step("join", "join") as step:
                await put_to_work(self._network, chain, step.say)
                added = await add_rows(self._network, rows.owners, rows.evaluation, rows.target, rows.ranges)
                step.say(f"{len(self._network.names())} organisations joined; rows checked and committed to")
            people = {one.people for one in added.values()}
            if len(people) != 1:
                raise InvalidInput("the owners' files are not about the same people; compare their ids")
            scene = self._scene(rows, people.pop(), report.with_suffix(".zip"))
            actors = DemonstrationActors(self._network, scene)
            audited = await self._tell_story(actors)
            if self._options.chaos == "validator":
                with progress.step("return", "return") as step:
                    await self._bring_back(step.say)
            scores = await asyncio.to_thread(score, rows, audited)
            told = report_of(
                audited,
                scores,
                progress.seconds,
                account_names(self._network),
                actors.disturbances,
                self._options.chain_url or "our own ledger",
            )
            await asyncio.to_thread(report.write_text, json.dumps(told, indent=2) + "\n", "utf-8")
            if not quiet:
                print_story(told)
                console.print(f"Report: {report}", style="dim")
            if stay:
                await self._stay()
            return told
        finally:
            if self._network.record.exists():
                await self._network.stop()

    async def _open_network(self, tell: Tell) -> Chain:
        options, outside = self._options, None
        chain = Chain(_own_draw_delay(), Wei(0))
        if options.chain_url is not None:
            async with ChainClient([options.chain_url]) as client:
                outside = OutsideChain(options.chain_url, await client.chain_id())
            chain = Chain(OUTSIDE_DRAW_DELAY, GAS_MONEY)
        self._network.create(DEMONSTRATION, SystemRng(), outside=outside, allow_faults=options.chaos == "lie")
        self._agree_beforehand()
        if outside is not None and options.chain_key is not None:
            await self._fund_company(outside.url, options.chain_key)
        await self._network.start()
        names = self._network.names()
        tell(f"{len(names)} organisations, {len(names)} processes", 1.0)
        return chain

    def _agree_beforehand(self) -> None:
        """Hospitals allow logistic regression on rep4 until their people write something else into their policies."""
        program, outputs = self._options.program
        allowed = {
            "allowed_engines": json.dumps([self._options.engine]),
            "allowed_programs": json.dumps([program]),
            "allowed_outputs": json.dumps(outputs),
        }
        for name in self._network.names():
            if "data" in self._network.roles(name):
                policy = self._network.home(name).policy
                text = policy.read_text("utf-8")
                for key, value in allowed.items():
                    text = re.sub(rf"(?m)^{key} = \[[^]]*\]", f"{key} = {value}", text)
                policy.write_text(text, "utf-8")

    async def _fund_company(self, url: str, key_file: Path) -> None:
        """On an outside chain somebody pays for gas: the account in the key file gives the company its first coins."""
        text = (await asyncio.to_thread(key_file.read_text, "utf-8")).strip().removeprefix("0x")
        try:
            key = AccountKey.from_secret(bytes.fromhex(text))
        except ValueError:
            raise InvalidInput(f"{key_file.name} must hold one private key of 64 hexadecimal digits") from None
        company = next(name for name in self._network.names() if "publisher" in self._network.roles(name))
        async with ChainClient([url], key) as client:
            await client.send(self._network.identity(company).account, b"", Wei(40 * GAS_MONEY))

    def _scene(self, rows: Rows, people: bytes, bundle: Path) -> Scene:
        import numpy as np

        options = self._options
        identities = [self._network.identity(name) for name in rows.owners]
        draft = Draft(
            title="Tumour risk from cell nuclei",
            purpose="Tumour risk, for clinical decision support",
            columns=rows.ranges,
            target=rows.target,
            sensitive_column=options.sensitive or _default_group(rows),
            owners=tuple(Party(one.name, one.node_id, one.account) for one in identities),
            owner_revenue_basis_points=OWNER_REVENUE_BASIS_POINTS,
            minimum_rows=20,
            terms=TERMS,
            holders=rows.holders,
            people=people,
            engine=options.engine,
            algorithm=options.program[0],
            outputs=options.program[1],
        )
        return Scene(
            study_text=write_draft(draft),
            model_name=MODEL_NAME,
            rows=rows.held_out.features.astype(np.float32),
            calls=options.calls,
            bundle=bundle,
            effort=options.effort,
            chaos=options.chaos,
            gas_money=GAS_MONEY,
        )

    async def _tell_story(self, actors: DemonstrationActors) -> Audited:
        async with _steps(self._progress) as step:
            return await main_job(actors, step)

    async def _bring_back(self, tell: Tell) -> None:
        """Start the dead validator again and wait until it has what it missed."""
        tell(f"{VALIDATOR} starts again", 0.1)
        await self._network.start([VALIDATOR])
        others = [
            name for name in self._network.names() if "validator" in self._network.roles(name) and name != VALIDATOR
        ]
        goal = (await self._network.operator(others[0]).status())["height"]
        while (height := (await self._network.operator(VALIDATOR).status())["height"]) < goal:
            tell(f"{VALIDATOR} is at block {height} of {goal}", height / max(goal, 1))
            await asyncio.sleep(0.1)
        tell(f"{VALIDATOR} caught up with block {goal}", 1.0)

    async def _stay(self) -> None:
        from koinon.cli.site import open_network_site

        async with open_network_site(self._network, port=0) as url:
            console.print(f"\nThe network runs in {self._network.folder}; its site is at {url}", style="bold")
            console.print("Ctrl-C stops both.")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def _steps(progress: Progress) -> AsyncIterator[Callable[[str], Tell]]:
    """Announce steps one after the other: each ends when the next begins."""
    with contextlib.ExitStack() as last:
        current = last

        def announce(name: str) -> Tell:
            nonlocal current
            current.close()
            current = last.enter_context(contextlib.ExitStack())
            return current.enter_context(progress.step(name, name)).say

        yield announce


def _default_group(rows: Rows) -> str:
    """A column whose tertiles all hold both answers in the demonstration's rows; the first of anybody else's."""
    names = [name for name, _, _ in rows.ranges]
    return DEMONSTRATION_GROUP if DEMONSTRATION_GROUP in names else names[0]


def _own_draw_delay() -> int:
    from koinon.node.genesis import DRAW_DELAY

    return DRAW_DELAY


def read_rows(options: Options) -> Rows:
    """The demonstration's own rows, or the user's files. Raises InvalidInput for files that do not fit together."""
    import numpy as np

    from koinon.data.demonstration import write_demo
    from koinon.data.schema import Schema
    from koinon.data.table import Table, infer_schema, read_table
    from koinon.wire.committee import Column

    owners = [one.name for one in DEMONSTRATION if "data" in one.roles]
    if options.by_columns:
        return _rows_by_columns(options, owners)
    if options.data_folder is None:
        from koinon.data.demonstration import TARGET, demo_split

        if options.target not in (None, TARGET):
            raise InvalidInput(f"the demonstration's rows answer {TARGET}; give files of your own with --data")

        files = write_demo(options.folder / "rows", options.seed)
        schema = demo_split(options.seed).schema
        evaluation = files.pop("evaluators")
        paths = dict(zip(owners, files.values(), strict=True))
    else:
        found = sorted(p for p in options.data_folder.iterdir() if p.suffix.lower() in (".csv", ".parquet"))
        held = [path for path in found if path.stem == "evaluators"]
        own = [path for path in found if path.stem != "evaluators"]
        if len(held) != 1 or len(own) != len(owners):
            raise InvalidInput(
                f"{options.data_folder.name} must hold {len(owners)} CSV or Parquet files, one for each data owner,"
                f" and one named evaluators.csv or .parquet; it holds {len(own)} and {len(held)}"
            )
        evaluation, paths = held[0], dict(zip(owners, own, strict=True))
        target = options.target or _only_answer((*own, evaluation))
        # What the owners would agree on in public: the widest of what each would suggest for its own file.
        suggested = [infer_schema(path, target) for path in (*own, evaluation)]
        names = [set(schema.names) for schema in suggested]
        for path, columns in zip((*own, evaluation), names, strict=True):
            if columns != names[0]:
                different = ", ".join(sorted(columns ^ names[0])[:5])
                raise InvalidInput(f"{path.name} has other columns than {own[0].name}: {different}")
        schema = Schema(
            tuple(
                Column(
                    name,
                    min(one.columns[one.index(name)].low for one in suggested),
                    max(one.columns[one.index(name)].high for one in suggested),
                )
                for name in suggested[0].names
            ),
            target,
        )
    if options.sensitive is not None:
        schema.index(options.sensitive)
    ranges = tuple((column.name, column.low, column.high) for column in schema.columns)
    tables = {name: read_table(path, schema) for name, path in paths.items()}
    return Rows(
        owners={name: AddData(found_by_nodes(path), schema.target, ranges) for name, path in paths.items()},
        evaluation=evaluation,
        ranges=ranges,
        alone=tables,
        pooled=Table(
            schema,
            np.concatenate([table.features for table in tables.values()]),
            np.concatenate([table.target for table in tables.values()]),
        ),
        held_out=read_table(evaluation, schema),
        holders={},
    )


def _rows_by_columns(options: Options, owners: Sequence[str]) -> Rows:
    """The demonstration's patients, each hospital with other columns of them."""
    from koinon.data.demonstration import PATIENT, TARGET, write_demo_columns
    from koinon.data.schema import Schema
    from koinon.data.table import Table, read_table

    if options.data_folder is not None or options.target not in (None, TARGET):
        raise InvalidInput("--split columns divides the demonstration's own rows; leave out --data and --target")
    demo = write_demo_columns(options.folder / "rows", options.seed)
    schema = demo.pooled.schema
    if options.sensitive is not None:
        schema.index(options.sensitive)
    orders, alone = {}, {}
    for owner, (hospital, path) in zip(owners, demo.files.items(), strict=True):
        own = [number for number, name in enumerate(schema.names) if name in demo.held[hospital]]
        columns = tuple(schema.columns[number] for number in own)
        target = TARGET if TARGET in demo.held[hospital] else ""
        ranges = tuple((column.name, column.low, column.high) for column in columns)
        orders[owner] = AddData(found_by_nodes(path), target, ranges, PATIENT)
        if target:
            alone[owner] = Table(Schema(columns, TARGET), demo.pooled.features[:, own], demo.pooled.target)
    return Rows(
        owners=orders,
        evaluation=demo.evaluation,
        ranges=tuple((column.name, column.low, column.high) for column in schema.columns),
        alone=alone,
        pooled=demo.pooled,
        held_out=read_table(demo.evaluation, schema),
        holders={name: (owner,) for owner, names in zip(owners, demo.held.values(), strict=True) for name in names},
    )


def _only_answer(paths: Sequence[Path]) -> str:
    """The one column that is a 0/1 answer in every file. Raises InvalidInput where there is none, or a choice."""
    from koinon.data.table import answer_columns

    first, *others = (answer_columns(path) for path in paths)
    shared = [name for name in first if all(name in names for names in others)]
    if len(shared) != 1:
        found = f"{len(shared)} of them ({', '.join(shared[:5])})" if shared else "none"
        raise InvalidInput(
            f"name the column to predict with --target: of columns that are 0 or 1 in every file, {found}"
        )
    return shared[0]


def score(rows: Rows, audited: Audited) -> Scores:
    """Alone, joint and pooled, on the evaluators' rows, with scikit-learn's estimator of the same kind beside ours."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss, roc_auc_score
    from sklearn.naive_bayes import GaussianNB
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    from koinon.models.onnx_gaussian import GaussianParameters

    held_out = rows.held_out
    opened = arrays_of(audited.paid.served.named.validated.hardened.published.trained)
    low = np.array([low for _, low, _ in rows.ranges])
    high = np.array([high for _, _, high in rows.ranges])
    by_sums = "means" in opened

    def measured(probability: Any) -> ModelScore:
        clipped = np.clip(probability, 1e-7, 1 - 1e-7)
        return ModelScore(float(roc_auc_score(held_out.target, probability)), float(log_loss(held_out.target, clipped)))

    def plain(table: "Table") -> ModelScore:
        regression = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=5000))
        model = make_pipeline(MinMaxScaler((-1, 1)), GaussianNB(var_smoothing=1e-3)) if by_sums else regression
        model.fit(table.features, table.target)
        own = [held_out.schema.index(name) for name in table.schema.names]
        return measured(model.predict_proba(held_out.features[:, own])[:, 1])

    if by_sums:
        bayes = GaussianParameters(low, high, opened["priors"], opened["means"], opened["variances"])
        joint = bayes.probability(held_out.features)
    else:
        scaled = (held_out.features - (low + high) / 2) / ((high - low) / 2)
        joint = 1 / (1 + np.exp(-(scaled @ opened["coefficients"] + opened["intercept"][0])))
    return Scores(
        alone={name: plain(table) for name, table in rows.alone.items()},
        joint=measured(joint),
        pooled=plain(rows.pooled),
    )
