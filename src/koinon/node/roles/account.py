"""Orders about the node's own account: pay, collect what contracts owe, approve, register and stake."""

import asyncio
from typing import Final

from koinon.contracts.contract import PaysCredit
from koinon.contracts.providers import Role
from koinon.contracts.refusals import Reverted
from koinon.contracts.suite import Suite
from koinon.contracts.token import UNLIMITED
from koinon.contracts.tokens import format_amount
from koinon.crypto.hash import keccak256
from koinon.kernel.codec import decode
from koinon.kernel.quantities import TokenAmount
from koinon.node import orders
from koinon.node.context import Context
from koinon.node.tasks import Narrator

ROLE_BITS: Final = {"compute": Role.COMPUTE, "evaluator": Role.EVALUATE, "service": Role.SERVE}


class AccountOrders:
    """Orders that every node offers."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def offer(self) -> None:
        board = self._context.board
        board.offer("account.pay", self._pay)
        board.offer("account.approve", self._approve)
        board.offer("account.withdraw", self._withdraw)
        if set(self._context.config.roles) & set(ROLE_BITS):
            board.offer("provider.join", self._join)

    async def _pay(self, argument: bytes, narrator: Narrator) -> orders.Nothing:
        """Tokens and gas money to several accounts at the same time: nonces follow one another by themselves."""
        order, context = decode(orders.Pay, argument), self._context
        transfers = [
            *(context.suite.token.transfer(account, order.tokens) for account in order.accounts if order.tokens),
            *(context.client.send(account, b"", order.coins) for account in order.accounts if order.coins),
        ]
        await asyncio.gather(*transfers)
        narrator.say(f"paid {len(order.accounts)} accounts {format_amount(order.tokens)} tokens each", 1.0)
        return orders.Nothing()

    async def _approve(self, argument: bytes, narrator: Narrator) -> orders.Nothing:
        """Let the suite's contracts pull bonds, stakes and escrow from this account when this account says so."""
        decode(orders.Nothing, argument)
        suite = self._context.suite
        spenders = _holding_money(suite)
        await asyncio.gather(*(suite.token.approve(spender.address, UNLIMITED) for spender in spenders))
        narrator.say("the contracts may pull what this account agrees to pay", 1.0)
        return orders.Nothing()

    async def _withdraw(self, argument: bytes, narrator: Narrator) -> orders.Withdrawn:
        """Collect every credit that the contracts hold for this account."""
        decode(orders.Nothing, argument)
        suite, account = self._context.suite, self._context.account
        before = await suite.token.balance_of(account)
        for contract in _holding_money(suite):
            if await contract.credit_of(account):
                await contract.withdraw()
        amount = orders.Withdrawn(TokenAmount(await suite.token.balance_of(account) - before))
        narrator.say(f"collected {format_amount(amount.amount)} tokens", 1.0)
        return amount

    async def _join(self, argument: bytes, narrator: Narrator) -> orders.Nothing:
        """Register for the roles in node.toml and stake. Ordered again, it adds only what is missing."""
        order, context = decode(orders.Join, argument), self._context
        providers = context.suite.providers
        roles = Role(sum(bit for name, bit in ROLE_BITS.items() if name in context.config.roles))
        operator = keccak256(context.config.operator.encode())
        known = await providers.provider_of(context.account)
        node_id = context.keys.node.node_id
        if (known.node_id, known.operator, known.roles) != (node_id, operator, roles):
            await providers.register(node_id, operator, roles)
        missing = order.stake - known.stake
        if missing > 0:
            if await context.suite.token.allowance(context.account, providers.address) < missing:
                await context.suite.token.approve(providers.address, UNLIMITED)
            try:
                await providers.stake(TokenAmount(missing))
            except Reverted as problem:
                raise type(problem)(f"could not stake {format_amount(missing)} tokens: {problem}") from None
        narrator.say(f"registered with a stake of {format_amount(order.stake)} tokens", 1.0)
        return orders.Nothing()


def _holding_money(suite: Suite) -> tuple[PaysCredit, ...]:
    return (suite.providers, suite.studies, suite.evaluations, suite.assets, suite.market, suite.judgements)
