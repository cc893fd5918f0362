"""``koinon stake``: validate, delegate, earn, leave; on chains whose validators change."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from koinon.cli.console import console
from koinon.cli.options import HOME, JSON
from koinon.cli.ordering import print_facts
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.kernel.ids import parse_address, to_hex
from koinon.kernel.quantities import Wei
from koinon.node.config import read_config
from koinon.node.home import Home, Identity, NodeKeys

if TYPE_CHECKING:
    from koinon.contracts.staking import Staking

DECIMALS = 18
_AMOUNT = re.compile(r"(\d{1,40})(?:\.(\d{1,18}))?", re.ASCII)
_F = TypeVar("_F", bound=Callable[..., Any])


def coins(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Wei | None:
    """click callback: an amount of coins such as ``12.5``, as wei."""
    return None if value is None else parse_coins(value)


def parse_coins(text: str) -> Wei:
    """``"12.5"`` as wei. Raises InvalidInput for anything but digits and at most 18 decimals."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise InvalidInput(f"an amount of coins is digits with at most {DECIMALS} decimals, such as 12.5")
    return Wei(int(match.group(1)) * 10**DECIMALS + int((match.group(2) or "").ljust(DECIMALS, "0")))


def as_coins(wei: int) -> str:
    """Wei as a person reads them, without trailing zeros."""
    whole, rest = divmod(wei, 10**DECIMALS)
    return f"{whole}.{rest:0{DECIMALS}}".rstrip("0").rstrip(".")


AMOUNT = click.argument("amount", callback=coins)
CANDIDATE = click.argument("number", type=click.IntRange(1, 2**32 - 1))


@asynccontextmanager
async def open_staking(folder: Path) -> "AsyncIterator[Staking]":
    """The contract, called by the account of a node. Raises Unavailable where the chain has none."""
    from koinon.contracts.client import ChainClient
    from koinon.contracts.staking import Staking

    home = Home(folder)
    config, keys = read_config(home.config), NodeKeys.from_secrets(home.secrets())
    if not config.chain.rpc:
        raise InvalidInput(f"node.toml in {folder.name} names no chain; add its JSON-RPC under [chain]")
    async with ChainClient(list(config.chain.rpc), keys.account) as client:
        staking = Staking.on(client)
        if not await staking.exists():
            raise Unavailable("this chain has no staking contract: its validators never change")
        yield staking


def act(folder: Path, step: "Callable[[Staking], Awaitable[object]]", done: str) -> None:
    """Do one thing through the contract and say that it is done."""

    async def run() -> None:
        async with open_staking(folder) as staking:
            await step(staking)

    asyncio.run(run())
    console.print(done, soft_wrap=True)


@click.group()
def stake() -> None:
    """Validate or delegate with the chain's own coin, where validators are elected or members vote on members."""


@stake.command()
@HOME
@JSON
def status(folder: Path, as_json: bool) -> None:
    """Where the chain stands, and what the account of the node in --home has in it."""
    print_facts(asyncio.run(_status(folder)), as_json=as_json)


async def _status(folder: Path) -> dict[str, object]:
    from koinon.contracts.staking import Status

    async with open_staking(folder) as staking:
        account = Identity.read(Home(folder).identity).account
        live = await staking.live()
        delegations = {number: await staking.delegation(account, number) for number in live}
        facts: dict[str, object] = {
            "epoch": await staking.epoch(),
            "era": await staking.era(),
            "candidates": len(live),
            "pool": as_coins(await staking.pool()),
            "supply": as_coins(await staking.supply()),
            "account": to_hex(account),
            "owed": as_coins(await staking.owed(account)),
            "delegated": {
                str(number): as_coins(one.active + one.pending)
                for number, one in delegations.items()
                if one.active + one.pending
            },
            "frozen": {f"until era {one.free_in}": as_coins(one.amount) for one in await staking.frozen(account)},
        }
        number = await staking.number_of(account)
        if number:
            own = await staking.candidate(number)
            facts |= {
                "candidate": number,
                "status": Status(own.status).name.lower(),
                "validates": bool(own.seat),
                "stake": as_coins(own.stake),
                "unstaking": as_coins(own.unstaking),
                "free_in_era": own.free_in,
                "delegated_to_it": as_coins(own.delegated),
                "share_basis_points": own.share,
                "jailed_until_era": own.jailed_until,
                "bonus_basis_points": own.bonus,
            }
        return facts


@stake.command()
@HOME
@click.option("--stake", "amount", required=True, callback=coins, help="Coins to stake.")
@click.option(
    "--share", default=1000, type=click.IntRange(0, 10_000), show_default=True, help="Delegators' basis points."
)
def register(folder: Path, amount: Wei, share: int) -> None:
    """Become a candidate with the node in --home, which must have the role validator."""
    from koinon.crypto.bls import BlsKey
    from koinon.ledger.staking.precompiles import registration_proof

    async def step(staking: "Staking") -> None:
        secrets = Home(folder).secrets()
        if not secrets.validator_seed:
            raise InvalidInput("this node has no validator key; make it with: koinon node init --role validator")
        keys, key = NodeKeys.from_secrets(secrets), BlsKey.from_seed(secrets.validator_seed)
        chain_id = await staking.client.chain_id()
        possession = key.prove_possession()
        proof = registration_proof(chain_id, keys.account.address, keys.node, key.public_key, possession)
        await staking.register(keys.node.node_id, key.public_key, proof, share, amount)

    act(folder, step, f"a candidate with {as_coins(amount)} coins; elected at the earliest in the next era")


@stake.command()
@AMOUNT
@HOME
def add(amount: Wei, folder: Path) -> None:
    """Add AMOUNT coins to the stake."""
    act(folder, lambda staking: staking.add_stake(amount), f"{as_coins(amount)} coins added")


@stake.command()
@AMOUNT
@HOME
def unstake(amount: Wei, folder: Path) -> None:
    """Take AMOUNT coins of the stake back; all of it to leave. Withdraw after the freeze."""
    act(
        folder,
        lambda staking: staking.unstake(amount),
        f"{as_coins(amount)} coins freeze now; see: koinon stake status",
    )


@stake.command()
@click.argument("basis_points", type=click.IntRange(0, 10_000))
@HOME
def share(basis_points: int, folder: Path) -> None:
    """Change the delegators' share of rewards, by at most 500 BASIS_POINTS at a time."""
    act(folder, lambda staking: staking.set_share(basis_points), f"delegators share {basis_points} of 10,000 parts")


@stake.command()
@CANDIDATE
@AMOUNT
@HOME
def delegate(number: int, amount: Wei, folder: Path) -> None:
    """Add AMOUNT coins to the weight of candidate NUMBER; they earn from the next era on."""
    act(folder, lambda staking: staking.delegate(number, amount), f"{as_coins(amount)} coins delegated to {number}")


@stake.command()
@CANDIDATE
@AMOUNT
@HOME
def undelegate(number: int, amount: Wei, folder: Path) -> None:
    """Take AMOUNT coins back from candidate NUMBER. Withdraw after the freeze."""
    act(folder, lambda staking: staking.undelegate(number, amount), f"{as_coins(amount)} coins freeze now")


@stake.command()
@CANDIDATE
@HOME
def claim(number: int, folder: Path) -> None:
    """Collect what was earned by delegating to candidate NUMBER; then withdraw."""
    act(folder, lambda staking: staking.claim(number), "collected; now: koinon stake withdraw")


@stake.command()
@HOME
def withdraw(folder: Path) -> None:
    """Be paid all that is owed and whose freeze is over."""
    act(folder, lambda staking: staking.withdraw(), "paid")


@stake.command()
@CANDIDATE
@click.argument("evidence", type=click.Path(path_type=Path))
@HOME
def evidence(number: int, evidence: Path, folder: Path) -> None:
    """Report double signing of candidate NUMBER with the bytes in file EVIDENCE. Validators do so by themselves."""
    try:
        data = evidence.read_bytes()
    except OSError as problem:
        raise InvalidInput(f"cannot read {evidence.name}: {problem.strerror}") from None
    act(
        folder,
        lambda staking: staking.report(number, data),
        f"candidate {number} is slashed; half is yours to withdraw",
    )


@stake.command()
@CANDIDATE
@HOME
def work(number: int, folder: Path) -> None:
    """Let verified computation and evaluation by this account count for candidate NUMBER."""
    act(folder, lambda staking: staking.work_for(number), f"useful work counts for candidate {number}")


@stake.group()
def vote() -> None:
    """Vote on members, where they are fixed, and on the contracts that may credit useful work."""


@vote.command()
@click.argument("application", type=click.Path(path_type=Path))
@HOME
def admit(application: Path, folder: Path) -> None:
    """Propose the node whose file APPLICATION (koinon stake apply) this is as a member."""
    from koinon.cli.options import read_text

    parts = read_text(application).split()
    if len(parts) != 4:
        raise InvalidInput(f"{application.name} is no application; make one with: koinon stake apply")
    try:
        node_id, key, proof = (bytes.fromhex(part.removeprefix("0x")) for part in parts[1:])
    except ValueError:
        raise InvalidInput(f"{application.name} is no application; make one with: koinon stake apply") from None
    account = parse_address(parts[0])
    act(
        folder,
        lambda staking: staking.propose_admission(account, node_id, key, proof),  # type: ignore[arg-type]
        f"proposed {to_hex(account)}; others approve it",
    )


@stake.command("apply")
@HOME
@click.option("--chain-id", required=True, type=click.IntRange(1), help="The chain's id.")
def apply_(folder: Path, chain_id: int) -> None:
    """Print the application of the node in --home for membership; give it to a member."""
    from koinon.crypto.bls import BlsKey
    from koinon.kernel.quantities import ChainId
    from koinon.ledger.staking.precompiles import registration_proof

    secrets = Home(folder).secrets()
    if not secrets.validator_seed:
        raise InvalidInput("this node has no validator key; make it with: koinon node init --role validator")
    keys, key = NodeKeys.from_secrets(secrets), BlsKey.from_seed(secrets.validator_seed)
    account = keys.account.address
    proof = registration_proof(ChainId(chain_id), account, keys.node, key.public_key, key.prove_possession())
    for value in (account, keys.node.node_id, key.public_key, proof):
        click.echo(to_hex(value))


@vote.command()
@CANDIDATE
@HOME
def remove(number: int, folder: Path) -> None:
    """Propose to remove member NUMBER."""
    act(
        folder,
        lambda staking: staking.propose_removal(number),
        f"proposed to remove member {number}; others approve it",
    )


@vote.command()
@click.argument("address")
@HOME
def authorise(address: str, folder: Path) -> None:
    """Propose that the contract at ADDRESS may credit useful work."""
    subject = parse_address(address)
    act(folder, lambda staking: staking.propose_authority(subject, True), "proposed; others approve it")


@vote.command()
@click.argument("address")
@HOME
def revoke(address: str, folder: Path) -> None:
    """Propose that the contract at ADDRESS may no longer credit useful work."""
    subject = parse_address(address)
    act(folder, lambda staking: staking.propose_authority(subject, False), "proposed; others approve it")


@vote.command()
@click.argument("proposal", type=click.IntRange(1))
@HOME
def approve(proposal: int, folder: Path) -> None:
    """Vote for PROPOSAL, by its number."""
    act(folder, lambda staking: staking.approve(proposal), f"voted for proposal {proposal}")


@vote.command("list")
@HOME
@JSON
def list_(folder: Path, as_json: bool) -> None:
    """All proposals."""
    print_facts(asyncio.run(_proposals(folder)), as_json=as_json)


async def _proposals(folder: Path) -> dict[str, object]:
    from koinon.contracts.staking import Action

    async with open_staking(folder) as staking:
        facts: dict[str, object] = {}
        for number in range(1, await staking.proposal_count() + 1):
            one = await staking.proposal(number)
            facts[str(number)] = {
                "action": Action(one.action).name.lower(),
                "subject": to_hex(one.subject),
                "member": one.number,
                "carried": one.done,
                "deadline": one.deadline,
            }
        return facts
