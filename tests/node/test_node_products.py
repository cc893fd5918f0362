"""A client's node has strangers' nodes multiply: a right product is paid for, a wrong one proved, silence passed by."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from node_cases_world import until
from node_joins_world import ordered
from node_market_world import Network

from koinon.contracts.products import Products, ProductTerms
from koinon.crypto.hash import keccak256
from koinon.jobs.products import row_root
from koinon.kernel.errors import InvalidInput, KoinonError, Unavailable
from koinon.kernel.ids import ZERO_HASH, Address
from koinon.kernel.quantities import TokenAmount, UnixSeconds
from koinon.node import orders
from koinon.node.context import Context
from koinon.node.roles import outsourced_jobs
from koinon.node.roles.encrypted_models import EncryptedModelsRole
from koinon.node.roles.multiplying import MOST_ASKED, MultiplyRole
from koinon.node.roles.outsourced_jobs import PRODUCT
from koinon.node.roles.outsourced_work import WorkRole
from koinon.node.roles.products import ProductRole
from koinon.privacy.multiplication import Factors, from_words, to_words
from koinon.wire.encrypted import OfferProduct, SignedProduct

UNIT = 1_000_000
FEE, BOND = TokenAmount(UNIT // 2), TokenAmount(20 * UNIT)
LEFT = np.random.default_rng(1).integers(-1000, 1000, (7, 5))
RIGHT = np.random.default_rng(2).integers(-1000, 1000, (5, 6))


class LyingMultiplier(MultiplyRole):
    """A worker that adds one to the last number."""

    async def _product(self, factors: Factors) -> bytes:
        words = await super()._product(factors)
        return words[:-1] + bytes([words[-1] ^ 1])


class ShortMultiplier(MultiplyRole):
    """A worker whose signature is of something else than it sends."""

    async def _offered(self, sender: bytes, offer: OfferProduct) -> SignedProduct:  # type: ignore[override]
        reply = await super()._offered(sender, offer)  # type: ignore[arg-type]
        return msgspec.structs.replace(reply, words=bytes(len(reply.words)))


async def client_of(network: Network) -> Context:
    """A node with two matrices on its disk."""
    client = await network.node("buyer", ("publisher",))
    ProductRole(client).attach()
    np.save(client.home.path / "left.npy", LEFT)
    np.save(client.home.path / "right.npy", RIGHT)
    return client


async def worker_of(network: Network, name: str, role: type[MultiplyRole] = MultiplyRole) -> Context:
    context = await network.node(name, ("service",))
    WorkRole(context, EncryptedModelsRole(context)).attach()
    role(context).attach()
    await ordered(context, "work.take", orders.TakeWork(FEE, BOND), orders.Nothing)
    return context


def wanted(client: Context, workers: list[Context]) -> orders.Multiply:
    folder = client.home.path
    return orders.Multiply(
        left=str(folder / "left.npy"),
        right=str(folder / "right.npy"),
        out=str(folder / "product.npy"),
        workers=tuple(worker.account for worker in workers),
        fee=FEE,
        bond=BOND,
        contract=b"",
        seconds=600,
        claim_seconds=300,
    )


async def wealth_of(network: Network, contexts: list[Context]) -> list[int]:
    return [int(await network.suite.token.balance_of(one.account)) for one in contexts]


async def opened(
    network: Network, client: Context, worker: Address, made: Products | None = None, **changes: object
) -> tuple[Products, int]:
    """A product that a client has opened and not offered yet."""
    contract = made or await Products.deploy(client.client, network.suite.token.address)
    await client.suite.token.approve(contract.address, TokenAmount(10**12))
    fields: dict[str, object] = {
        "worker": worker,
        "rows": 7,
        "inner": 5,
        "columns": 6,
        "left": row_root(LEFT),
        "right": row_root(RIGHT.T),
        "fee": FEE,
        "bond": BOND,
        "deadline": UnixSeconds(client.clock.unix() + 600),
        "claim_seconds": 60,
        **changes,
    }
    return contract, await contract.open(ProductTerms(**fields))  # type: ignore[arg-type]


async def forged_from(client: Context, real: Products) -> Products:
    """The same code with the same token and a credit for the client, which nobody paid for, in storage."""
    code = await client.client.code(real.address)
    of_client = keccak256(bytes(12) + client.account + bytes(32))
    stored = f"7f{int(BOND):064x}7f{of_client.hex()}55" + f"7f{int(BOND) << 128:064x}600155"
    size = f"{len(code):04x}"
    head = bytes.fromhex(stored + f"61{size}61{len(stored) // 2 + 15:04x}60003961{size}6000f3")
    receipt = await client.client.send(None, head + code)
    assert receipt.created is not None
    assert await client.client.code(receipt.created) == code
    return Products(client.client, receipt.created)


async def test_a_wrong_product_is_proved_and_the_next_worker_is_paid(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outsourced_jobs, "POLL_SECONDS", 0.1)
    client = await client_of(network)
    roles = (LyingMultiplier, ShortMultiplier, MultiplyRole)
    workers = [await worker_of(network, f"provider-{n}", role) for n, role in enumerate(roles)]
    everybody = [client, *workers]
    before = await wealth_of(network, everybody)
    done = await ordered(client, "work.multiply", wanted(client, workers), orders.Multiplied)
    assert (done.workers, done.charged, done.silent) == (
        (workers[2].account,),
        (workers[0].account,),
        (workers[1].account,),
    )
    path = client.home.path / "product.npy"
    assert path.stat().st_mode & 0o777 == 0o600
    found = np.load(path)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, LEFT @ RIGHT)

    contract = Products(client.client, done.contract)
    # A worker that starts again gets its bond back.
    await workers[2].close()
    again = await network.node("provider-2", ("service",))
    MultiplyRole(again).attach()
    everybody[3] = again
    terms = await contract.terms_of(done.jobs[0])
    network.chain.time = terms.closes + 4
    for context in everybody:
        await until(lambda context=context: not outsourced_jobs.kept_jobs(context, PRODUCT))  # type: ignore[misc]
    after = await wealth_of(network, everybody)
    assert [new - old for old, new in zip(before, after, strict=True)] == [BOND - FEE, -BOND, 0, FEE]
    assert await contract.total_held() + await contract.total_credit() == 0


class SeeingMultiplier(MultiplyRole):
    """A worker that remembers what it was given."""

    seen: tuple[bytes, ...] = ()

    async def _product(self, factors: Factors) -> bytes:
        self.seen = (*self.seen, factors.left, factors.right)
        return await super()._product(factors)


@pytest.mark.parametrize(("hide", "parts", "charge"), [("left", 2, False), ("right", 2, True), ("both", 4, False)])
async def test_what_is_hidden_is_in_no_worker_s_hands_and_a_liar_is_named(
    network: Network, hide: str, parts: int, charge: bool
) -> None:
    client = await client_of(network)
    contexts, roles = [], []
    for number in range(parts + 1):
        context = await network.node(f"provider-{number}", ("service",))
        WorkRole(context, EncryptedModelsRole(context)).attach()
        role = (LyingMultiplier if number == 1 else SeeingMultiplier)(context)
        role.attach()
        await ordered(context, "work.take", orders.TakeWork(FEE, BOND), orders.Nothing)
        contexts.append(context)
        roles.append(role)
    order = msgspec.structs.replace(wanted(client, contexts), hide=hide, charge=charge)
    done = await ordered(client, "work.multiply", order, orders.Multiplied)
    honest = [context.account for number, context in enumerate(contexts) if number != 1]
    liar = (contexts[1].account,)
    assert (done.workers, done.wrong, done.charged, done.silent) == (tuple(honest), liar, liar if charge else (), ())
    np.testing.assert_array_equal(np.load(client.home.path / "product.npy"), LEFT @ RIGHT)
    given = [role.seen for role in roles if isinstance(role, SeeingMultiplier)]
    assert all(len(words) == 2 for words in given)  # one product each
    hidden = {"left": (0,), "right": (1,), "both": (0, 1)}[hide]
    for place, matrix in enumerate((LEFT, RIGHT)):
        shape = (9, 8) if place else (7, 9)  # with salt
        parts_seen = {from_words(seen[place], *shape)[: matrix.shape[0], : matrix.shape[1]].tobytes() for seen in given}
        assert len(parts_seen) == (2 if place in hidden else 1)
        assert (matrix.tobytes() in parts_seen) == (place not in hidden)


async def test_numbers_with_a_point_are_rounded_and_multiplied(network: Network) -> None:
    client = await client_of(network)
    worker = await worker_of(network, "provider-0")
    left, right = np.random.default_rng(4).normal(size=(3, 5)), np.random.default_rng(5).normal(size=(5, 2))
    np.save(client.home.path / "left.npy", left)
    np.save(client.home.path / "right.npy", right.astype(np.float32))
    order = msgspec.structs.replace(wanted(client, [worker]), fraction_bits=24)
    await ordered(client, "work.multiply", order, orders.Multiplied)
    np.testing.assert_allclose(np.load(client.home.path / "product.npy"), left @ right, atol=1e-6)


async def test_when_nobody_multiplies_nothing_is_written_and_no_fee_is_paid(network: Network) -> None:
    client = await client_of(network)
    silent = await network.node("provider-1", ("service",))
    MultiplyRole(silent).attach()
    liar = await worker_of(network, "provider-0", LyingMultiplier)
    with pytest.raises(Unavailable, match="1 a wrong one, of whom 1 lost their bonds, 1 none"):
        await ordered(client, "work.multiply", wanted(client, [silent, liar]), orders.Multiplied)
    assert not (client.home.path / "product.npy").exists()
    contract = Products(client.client, outsourced_jobs.kept_jobs(client, PRODUCT)[0].contract)
    assert await contract.credit_of(client.account) == BOND
    assert await contract.total_held() == 2 * FEE


async def test_offers_that_a_worker_does_not_take_cost_it_nothing(network: Network) -> None:
    client = await client_of(network)
    worker = await worker_of(network, "provider-0")
    other = await worker_of(network, "provider-1")
    before = await wealth_of(network, [worker])
    left, right = to_words(LEFT), to_words(RIGHT)
    cases: list[tuple[dict[str, object], tuple[bytes, bytes], str]] = [
        ({"worker": other.account}, (left, right), "do not name this node's account"),
        ({"fee": TokenAmount(1)}, (left, right), "works from 0.5 tokens a piece"),
        ({"bond": TokenAmount(BOND + 1)}, (left, right), "puts up at most 20"),
        ({"deadline": UnixSeconds(client.clock.unix() + 30)}, (left, right), "leaves less than 60 s"),
        ({"claim_seconds": 31 * 86_400}, (left, right), "keep this node's bond for more than 30 days"),
        ({"left": ZERO_HASH[:-1] + b"\1"}, (left, right), "not those that the work's terms commit to"),
        ({"right": row_root(RIGHT)}, (left, right), "not those that the work's terms commit to"),
        ({"rows": 8}, (left, right), "takes 320 bytes; 280 came"),
        ({}, (b"", right), "takes 280 bytes; 0 came"),
        ({}, (left, right + b"\0"), "takes 240 bytes; 241 came"),
        ({"rows": 65_536, "inner": 4096}, (left, right), "is too large"),
    ]
    for changes, (one, two), sentence in cases:
        contract, number = await opened(network, client, **{"worker": worker.account, **changes})  # type: ignore[arg-type]
        with pytest.raises(KoinonError, match=sentence):
            await client.transport.call(worker.transport.endpoint, OfferProduct(contract.address, number, one, two))
        assert not (await contract.job_of(number)).bonded
    contract, number = await opened(network, client, worker.account)
    forged, forged_number = await opened(network, client, worker.account, await forged_from(client, contract))
    assert await forged.credit_of(client.account) == BOND, "which it could take out of the worker's bond"
    for sender, address, job, sentence in (
        (client, forged.address, forged_number, "not created by the client's own node"),
        (other, contract.address, number, "offered by the node whose account opened it"),
        (client, contract.address, 99, "nothing has the number 99"),
        (client, network.suite.token.address, number, "no Products contract of this version"),
        (client, b"short", number, "no Products contract of this version"),
    ):
        with pytest.raises(KoinonError, match=sentence):
            await sender.transport.call(worker.transport.endpoint, OfferProduct(address, job, left, right))
    assert outsourced_jobs.kept_jobs(worker, PRODUCT) == []
    assert await wealth_of(network, [worker]) == before


async def test_a_worker_answers_again_what_was_lost_on_the_way_but_not_for_ever(network: Network) -> None:
    client = await client_of(network)
    worker = await worker_of(network, "provider-0")
    contract, number = await opened(network, client, worker.account)
    offer = OfferProduct(contract.address, number, to_words(LEFT), to_words(RIGHT))
    answers = [await client.transport.call(worker.transport.endpoint, offer) for _ in range(MOST_ASKED)]
    assert answers[0] == answers[1]
    with pytest.raises(KoinonError, match="computes a product 2 times"):
        await client.transport.call(worker.transport.endpoint, offer)
    assert len(outsourced_jobs.kept_jobs(worker, PRODUCT)) == 1


def files(folder: Path) -> None:
    np.save(folder / "tall.npy", np.ones((6, 1), np.int64))
    np.save(folder / "large.npy", np.full((5, 6), 2**60))
    np.save(folder / "floats.npy", np.full((5, 6), 0.5))


async def test_orders_that_cannot_be_are_refused_before_anything_is_paid(network: Network) -> None:
    client = await client_of(network)
    worker = await worker_of(network, "provider-0")
    folder = client.home.path
    files(folder)
    order = wanted(client, [worker])
    before = await wealth_of(network, [client, worker])
    for changes, sentence in (
        ({"left": str(folder / "none.npy")}, "cannot read none.npy"),
        ({"right": str(folder / "tall.npy")}, "have no product"),
        ({"right": str(folder / "large.npy")}, "might be 2⁶⁰ or more"),
        ({"right": str(folder / "floats.npy")}, "how many bits after the point"),
        ({"fraction_bits": 30}, "fraction bits are 0 to 29"),
        ({"out": str(folder / "left.npy")}, "left.npy exists already"),
        ({"out": str(folder / "nowhere" / "x.npy")}, "there is no folder nowhere"),
        ({"workers": ()}, "name 1 different workers or more; 0 were given"),
        ({"workers": (worker.account, worker.account)}, "name 1 different workers"),
        ({"hide": "left"}, "name 2 different workers or more; 1 were given"),
        ({"hide": "both"}, "name 4 different workers or more; 1 were given"),
        ({"hide": "columns"}, "hides the left matrix, the right one, both or none"),
        ({"contract": network.suite.token.address}, "no Products contract"),
    ):
        with pytest.raises(KoinonError, match=sentence):
            await ordered(client, "work.multiply", msgspec.structs.replace(order, **changes), orders.Multiplied)
    assert await wealth_of(network, [client, worker]) == before


# ---------------------------------------------------------------------------------------------------------- files


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not a .npy file"),
    "text": (b"1,2\n3,4\n", "not a .npy file"),
    "a zip": (b"PK\x03\x04" + bytes(50), "not a .npy file"),
    "a head without a version": (b"\x93NUMPY", "no array of numbers"),
    "a head that is no dictionary": (b"\x93NUMPY\x01\x00\x05\x00abcd\n", "no array of numbers"),
}


def npy(head: str, body: bytes) -> bytes:
    text = head.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


BAD_ARRAYS: dict[str, tuple[bytes, str]] = {
    "less than its head says": (npy("{'descr': '<i8', 'fortran_order': False, 'shape': (9, 9)}", bytes(8)), "no array"),
    "terabytes by its head": (npy("{'descr': '<i8', 'fortran_order': False, 'shape': (9, 2**40)}", b""), "no array"),
    "many zeros": (npy("{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999, 99)}", b""), "no array"),
    "objects": (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1)}", bytes(8)), "no array"),
    "text": (
        npy("{'descr': '<U2', 'fortran_order': False, 'shape': (1, 1)}", bytes(8)),
        "integers or real",
    ),
    "one dimension": (npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1,)}", bytes(8)), "a matrix with rows"),
    "no rows": (npy("{'descr': '<i8', 'fortran_order': False, 'shape': (0, 4)}", b""), "no array|a matrix with rows"),
    "unsigned beyond 63 bits": (
        npy("{'descr': '<u8', 'fortran_order': False, 'shape': (1, 1)}", b"\xff" * 8),
        "more than 63 bits",
    ),
}


@pytest.mark.parametrize("case", [*BAD_FILES, *BAD_ARRAYS])
def test_what_is_no_matrix_is_refused(tmp_path: Path, case: str) -> None:
    from koinon.node.matrix_files import read_matrix

    content, sentence = (BAD_FILES | BAD_ARRAYS)[case]
    path = tmp_path / "m.npy"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=sentence):
        read_matrix(path, 0)


@pytest.mark.parametrize("number", [np.nan, np.inf, 2.0**41])
def test_numbers_beyond_the_point_are_refused_and_not_quoted(tmp_path: Path, number: float) -> None:
    from koinon.node.matrix_files import read_matrix

    np.save(tmp_path / "m.npy", np.array([[0.5, number]]))
    with pytest.raises(InvalidInput, match=r"not finite or too large for 20 bits$"):
        read_matrix(tmp_path / "m.npy", 20)


def test_matrices_by_columns_and_small_integers_are_read_as_they_are(tmp_path: Path) -> None:
    from koinon.node.matrix_files import read_matrix

    np.save(tmp_path / "m.npy", np.asfortranarray(LEFT.astype(np.int16)))
    found = read_matrix(tmp_path / "m.npy", 0)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, LEFT)
