"""A validator's role: the ledger on this node's transport, and its RPC on this node's port."""

from contextlib import AsyncExitStack

from koinon.crypto.bls import BlsKey
from koinon.kernel.codec import decode
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import NodeId
from koinon.ledger.genesis import Genesis
from koinon.ledger.validator import Validator, ValidatorConfig
from koinon.node.context import Context
from koinon.wire.discovery import Endpoint


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
        return (await context.directory.find_node(node_id)).endpoint

    opening = Validator.open(
        ValidatorConfig(rpc_host=config.host, rpc_port=config.rpc_port),
        BlsKey.from_seed(seed),
        context.transport,
        context.keys.node.node_id,
        home.path / "ledger",
        genesis,
        find=find,
        reporting_key=context.keys.account,
    )
    return await stack.enter_async_context(opening)
