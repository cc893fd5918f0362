"""``koinon call``: a buyer with a key of its own resolves a name, pays, asks, and checks the receipts."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koinon.cli.console import Progress, console, errors, print_json, print_table
from koinon.cli.options import JSON, ChainAccess, amount, chain_access, chain_options, open_suite
from koinon.kernel.errors import Refused, Unavailable
from koinon.kernel.ids import to_hex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from koinon.contracts.suite import Suite
    from koinon.crypto.signature import AccountKey
    from koinon.data.schema import Schema
    from koinon.journey.pay import Purchase
    from koinon.journey.story import Tell


@dataclass(frozen=True)
class Wish:
    """What the buyer wants: answers for the rows of ``file``, for at most ``limit`` smallest token units in all."""

    name: str
    file: Path
    columns: "Schema | None"
    limit: int | None


@click.command()
@click.argument("name")
@click.option("--rows", "file", type=click.Path(path_type=Path), required=True, help="CSV or Parquet; one call a row.")
@click.option("--key", "key_file", type=click.Path(path_type=Path), required=True, help="File with the buyer's key.")
@click.option(
    "--columns",
    type=click.Path(path_type=Path),
    help="study.toml with the model's columns. [default: the study file, from the publisher's node]",
)
@click.option("--limit", callback=amount, help="Most tokens to spend in all.")
@chain_options
@JSON
def call(
    name: str,
    file: Path,
    key_file: Path,
    columns: Path | None,
    limit: int | None,
    folder: Path | None,
    urls: tuple[str, ...],
    suite_file: Path | None,
    as_json: bool,
) -> None:
    """Buy a pass for NAME, have every row of a file answered, pay by voucher, check every receipt.

    The key's account needs payment tokens, and coins for gas. What channels hold and nobody claimed comes back.
    """
    from koinon.cli.columns import read_ranges
    from koinon.cli.keys import read_key

    access = chain_access(folder, urls, suite_file)
    key = read_key(key_file)
    if not file.is_file():
        raise Unavailable(f"cannot read {file.name}: there is no such file")
    wish = Wish(name, file, read_ranges(columns, None) if columns is not None else None, limit)
    with Progress(quiet=as_json).step("call", "call") as step:
        bought = asyncio.run(_buy(access, key, wish, step.say))
    facts = _facts(bought)
    if as_json:
        print_json(facts)
        return
    print_table(
        ("row", "answer", "endpoint", "receipt"),
        [(one["row"], f"{one['answer']:.6f}", one["endpoint"], one["receipt"]) for one in facts["answers"]],
        right=(0, 1, 3),
    )
    console.print(f"pass {facts['pass']}; {facts['spent']} tokens spent; every receipt checked", style="dim")


def _facts(bought: "Purchase") -> dict[str, Any]:
    from koinon.contracts.tokens import format_amount

    return {
        "pass": bought.pass_number,
        "spent": format_amount(bought.spent),
        "channels": [to_hex(channel) for channel in bought.channels],
        "answers": [
            {
                "row": number,
                "answer": float(answer.values[0]),
                "endpoint": answer.endpoint,
                "receipt": answer.sequence,
                "receipt_hash": to_hex(answer.receipt_hash),
            }
            for number, answer in enumerate(bought.answers, start=1)
        ],
    }


async def _buy(access: ChainAccess, key: "AccountKey", wish: Wish, tell: "Tell") -> "Purchase":
    from koinon.crypto.random import SystemRng
    from koinon.journey.audit import subject_of
    from koinon.journey.pay import Stranger, purchase, quote, resolve
    from koinon.node.context import SystemClock

    async with open_suite(access, key) as suite:
        subject = await subject_of(suite, wish.name)
        schema = wish.columns or await _model_columns(access, suite, subject.study, tell)
        rows = await asyncio.to_thread(_read_rows, wish.file, schema)
        resolution = await resolve(suite, wish.name)
        price = await quote(suite, resolution, subject.service, len(rows))
        await _afford(
            suite, wish, price.pass_price + price.voucher_price * len(rows), price.pass_price + price.deposits
        )
        stranger = Stranger(suite, SystemClock(), SystemRng(), tell)
        try:
            bought = await purchase(stranger, resolution, subject.service, rows, len(rows), price, checked=len(rows))
        except asyncio.CancelledError:
            errors.print("koinon: what is left in the channels comes back when they expire, within an hour")
            raise
        if await suite.market.credit_of(key.address):
            await suite.market.withdraw()
        tell(f"{len(rows)} answers; the rest of the deposits is back", 1.0)
        return bought


async def _afford(suite: "Suite", wish: Wish, cost: int, needed: int) -> None:
    """Before anything is sent: does the buyer want this, and can it pay?"""
    from koinon.contracts.tokens import format_amount

    if wish.limit is not None and cost > wish.limit:
        raise Refused(
            f"these answers cost {format_amount(cost)} tokens, above the limit of {format_amount(wish.limit)};"
            " nothing was sent"
        )
    owned = await suite.token.balance_of(suite.client.account)
    if owned < needed:
        raise Refused(
            f"{to_hex(suite.client.account)} holds {format_amount(owned)} tokens and needs {format_amount(needed)},"
            " of which a part comes back; nothing was sent"
        )
    if not await suite.client.balance(suite.client.account):
        raise Refused(f"{to_hex(suite.client.account)} has no coins to pay for gas; send it some")


async def _model_columns(access: ChainAccess, suite: "Suite", study: int, tell: "Tell") -> "Schema":
    """The model's columns by name: from the study file, which the publisher shows to everybody."""
    from koinon.cli.audit import open_auditor
    from koinon.data.schema import Schema
    from koinon.journey.audit import study_behind

    if not access.keepers:
        raise Unavailable("nobody was named who knows the publisher's node; give --columns study.toml")
    async with AsyncExitStack() as stack:
        auditor = await open_auditor(access, suite, stack, tell)
        file, _ = await study_behind(auditor, study)
    return Schema(file.columns, file.target)


def _read_rows(path: Path, schema: "Schema") -> "NDArray[np.float32]":
    import numpy as np

    from koinon.data.table import read_features

    rows = read_features(path, schema.names, schema.target)
    low = np.array([column.low for column in schema.columns])
    high = np.array([column.high for column in schema.columns])
    outside = int(((rows < low) | (rows > high)).any(axis=1).sum())
    if outside:
        errors.print(f"note: {outside} of {len(rows)} rows lie outside the ranges that the model was trained on")
    return rows.astype(np.float32)
