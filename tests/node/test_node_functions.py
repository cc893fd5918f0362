"""A JAX function as a study of real nodes: refused until every owner names its hash, and then opened as JAX has it."""

import json
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from node_joins_world import UNIT, committee_of, ordered, publisher_of
from node_market_world import Network, party

from koinon.data.schema import Schema
from koinon.jobs.study import SignedStudy, Terms, open_study
from koinon.journey.predictors import arrays_of
from koinon.journey.results import Study, Trained
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import KoinonError
from koinon.kernel.ids import to_hex
from koinon.kernel.quantities import TokenAmount
from koinon.node.context import Context
from koinon.node.create import DEFAULT_POLICY
from koinon.node.datasets import Datasets
from koinon.node.drafts import Draft, write_draft
from koinon.node.orders import ProposeStudy
from koinon.node.roles.data import DataRole
from koinon.privacy.graphs.function_code import hash_of
from koinon.privacy.graphs.function_tracing import traced
from koinon.privacy.programs import registry
from koinon.privacy.programs.function import Settings
from koinon.privacy.programs.offer import settings_table
from koinon.wire.committee import Column

OWNERS = ("north", "south")
ROWS = (24, 20)
COLUMNS = (Column("size", -4.0, 4.0), Column("age", 0.0, 8.0), Column("ill", 0.0, 1.0))
POLICY = (
    DEFAULT_POLICY.replace('["logistic-regression/1"]', '["function/1"]')
    .replace('["coefficients", "intercept", "worth"]', '["loss", "weights"]')
    .replace("minimum_parties = 3", "minimum_parties = 2")
)


def fitted(rows: jax.Array) -> dict[str, jax.Array]:
    """Logistic regression by gradient descent, and the loss at its end."""
    x, y = jnp.column_stack([rows[:, 0] / 4, rows[:, 1] / 4 - 1, jnp.ones(len(rows))]), rows[:, 2]

    def loss(w: jax.Array) -> jax.Array:
        return jnp.mean(jnp.logaddexp(0.0, -(2 * y - 1) * (x @ w)))

    w = lax.fori_loop(0, 4, lambda _, w: w - 2.0 * jax.grad(loss)(w), jnp.zeros(3))
    return {"weights": w, "loss": loss(w)}


FUNCTION = traced(fitted, ROWS, len(COLUMNS))


def cells() -> np.ndarray:
    random = np.random.default_rng(5)
    size, age = random.uniform(-4, 4, sum(ROWS)), random.uniform(0, 8, sum(ROWS))
    return np.column_stack([size, age, size + age / 2 + random.normal(0, 1, sum(ROWS)) > 2])


async def owner_of(network: Network, name: str, rows: np.ndarray) -> Context:
    """An owner's node with these rows, which allows the program and no function yet."""
    context = await network.node(name, ("data",))
    context.home.datasets.mkdir(exist_ok=True)
    context.home.policy.write_text(POLICY, "utf-8")
    path = context.home.path / "rows.csv"
    lines = [",".join(map(repr, row)) for row in rows.tolist()]
    path.write_text("\n".join([",".join(column.name for column in COLUMNS), *lines]) + "\n")
    Datasets(context.home.datasets).add(path, Schema(COLUMNS, ""), "", context.rng, "")
    role = DataRole(context)
    role.attach()
    role.offer()
    context.spawn(context.feed.follow(), "feed")
    return context


def draft_of(function: bytes) -> str:
    offer = registry.offer("function/1")
    return write_draft(
        Draft(
            title="A function",
            purpose="Tumour risk, for a test",
            columns=tuple((column.name, column.low, column.high) for column in COLUMNS),
            target="",
            sensitive_column="",
            owners=tuple(map(party, OWNERS)),
            owner_revenue_basis_points=1_000,
            minimum_rows=20,
            terms=Terms(TokenAmount(UNIT), TokenAmount(2 * UNIT), TokenAmount(UNIT), 600, 600, 600, 30, 2),
            algorithm="function/1",
            outputs=("loss", "weights"),
            settings=settings_table(offer, encode(Settings(function, True))),
        )
    )


def allow(owners: Sequence[Context], function: bytes) -> None:
    for context in owners:
        named = f"allowed_functions = {json.dumps([to_hex(hash_of(function))])}"
        context.home.policy.write_text(POLICY.replace("allowed_functions = []", named), "utf-8")


@pytest.mark.long
async def test_sample_a_jax_function_between_real_nodes(network: Network) -> None:
    publisher = await publisher_of(network)
    await committee_of(network)
    rows = cells()
    parts = np.split(rows, [ROWS[0]])
    owners = [await owner_of(network, name, part) for name, part in zip(OWNERS, parts, strict=True)]
    # Naming the program is not enough: this function is none that the owners have allowed.
    with pytest.raises(KoinonError, match=f"does not allow the function {to_hex(hash_of(FUNCTION))}"):
        await ordered(publisher, "study.propose", ProposeStudy(draft_of(FUNCTION)), Study)
    allow(owners, FUNCTION)
    study = await ordered(publisher, "study.propose", ProposeStudy(draft_of(FUNCTION)), Study)
    trained = await ordered(publisher, "study.train", study, Trained)
    file = open_study(decode(SignedStudy, trained.study.signed))
    assert file.outputs == ("loss", "weights")
    assert trained.training_rows == ROWS
    found = arrays_of(trained)
    wanted = jax.jit(fitted)(jnp.asarray(rows, jnp.float32))
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert np.abs(found[name] - np.asarray(values)).max() < 2e-3
    assert float(wanted["loss"]) < 0.6
