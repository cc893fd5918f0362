"""From a name to an endpoint near the caller that serves the right weights."""

import asyncio
from typing import Final, Protocol

import msgspec

from koinon.kernel.codec import Record
from koinon.kernel.effects import Clock
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Unavailable
from koinon.kernel.ids import Address, Hash32, NodeId, parse_hash
from koinon.kernel.quantities import Seconds

PROBE_SECONDS: Final = Seconds(3.0)
LONGEST_METADATA: Final = 64 * 1024


class Endpoint(Record, frozen=True):
    """One service node of a name: where it answers, the account that is paid, and the key that signs receipts.

    The key is the one the account registered as a provider, not one the endpoint claims.
    """

    url: str
    account: Address
    node: NodeId


class Resolution(Record, frozen=True):
    """What a name stands for on the chain.

    Attributes:
        model: asset number of the model.
        weights: SHA-256 of the ONNX bytes that the endpoints must serve.
        evaluation: number of the evaluation with the trust vector, 0 for none.
    """

    name: str
    owner: Address
    model: int
    weights: Hash32
    evaluation: int
    endpoints: tuple[Endpoint, ...]


class Resolver(Protocol):
    """Reads names from the chain; the node answers with the contract's client."""

    async def resolve(self, name: str, /) -> Resolution:
        """Raises InvalidInput for a name that is not registered, Unavailable if the chain cannot be asked."""
        ...


class Fetch(Protocol):
    """One bounded HTTP GET."""

    async def get(self, url: str, /, *, timeout: Seconds, limit: int) -> bytes:
        """The body of a 200 answer. Raises Unavailable for anything else."""
        ...


class ModelParameters(msgspec.Struct):
    """Public facts a Koinon endpoint adds to the protocol's model metadata."""

    weights: str
    service: int = 0
    price: str = "0"
    pass_required: bool = False
    node: str = ""


class ModelTensor(msgspec.Struct):
    """An input or output of a served model."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    """Answer of ``/v2/models/{name}``."""

    name: str
    inputs: list[ModelTensor]
    outputs: list[ModelTensor]
    parameters: ModelParameters


class Candidate(msgspec.Struct, frozen=True):
    """An endpoint that answered with the right weights, and how long that took."""

    endpoint: Endpoint
    metadata: ModelMetadata
    seconds: float


async def nearest(resolution: Resolution, fetch: Fetch, clock: Clock) -> tuple[Candidate, ...]:
    """Ask every endpoint for its metadata at once and sort those with the right weights by time.

    Raises:
        Forged: endpoints answered, but all with other weights.
        Unavailable: no endpoint answered.
    """
    if not resolution.endpoints:
        raise Unavailable(f"the name {resolution.name!r} has no endpoint; ask its owner")
    probes = [_probe(resolution, endpoint, fetch, clock) for endpoint in resolution.endpoints]
    outcomes = await asyncio.gather(*probes, return_exceptions=True)
    candidates = sorted((found for found in outcomes if isinstance(found, Candidate)), key=lambda found: found.seconds)
    if candidates:
        return tuple(candidates)
    problems = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for problem in problems:
        if not isinstance(problem, KoinonError):
            raise problem
    raise next((problem for problem in problems if isinstance(problem, Forged)), problems[0])


async def _probe(resolution: Resolution, endpoint: Endpoint, fetch: Fetch, clock: Clock) -> Candidate:
    began = clock.monotonic()
    body = await fetch.get(
        f"{endpoint.url.rstrip('/')}/v2/models/{resolution.name}", timeout=PROBE_SECONDS, limit=LONGEST_METADATA
    )
    seconds = clock.monotonic() - began
    try:
        metadata = msgspec.json.decode(body, type=ModelMetadata)
        weights = parse_hash(metadata.parameters.weights)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidInput):
        raise Unavailable(f"{endpoint.url} does not describe the model as a Koinon endpoint does") from None
    if weights != resolution.weights:
        raise Forged(f"{endpoint.url} serves other weights than the name {resolution.name!r} stands for")
    return Candidate(endpoint, metadata, seconds)
