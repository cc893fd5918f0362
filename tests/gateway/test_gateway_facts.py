"""What the pages say about a story that really happened on a chain."""

import pytest
from gateway_chain import FullChain
from gateway_world import CRITERIA, HOSPITALS, NAME, PROVIDERS, World, digest, tokens

from koinon.contracts.client import ChainClient
from koinon.contracts.transactions import Transaction
from koinon.gateway.facts import Absent
from koinon.gateway.source import ChainSource
from koinon.gateway.status import NodeStatus
from koinon.gateway.views.parts import Flow
from koinon.kernel.errors import Refused
from koinon.kernel.ids import to_hex
from koinon.kernel.quantities import Gas, Wei
from koinon.trust import vector as trust


def hexes(world: World, *names: str) -> list[str]:
    return [to_hex(world.address(name)) for name in names]


def balance(flows: tuple[Flow, ...], place: str) -> int:
    """What flows into a place less what flows out of it."""
    return sum(f.amount.value for f in flows if f.payee == place) - sum(
        f.amount.value for f in flows if f.payer == place
    )


class TestStudy:
    async def test_a_silent_member_loses_stake_and_the_next_committee_is_paid(
        self, source: ChainSource, world: World
    ) -> None:
        page = await source.study(1)
        assert (page.phase, page.tone) == ("completed", "final")
        first, second = page.attempts
        assert first.state.values["reason"].text == "unanswered challenge"  # type: ignore[union-attr]
        silent = first.members[2]
        assert silent.state == "silent, lost stake"
        assert silent.lost is not None
        assert silent.lost.value == tokens(150)
        assert silent.party.account not in [member.party.account for member in second.members]
        assert [member.state for member in second.members] == ["signed the result"] * 3 + ["signature not needed"]
        assert all(member.paid is not None and member.paid.value == tokens(12.5) for member in second.members)
        assert page.output_digest == to_hex(digest("weights of study 1"))
        assert page.models == (NAME,)
        assert [owner.party.account for owner in page.owners] == hexes(world, *HOSPITALS)

    async def test_money_of_the_study_adds_up_and_agrees_with_the_contract(
        self, source: ChainSource, world: World
    ) -> None:
        page = await source.study(1)
        assert page.checks
        assert all(check.holds for check in page.checks)
        assert balance(page.flows, "escrow of the study") == 0
        assert balance(page.flows, "lost stake") == 0
        # The contract's own ledger says the same as the events: hospital-3 took part in this one study to its end.
        name = f"{hexes(world, 'hospital-3')[0][:6]}…{hexes(world, 'hospital-3')[0][-4:]}"
        received = sum(f.amount.value for f in page.flows if f.payee == name and f.payer == "escrow of the study")
        assert received == await world.suite.studies.credit_of(world.address("hospital-3"))

    async def test_every_step_names_who_acted_when_and_the_proof(self, source: ChainSource, chain: FullChain) -> None:
        page = await source.study(1)
        texts = [event.sentence.text for event in page.events]
        assert [text for text in texts if text.startswith("opened its nonce")] == ["opened its nonce"] * 4
        assert page.events[-1].tone == "final"
        for event in page.events:
            assert int(chain.receipts[event.transaction]["blockNumber"], 16) == event.height
            assert chain.blocks[event.height].time == event.at

    async def test_a_refusal_ends_the_study_and_returns_the_money(self, source: ChainSource, world: World) -> None:
        page = await source.study(2)
        assert page.phase == "ended"
        states = {owner.party.account: owner.state for owner in page.owners}
        assert [states[one] for one in hexes(world, *HOSPITALS)] == ["consented", "refused", "had not answered"]
        refusal = next(event for event in page.events if event.sentence.text.startswith("refused"))
        assert refusal.actor is not None
        assert refusal.actor.account == hexes(world, "hospital-2")[0]
        assert all(check.holds for check in page.checks)

    async def test_a_complaint_excludes_three_and_waits_for_the_next_draw(self, source: ChainSource) -> None:
        page = await source.study(3)
        assert page.phase == "drawing"
        states = [member.state for member in page.attempts[0].members]
        assert states == ["released"] + ["left unpaid after a complaint"] * 3
        assert all(member.paid is None and member.lost is None for member in page.attempts[0].members)
        assert all(check.holds for check in page.checks)

    async def test_a_study_that_does_not_exist_is_absent(self, source: ChainSource) -> None:
        with pytest.raises(Absent, match="no study 99"):
            await source.study(99)


class TestModel:
    async def test_the_grade_is_the_one_of_the_trust_room_and_the_outlier_does_not_move_it(
        self, source: ChainSource, world: World
    ) -> None:
        page = await source.model(NAME)
        _, vector = await world.suite.evaluations.vector_of(1)
        criteria = tuple(
            trust.Criterion(name, score.value, score.low, score.high, bytes(32))
            for name, score in zip(CRITERIA, vector, strict=True)
        )
        assert page.grade == trust.grade(trust.TrustVector(bytes(32), bytes(32), criteria)) == "C"
        assert [one.value.value for one in page.criteria] == [one.value for one in vector]
        assert page.weak == ("All attacks",)
        states = [row.state for row in page.evaluators]
        assert states == ["agreed", "agreed", "outlier, lost stake"]
        paid = [None if row.paid is None else row.paid.value for row in page.evaluators]
        assert paid == [tokens(20), tokens(20), None]

    async def test_provenance_leads_from_every_dataset_through_the_study_to_the_service(
        self, source: ChainSource, world: World
    ) -> None:
        page = await source.model(NAME)
        kinds = [node.kind for node in page.nodes]
        assert kinds == ["dataset"] * 3 + ["study", "model", "variant", "service"]
        hashes = {node.hash for node in page.nodes if node.kind == "dataset"}
        assert hashes == {to_hex(digest(f"rows of {name}")) for name in HOSPITALS}
        made_from = {(edge.source, edge.target) for edge in page.edges}
        datasets = [node.identifier for node in page.nodes if node.kind == "dataset"]
        assert {(one, "study 1") for one in datasets} < made_from
        assert ("study 1", f"asset {world.model}") in made_from
        assert ("weights", f"asset {world.service}") in made_from
        assert len(made_from) == 6

    async def test_price_split_and_endpoints_are_those_of_the_chain(self, source: ChainSource, world: World) -> None:
        page = await source.model(NAME)
        assert page.price is not None
        assert page.price.value == (await world.suite.market.offer_of(world.service)).price_per_call
        assert sum(share.basis_points for share in page.shares) == 10_000
        assert [one.node.account for one in page.endpoints] == hexes(world, *PROVIDERS[:2])
        assert all(one.last_anchor_at is not None and one.alive == "unknown" for one in page.endpoints)

    async def test_a_name_that_was_given_away_stands_for_nothing(self, source: ChainSource, world: World) -> None:
        await world.suite.names.transfer(NAME, world.address("buyer"))
        with pytest.raises(Absent, match="stands for no model"):
            await source.model(NAME)
        assert (await source.models()).models == ()

    async def test_a_command_is_never_made_of_a_hostile_endpoint(self, source: ChainSource, world: World) -> None:
        await world.name(0, "hostile.model", ("http://x/'; touch /tmp/owned; '", "javascript:alert(1)"))
        page = await source.model("hostile.model")
        assert [endpoint.url for endpoint in page.endpoints] == [
            "http://x/'; touch /tmp/owned; '",
            "javascript:alert(1)",
        ]
        assert [call.title.split()[1] for call in page.calls] == ["Koinon:", "all"]
        assert all("touch" not in call.text for call in page.calls)
        assert page.grade is None
        assert page.answer.text.startswith("Nobody has measured it.")


class TestMoney:
    async def test_every_unit_from_the_buyers_reaches_a_payee(self, source: ChainSource, world: World) -> None:
        page = await source.settlement(world.service)
        assert all(check.holds for check in page.checks)
        for place in ("passes", "channels", "split of the service"):
            assert balance(page.flows, place) == 0
        first = sum(flow.amount.value for flow in page.flows if flow.layer == 0)
        ends = ("passes", "channels", "split of the service")
        assert first == sum(flow.amount.value for flow in page.flows if flow.payee not in ends)

    async def test_payees_have_in_the_contracts_what_the_drawing_says(self, source: ChainSource, world: World) -> None:
        page = await source.settlement(world.service)
        for name in ("company", *HOSPITALS):
            account = hexes(world, name)[0]
            label = f"{account[:6]}…{account[-4:]}"
            drawn = sum(flow.amount.value for flow in page.flows if flow.payee == label and flow.layer == 2)
            assert drawn == await world.suite.assets.credit_of(world.address(name))
        for name in PROVIDERS[:2]:
            account = hexes(world, name)[0]
            label = f"{account[:6]}…{account[-4:]}"
            drawn = sum(flow.amount.value for flow in page.flows if flow.payee == label and flow.layer == 1)
            assert drawn == await world.suite.market.credit_of(world.address(name))

    async def test_the_checks_hold_after_each_further_settlement(self, source: ChainSource, world: World) -> None:
        before = (await source.settlement(world.service)).answer.values["amount"]
        for step in (1, 2, 3):
            await world.settle(0, tokens(3) + step)  # type: ignore[arg-type]
            page = await source.settlement(world.service)
            assert all(check.holds for check in page.checks)
            assert page.answer.values["amount"] != before
            before = page.answer.values["amount"]

    async def test_receipts_channels_and_passes_are_listed(self, source: ChainSource) -> None:
        page = await source.receipts()
        assert [anchor.count for anchor in page.anchors] == [108, 101]
        assert {channel.state for channel in page.channels} == {"open", "closed"}
        assert [one.quota for one in page.passes] == [200]
        assert page.services[0].answers == 209


class TestNetwork:
    async def test_without_status_nobody_is_called_alive(self, source: ChainSource, world: World) -> None:
        page = await source.network()
        assert {one.alive for one in page.organisations} == {"unknown"}
        providers = [one for one in page.organisations if "compute" in one.roles]
        assert {one.account for one in providers} == set(hexes(world, *PROVIDERS))
        assert page.staked.value == sum(one.stake.value for one in providers if one.stake is not None)
        held = await world.suite.providers.total_held()
        assert page.staked.value == held

    async def test_status_names_the_silent_and_draws_live_links(self, chain: FullChain, world: World) -> None:
        nodes = {name: f"0x{place:064x}" for place, name in enumerate(("company", *HOSPITALS), 1)}

        class Operators:
            async def nodes(self) -> tuple[NodeStatus, ...]:
                return tuple(
                    NodeStatus(
                        account=to_hex(world.address(name)),
                        node_id=node,
                        name=name,
                        roles=("validator",),
                        alive=name != "hospital-2",
                        observed_at=chain.time,
                        peers=tuple(other for other in nodes.values() if other != node) if name == "company" else (),
                    )
                    for name, node in nodes.items()
                )

        page = await ChainSource(ChainClient(chain), world.addresses, Operators()).network()
        by_name = {one.name: one for one in page.organisations if one.name}
        assert by_name["hospital-2"].alive == "silent"
        assert by_name["company"].alive == "answers"
        connections = [link for link in page.links if link.kind == "connection"]
        assert {frozenset((link.source, link.target)) for link in connections} == {
            frozenset(hexes(world, "company", hospital)) for hospital in HOSPITALS
        }
        assert page.answer.values["silent"] == 1


class TestChain:
    async def test_a_call_and_its_events_are_read_with_our_interfaces(self, source: ChainSource, world: World) -> None:
        study = await source.study(1)
        consent = next(event for event in study.events if event.sentence.text.startswith("consented"))
        page = await source.transaction(consent.transaction)
        assert page.call == "consent"
        given = {argument.name: argument.value for argument in page.arguments}
        assert given["studyId"] == "1"
        assert given["owner"] == hexes(world, "hospital-1")[0]
        assert {log.event for log in page.logs} >= {"Consented", "Transfer"}
        assert page.recipient is not None
        assert page.recipient.name == "Studies"

    async def test_finality_is_said_as_the_chain_says_it(self, source: ChainSource, chain: FullChain) -> None:
        chain.confirmations = 5
        page = await source.blocks()
        assert [row.final for row in page.blocks] == [False] * 5 + [True] * (len(page.blocks) - 5)
        newest = await source.block(page.blocks[0].height)
        assert "not final yet" in newest.answer.text

    async def test_a_failed_transaction_says_that_it_changed_nothing(
        self, source: ChainSource, chain: FullChain, world: World
    ) -> None:
        key = world.keys["buyer"]
        with pytest.raises(Refused):
            await world.of("buyer").studies.cancel(1)  # found before sending; below it is sent all the same
        client = ChainClient(chain, key)
        sent = Transaction(
            chain_id=await client.chain_id(),
            nonce=int(await client.request("eth_getTransactionCount", to_hex(key.address), "latest"), 16),
            max_priority_fee=Wei(1),
            max_fee=Wei(100),
            gas=Gas(200_000),
            to=world.suite.studies.address,
            value=Wei(0),
            data=bytes.fromhex("40e58ee5" + f"{1:064x}"),
        ).sign(key)
        await client.request("eth_sendRawTransaction", to_hex(sent.raw))
        page = await source.transaction(to_hex(sent.hash))
        assert page.tone == "failed"
        assert "it changed nothing but the fee" in page.answer.values["done"].text  # type: ignore[union-attr]

    async def test_a_chain_that_was_cut_back_is_read_again(
        self, source: ChainSource, chain: FullChain, world: World
    ) -> None:
        before = chain.snapshot()
        sent = dict(chain.sent)
        assert (await source.study(3)).phase == "drawing"
        await world.draw(3)
        assert (await source.study(3)).phase == "running"
        chain.restore(before)
        chain.sent = sent
        chain.sleep(1)
        chain.mine(12)
        page = await source.study(3)
        assert page.phase == "drawing"
        assert len(page.attempts) == 1
        assert page.head.indexed_height == page.head.height == chain.blocks[-1].number

    async def test_a_small_journal_says_what_it_forgot(self, chain: FullChain, world: World) -> None:
        small = ChainSource(ChainClient(chain), world.addresses, capacity=60)
        page = await small.studies()
        assert page.head.problem is not None
        assert "keeps the newest 60 events" in page.head.problem.text.format_map(page.head.problem.values)
        assert 1 not in [row.number for row in page.studies]
        with pytest.raises(Absent):
            await small.study(1)
