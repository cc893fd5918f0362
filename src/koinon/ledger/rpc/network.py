"""What a client asks first: which software, which chain, whether it is in step."""

from koinon import __version__
from koinon.crypto.hash import keccak256
from koinon.ledger.rpc import readers
from koinon.ledger.rpc.forms import data, quantity
from koinon.ledger.rpc.table import Json, Method, Parameter, constant
from koinon.ledger.rpc.view import LedgerView, Progress


def network_methods(view: LedgerView) -> tuple[Method, ...]:
    """The methods."""
    chain_id = view.chain.genesis.chain_id
    return (
        constant("web3_clientVersion", f"koinon/{__version__}"),
        Method("web3_sha3", (Parameter("the data", readers.data),), lambda _, value: data(keccak256(value))),
        constant("net_version", str(chain_id)),
        constant("net_listening", True),
        Method("net_peerCount", (), lambda _: quantity(view.peers())),
        constant("eth_chainId", quantity(chain_id)),
        Method("eth_syncing", (), lambda _: syncing_form(view.progress())),
    )


def syncing_form(progress: Progress | None) -> Json:
    """False, or from where to where the node catches up."""
    if progress is None:
        return False
    return {
        "startingBlock": quantity(progress.first),
        "currentBlock": quantity(progress.now),
        "highestBlock": quantity(progress.target),
    }
