"""A metered service on a real port with a real log, called by the buyer's client and by callers that misbehave."""

import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from market_world import (
    BUYER,
    CHANNEL,
    DOMAIN,
    FAR_FUTURE,
    RECEIVER,
    SERVICE,
    STRANGER,
    TERMS,
    HandWrittenMarket,
    channel,
    market,
)
from serving_world import SIGNATURE, WEIGHTS, CountedRng, StillClock, mean_of_row

from koinon.contracts.eip712 import channels_domain
from koinon.crypto.hash import sha256
from koinon.crypto.signature import AccountKey, NodeKey
from koinon.kernel.errors import Forged, InvalidInput, Refused, Unavailable
from koinon.kernel.ids import Address
from koinon.kernel.quantities import ChainId, TokenAmount
from koinon.market.channels import Purse
from koinon.market.passes import Pass
from koinon.market.payments import PaymentRequired, Terms
from koinon.market.vouchers import format_voucher, sign_voucher
from koinon.serving.client import Buyer
from koinon.serving.http_client import BoundedHttp, open_http
from koinon.serving.names import Endpoint, Resolution
from koinon.serving.service import Service, ServiceConfig, Till, open_service

KEY = NodeKey.from_seed(sha256(b"service node"))
ROWS = np.array([[1, 2, 3], [4, 5, 9]], np.float32)
BODY = b'{"inputs":[{"name":"features","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}'


@dataclass
class Open:
    service: Service
    chain: HandWrittenMarket
    http: BoundedHttp
    clock: StillClock
    path: Path

    def resolution(self, *, weights: bytes = WEIGHTS, first: str | None = None) -> Resolution:
        endpoint = Endpoint(self.service.url, RECEIVER, KEY.node_id)
        endpoints = (endpoint,) if first is None else (replace_url(endpoint, first), endpoint)
        return Resolution("risk", BUYER.address, 1, weights, 0, endpoints)

    async def buyer(self, **changes: object) -> Buyer:
        settings = {
            "key": BUYER,
            "purses": {RECEIVER: Purse(DOMAIN, CHANNEL, TokenAmount(1000))},
            "pass_number": 3,
            "highest_price": TokenAmount(10),
            **changes,
        }
        return await Buyer.connect(self.http, self.resolution(), self.clock, **settings)

    async def post(self, total: int | None, *, signer: AccountKey = BUYER, pass_number: str = "3", body: bytes = BODY):
        headers = {"koinon-pass": pass_number} if pass_number else {}
        if total is not None:
            headers["koinon-voucher"] = format_voucher(sign_voucher(signer, DOMAIN, CHANNEL, TokenAmount(total)))
        status, answer_headers, answer = await self.http.request(
            "POST", f"{self.service.url}/v2/models/risk/infer", timeout=60, limit=1 << 20, content=body, headers=headers
        )
        return status, answer_headers, answer.decode()


def replace_url(endpoint: Endpoint, url: str) -> Endpoint:
    return Endpoint(url, endpoint.account, endpoint.node)


@asynccontextmanager
async def opened(
    path: Path, *, predict=mean_of_row, terms: Terms = TERMS, chain: HandWrittenMarket | None = None, port: int = 0
) -> AsyncIterator[Open]:
    chain = chain or market()
    clock = StillClock()
    config = ServiceConfig("risk", "1", SIGNATURE, WEIGHTS, terms, port=port)
    till = Till(DOMAIN, RECEIVER, chain)
    async with (
        open_service(config, predict, KEY, path, clock=clock, rng=CountedRng(), till=till) as service,
        open_http() as http,
    ):
        yield Open(service, chain, http, clock, path)


async def test_a_buyer_calls_pays_and_checks_each_receipt(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as world:
        buyer = await world.buyer()
        answers = [await buyer.call(ROWS) for _ in range(3)]
        assert [answer.values.tolist() for answer in answers] == [[2.0, 6.0]] * 3
        assert [answer.paid for answer in answers] == [20, 40, 60]
        receipts = [await buyer.check(answer) for answer in answers]
        assert [receipt.sequence for receipt in receipts] == [0, 1, 2]
        assert sum(receipt.charged for receipt in receipts) == 60
        assert [voucher.cumulative for voucher in await world.service.claims()] == [60]
        status = world.service.status()
        assert (status.answered, status.receipts, status.earned) == (3, 3, 60)


async def test_books_are_the_same_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as world:
        buyer = await world.buyer()
        await buyer.call(ROWS)
    async with opened(tmp_path / "log") as world:
        status, headers, sentence = await world.post(20)
        assert (status, headers["koinon-due"]) == (402, "30")
        assert "used before" in sentence
        assert (await world.post(30))[0] == 200
        assert [voucher.cumulative for voucher in await world.service.claims()] == [30]


@pytest.mark.parametrize(
    ("total", "options", "status", "sentence"),
    [
        (None, {}, 402, "send a Koinon-Voucher header"),
        (9, {}, 402, "needs at least 10"),
        (1001, {}, 402, "above the channel's deposit 1000"),
        (10, {"pass_number": ""}, 402, "asks for a pass"),
        (10, {"pass_number": "4"}, 403, "pass 4 does not exist"),
        (10, {"pass_number": "x"}, 400, "must be the decimal number of a pass"),
        (10, {"signer": STRANGER}, 403, "belongs to"),
        (10, {"body": BODY.replace(b"[1,2,3]", b"[1,2]")}, 400, "needs 3 numbers"),
        (10, {"body": b"{"}, 400, "not an Open Inference v2 request"),
        (10, {"body": b"[" * 100_000}, 400, "not an Open Inference v2 request"),
        (10, {"body": BODY.replace(b"[1,2,3]", b'[1,2,"a"]')}, 400, "list of numbers"),
        (10, {"body": BODY.replace(b"[1,2,3]", b"[1,2,1e39]")}, 400, "no finite FP32"),
    ],
)
async def test_a_bad_call_gets_one_sentence_and_changes_nothing(
    tmp_path: Path, total: int | None, options: dict, status: int, sentence: str
) -> None:
    async with opened(tmp_path / "log") as world:
        answer = await world.post(total, **options)
        assert answer[0] == status
        assert sentence in answer[2]
        assert world.service.receipts.count == 0
        assert (await world.post(10))[0] == 200


async def test_a_stranger_cannot_pay_from_anothers_channel(tmp_path: Path) -> None:
    chain = market()
    chain.passes[4] = Pass(4, SERVICE, STRANGER.address, 50, FAR_FUTURE)
    async with opened(tmp_path / "log", chain=chain) as world:
        status, _, sentence = await world.post(10, signer=STRANGER, pass_number="4")
        assert status == 403
        assert "not signed by the channel's payer" in sentence


async def test_a_replayed_voucher_is_refused_and_skipping_ahead_is_fine(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as world:
        assert (await world.post(10))[0] == 200
        status, headers, _ = await world.post(10)
        assert (status, headers["koinon-due"]) == (402, "20")
        assert (await world.post(300))[0] == 200
        assert (await world.post(309))[0] == 402
        assert [voucher.cumulative for voucher in await world.service.claims()] == [300]


async def test_an_exhausted_and_an_expired_pass(tmp_path: Path) -> None:
    async with opened(tmp_path / "log", chain=market(quota=2)) as world:
        assert (await world.post(10))[0] == 200
        assert (await world.post(20))[0] == 200
        status, _, sentence = await world.post(30)
        assert status == 403
        assert "pass 3 is exhausted: 0 of 2 answers left" in sentence
    chain = market()
    chain.passes[3] = Pass(3, SERVICE, BUYER.address, 50, 1_800_000_000)
    async with opened(tmp_path / "other", chain=chain) as world:
        status, _, sentence = await world.post(10)
        assert status == 403
        assert "expired" in sentence


async def test_a_channel_for_others_or_about_to_end(tmp_path: Path) -> None:
    cases = [
        (replace(channel(), receiver=STRANGER.address), 403, "not this node"),
        (replace(channel(), service=8), 403, "for service 8"),
        (channel(ends=1_800_000_059), 402, "ends in less than 60 s"),
        (None, 402, "not open on the chain"),
    ]
    for number, (on_chain, expected, sentence) in enumerate(cases):
        chain = market()
        chain.channels = {} if on_chain is None else {CHANNEL: on_chain}
        async with opened(tmp_path / str(number), chain=chain) as world:
            status, _, text = await world.post(10)
            assert status == expected
            assert sentence in text


async def test_a_voucher_for_another_chain_is_not_the_payers(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as world:
        other = channels_domain(ChainId(1), Address(DOMAIN.contract))
        text = format_voucher(sign_voucher(BUYER, other, CHANNEL, TokenAmount(10)))
        status, _, answer = await world.http.request(
            "POST",
            f"{world.service.url}/v2/models/risk/infer",
            timeout=60,
            limit=1000,
            content=BODY,
            headers={"koinon-pass": "3", "koinon-voucher": text},
        )
        assert status == 403
        assert b"belongs to" in answer


async def test_an_unreachable_chain_refuses_instead_of_answering_unpaid(tmp_path: Path) -> None:
    chain = market()
    chain.reachable = False
    async with opened(tmp_path / "log", chain=chain) as world:
        assert (await world.post(10))[0] == 503
        assert world.service.receipts.count == 0


async def test_a_failed_prediction_costs_nothing(tmp_path: Path) -> None:
    broken = True

    async def sometimes(matrix: np.ndarray) -> np.ndarray:
        if broken:
            raise Unavailable("the model stopped; it is being started again")
        return await mean_of_row(matrix)

    async with opened(tmp_path / "log", predict=sometimes, chain=market(quota=1)) as world:
        assert (await world.post(10))[0] == 503
        broken = False
        assert (await world.post(10))[0] == 200
        assert [voucher.cumulative for voucher in await world.service.claims()] == [10]


@pytest.mark.parametrize("answer", [np.zeros((2, 1), np.float32), np.zeros(3, np.float32), np.full(2, np.nan)])
async def test_an_unusable_prediction_is_no_answer(tmp_path: Path, answer: np.ndarray) -> None:
    async def predict(matrix: np.ndarray) -> np.ndarray:
        return answer

    async with opened(tmp_path / "log", predict=predict) as world:
        buyer = await world.buyer()
        with pytest.raises(Unavailable, match="no usable answer"):
            await buyer.call(ROWS)
        assert world.service.receipts.count == 0


async def test_a_full_disk_refuses_calls_and_recovers(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as world:
        assert (await world.post(10))[0] == 200
        await world.service.receipts.prove(0)  # the batch is signed, so that nothing but calls is written from here on
        room = (tmp_path / "log").stat().st_size + 100
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            status, _, sentence = await world.post(20)
            assert status == 503
            assert "cannot grow" in sentence
            assert (await world.post(20))[0] == 503
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert world.service.receipts.count == 1
        world.clock.advance(2)
        assert (await world.post(20))[0] == 200
        assert [voucher.cumulative for voucher in await world.service.claims()] == [20]


async def test_the_port_is_in_use(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as world:
        port = int(world.service.url.rsplit(":", 1)[1])
        with pytest.raises(Unavailable, match=f"cannot listen on 127.0.0.1:{port}"):
            async with opened(tmp_path / "other", port=port):
                pass


async def test_the_log_is_in_use(tmp_path: Path) -> None:
    async with opened(tmp_path / "log"):
        with pytest.raises(Unavailable, match="in use by another process"):
            async with opened(tmp_path / "log"):
                pass


async def test_the_second_endpoint_takes_over(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as world:
        candidates = (await world.buyer())._candidates
        dead = replace_url(candidates[0].endpoint, "http://127.0.0.1:9")
        gone = type(candidates[0])(dead, candidates[0].metadata, 0.0)
        purses = {RECEIVER: Purse(DOMAIN, CHANNEL, TokenAmount(1000))}
        buyer = Buyer(
            world.http, world.resolution(), (gone, *candidates), BUYER, purses, 3, highest_price=TokenAmount(10)
        )
        assert (await buyer.call(ROWS)).endpoint == world.service.url


async def test_an_unreachable_endpoint_of_a_name_is_left_out(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as world:
        resolution = world.resolution(first="http://127.0.0.1:9")
        buyer = await Buyer.connect(world.http, resolution, world.clock)
        assert [candidate.endpoint.url for candidate in buyer._candidates] == [world.service.url]


async def test_other_weights_than_the_name_stands_for(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as world:
        with pytest.raises(Forged, match="serves other weights"):
            await Buyer.connect(world.http, world.resolution(weights=sha256(b"others")), world.clock)


async def test_a_buyer_catches_up_after_a_lost_answer(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as world:
        buyer = await world.buyer()
        await buyer.call(ROWS)
        lost = await world.buyer(purses={RECEIVER: Purse(DOMAIN, CHANNEL, TokenAmount(1000), signed=TokenAmount(20))})
        assert (await lost.call(ROWS)).paid == 40


async def test_a_buyer_does_not_believe_in_calls_it_never_signed(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as world:
        await (await world.buyer()).call(ROWS)
        forgetful = await world.buyer()
        assert (await world.post(500))[0] == 200
        with pytest.raises(Refused, match="never signed above"):
            await forgetful.call(ROWS)


async def test_a_buyer_agrees_to_a_price_and_no_more(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as world:
        with pytest.raises(Refused, match="above the 9 agreed"):
            await (await world.buyer(highest_price=TokenAmount(9))).call(ROWS)
        with pytest.raises(Refused, match="deposit has 10 token units left"):
            await (await world.buyer(purses={RECEIVER: Purse(DOMAIN, CHANNEL, TokenAmount(10))})).call(ROWS)


async def test_rows_that_do_not_fit_never_leave_the_buyer(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as world:
        buyer = await world.buyer()
        for rows in (np.zeros((1, 4), np.float32), np.zeros(3, np.float32), np.zeros((0, 3), np.float32)):
            with pytest.raises(InvalidInput, match="rows of 3 numbers"):
                await buyer.call(rows)
        assert buyer.purses[RECEIVER].signed == 0


async def test_a_priced_service_needs_a_till(tmp_path: Path) -> None:
    config = ServiceConfig("risk", "1", SIGNATURE, WEIGHTS, TERMS)
    with pytest.raises(Unavailable, match="no chain to be paid on"):
        async with open_service(config, mean_of_row, KEY, tmp_path / "log", clock=StillClock(), rng=CountedRng()):
            pass


async def test_the_chain_is_asked_once_for_many_calls(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as world:
        for total in range(10, 60, 10):
            assert (await world.post(total))[0] == 200
        assert world.chain.questions == 2


async def test_a_payment_error_at_the_client(tmp_path: Path) -> None:
    async with opened(tmp_path / "log", chain=market(quota=1)) as world:
        buyer = await world.buyer()
        with pytest.raises(Refused, match="exhausted: 1 of 1 answers left, 2 asked"):
            await buyer.call(ROWS)
        world.chain.channels.clear()
        world.clock.advance(100)
        with pytest.raises(PaymentRequired, match="not open on the chain"):
            await buyer.call(ROWS)
