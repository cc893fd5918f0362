"""A validator's role: the ledger on this node's transport, and its RPC on this node's port."""

from contextlib import AsyncExitStack

from koinon.crypto.bls import BlsKey
from koinon.kernel.codec import decode
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.kernel.ids import NodeId
from koinon.ledger.genesis import Genesis
from koinon.ledger.validator import Validator, ValidatorConfig
from koinon.net.hidden import hide, reveal
from koinon.node.context import Context
from koinon.wire.discovery import Endpoint, NodeClaim


async def open_validator(context: Context, seed: bytes, stack: AsyncExitStack) -> Validator:
    """Open it on ``stack``. Raises InvalidInput where genesis is missing or does not know this node."""
    home, config = context.home, context.config
    try:
        genesis = decode(Genesis, home.genesis.read_bytes())
    except OSError as problem:
        raise InvalidInput(f"a validator needs the file genesis in its home ({problem.strerror})") from None
    if not seed:
        raise InvalidInput("this node has no validator key; make it with: koinon node init --role validator")

    async def find(node_id: NodeId) -> Endpoint:
        return reveal(await context.directory.find_node(node_id), context.keys.sealing)

    opening = Validator.open(
        ValidatorConfig(rpc_host=config.host, rpc_port=config.rpc_port, keep_blocks=config.keep_blocks),
        BlsKey.from_seed(seed),
        context.transport,
        context.keys.node.node_id,
        home.path / "ledger",
        genesis,
        find=find,
        reporting_key=context.keys.account,
    )
    validator = await stack.enter_async_context(opening)
    if config.hide_address:

        async def confide(claim: NodeClaim) -> tuple[NodeClaim, bool]:
            return await hidden_claim(context, validator, claim)

        context.confide = confide
    return validator


async def hidden_claim(context: Context, validator: Validator, claim: NodeClaim) -> tuple[NodeClaim, bool]:
    """The claim with this node's address sealed to every other validator, and whether all of them were found."""
    others = [one.node_id for one in validator.chain.validators.members if one.node_id != claim.node_id]
    keys = []
    for node_id in others:
        try:
            keys.append((await context.directory.find_node(node_id)).claim.encryption_key)
        except Unavailable:
            continue  # it has not announced itself yet; the next claim is for it too
    port = context.transport.endpoint.port
    return hide(claim, context.config.host, port, keys), len(keys) == len(others)
