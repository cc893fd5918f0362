"""A validator's role: the ledger on this node's transport, and its RPC on this node's port."""

from contextlib import AsyncExitStack
from functools import partial

from koinon.crypto.bls import BlsKey
from koinon.crypto.hpke import HpkeKey
from koinon.kernel.codec import decode
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.kernel.ids import NodeId
from koinon.ledger.genesis import Genesis
from koinon.ledger.validator import Validator, ValidatorConfig
from koinon.net.discovery import Directory
from koinon.net.hidden import hide, reveal
from koinon.node.announcing import Confided
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

    opening = Validator.open(
        ValidatorConfig(
            rpc_host=config.host,
            rpc_port=config.rpc_port,
            rpc_limits=config.rpc_limits,
            keep_blocks=config.keep_blocks,
        ),
        BlsKey.from_seed(seed),
        context.transport,
        context.keys.node.node_id,
        home.path / "ledger",
        genesis,
        find=partial(find_hidden, context.directory, context.keys.sealing),
        reporting_key=context.keys.account,
    )
    validator = await stack.enter_async_context(opening)
    if config.hide_address:
        context.confide = partial(confided, context.directory, validator, config.host, context.transport.endpoint.port)
    return validator


async def find_hidden(directory: Directory, key: HpkeKey, node_id: NodeId) -> Endpoint:
    """Where a validator listens, told to everybody or to ``key``.

    Raises:
        Unavailable: nobody knows it, or it has not told this node.
        Forged: what it tells this node names another node.
    """
    try:
        return reveal(await directory.find_node(node_id), key)
    except Unavailable:  # what is known may be from before this node was elected
        return reveal(await directory.find_node(node_id, anew=True), key)


async def confided(directory: Directory, validator: Validator, host: str, port: int, claim: NodeClaim) -> Confided:
    """The claim with this node's address sealed to every other validator, until there are others."""
    validators = validator.chain.validators
    others = [one.node_id for one in validators.members if one.node_id != claim.node_id]
    keys = []
    for node_id in others:
        try:
            keys.append((await directory.find_node(node_id)).claim.encryption_key)
        except Unavailable:
            continue  # it has not announced itself yet; the next claim is for it too
    sealed = hide(claim, host, port, keys)
    return Confided(sealed, len(keys) == len(others), partial(validator.wait_for_others_than, validators))
