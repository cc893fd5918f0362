"""Whatever anybody calls, in whatever order and at whatever time, money is conserved and nobody's is stuck."""

import asyncio
import sys
from collections.abc import Awaitable
from typing import Any, TypeVar

from contracts_chain import Snapshot
from contracts_world import OWNERS, PARAMETERS, PROVIDERS, digest_of, fresh_world, key_of, score
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from koinon.contracts.eip712 import voucher_digest
from koinon.contracts.evaluations import EvaluationPhase
from koinon.contracts.judgements import HearingStage, JudgedOutcome
from koinon.contracts.refusals import Reverted
from koinon.contracts.studies import StudyPhase
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import TokenAmount, UnixSeconds

T = TypeVar("T")

anyone = st.sampled_from(("publisher", *OWNERS, *PROVIDERS, "buyer", "stranger"))
provider = st.sampled_from(PROVIDERS)
position = st.integers(0, 3)
earlier = st.integers(0, 30)


_busy: list[tuple[Snapshot, int, int, Hash32]] = []


class Money(RuleBasedStateMachine):
    """Every step of every contract that moves money, by people who may or may not be allowed to."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.chain, self.world = fresh_world()
        self.studies: list[int] = []
        self.requests: list[int] = []
        self.channels: list[Hash32] = []
        self.cases: list[int] = []
        if not _busy:
            self.begin()
            _busy.append((self.chain.snapshot(), self.service, self.model, self.channels[0]))
        start, self.service, self.model, channel = _busy[0]
        self.chain.restore(start)
        self.studies, self.requests, self.channels = [1, 2], [1], [channel]

    def begin(self) -> None:
        """A busy market: a study runs, another is proposed, an evaluation is under way, a channel is open."""
        self.service, self.model = self.run(self.world.service()), self.run(self.world.model())
        self.run(self.world.running())
        self.run(self.world.propose())
        self.run(self.world.evaluating(self.model))
        self.open_channel("provider-0", 10**6, 2_000)

    def run(self, step: Awaitable[T]) -> T:
        return self.loop.run_until_complete(step)  # type: ignore[arg-type]  # every step here is a coroutine

    def attempt(self, step: Awaitable[Any]) -> Any:
        """Carry a step out, or find it refused; anything but a refusal is a failure of the test."""
        try:
            return self.run(step)
        except Reverted:
            return None

    @staticmethod
    def pick(items: list[Any], index: int) -> Any:
        return items[index % len(items)] if items else None

    # ---------------------------------------------------------------------------------------- time

    @rule(seconds=st.sampled_from((1, 50, 101, 301, 1_001)))
    def wait(self, seconds: int) -> None:
        self.chain.sleep(seconds)

    @rule(blocks=st.sampled_from((1, 6, 300)))
    def grow(self, blocks: int) -> None:
        self.chain.mine(blocks)

    # ---------------------------------------------------------------------------------------- studies

    @rule(stage=st.sampled_from(("propose", "locked", "seeded", "running")))
    def begin_study(self, stage: str) -> None:
        steps: dict[str, Any] = {
            "propose": self.world.propose,
            "locked": self.world.locked,
            "seeded": self.world.seeded,
            "running": self.world.running,
        }
        before = self.run(self.world.suite.studies.count())
        self.attempt(steps[stage]())
        if self.run(self.world.suite.studies.count()) > before:
            self.studies.append(before + 1)

    @rule(which=earlier, owner=st.sampled_from(OWNERS), how=st.sampled_from(("consent", "refuse", "cancel")))
    def decide(self, which: int, owner: str, how: str) -> None:
        if study := self.pick(self.studies, which):
            own = self.world.by(owner).studies
            if how == "consent":
                self.attempt(self.world.consent(study, owner))
            elif how == "refuse":
                self.attempt(own.refuse(study, digest_of("no")))
            else:
                self.attempt(self.world.by("publisher").studies.cancel(study))

    @rule(which=earlier, party=st.integers(0, 3), who=anyone)
    def open_nonce(self, which: int, party: int, who: str) -> None:
        if study := self.pick(self.studies, which):
            name = ("publisher", *OWNERS)[party]
            self.attempt(self.world.by(who).studies.reveal(study, party, self.world.nonce(name)))

    @rule(which=earlier, who=anyone)
    def draw_or_capture(self, which: int, who: str) -> None:
        if study := self.pick(self.studies, which):
            self.attempt(self.world.by(who).studies.capture(study))
            self.attempt(self.world.by(who).studies.draw(study))

    @rule(which=earlier, sender=position, backup=st.none() | position, receiver=position)
    def complain(self, which: int, sender: int, backup: int | None, receiver: int) -> None:
        if (study := self.pick(self.studies, which)) and (members := self.committee(study)):
            attempt = self.run(self.world.suite.studies.study_of(study)).attempt
            own = self.world.by(members[receiver]).studies
            self.attempt(own.complain(study, attempt, sender, backup, receiver))

    @rule(which=earlier, place=position)
    def decline(self, which: int, place: int) -> None:
        if (study := self.pick(self.studies, which)) and (members := self.committee(study)):
            attempt = self.run(self.world.suite.studies.study_of(study)).attempt
            self.attempt(self.world.by(members[place]).studies.decline(study, attempt))

    @rule(which=earlier, place=position, who=anyone, answers=st.booleans())
    def challenge(self, which: int, place: int, who: str, answers: bool) -> None:
        if (study := self.pick(self.studies, which)) and (members := self.committee(study)):
            attempt = self.run(self.world.suite.studies.study_of(study)).attempt
            self.attempt(self.world.by(who).studies.challenge(study, attempt, place))
            if answers:
                self.attempt(self.world.by(members[place]).studies.answer(study, attempt))
            else:
                self.chain.sleep(102)
                self.attempt(self.world.by(who).studies.expire_challenge(study, attempt, place))

    @rule(which=earlier, signing=st.sets(position, min_size=2), who=anyone)
    def complete(self, which: int, signing: set[int], who: str) -> None:
        if (study := self.pick(self.studies, which)) and (members := self.committee(study)):
            attempt, output = self.run(self.world.suite.studies.study_of(study)).attempt, digest_of("output")
            signatures = self.run(self.world.result_signatures(study, attempt, output, members, signing))
            self.attempt(self.world.by(who).studies.complete(study, attempt, output, signatures))

    @rule(which=earlier, who=anyone)
    def expire_study(self, which: int, who: str) -> None:
        if study := self.pick(self.studies, which):
            self.attempt(self.world.by(who).studies.expire(study))

    def committee(self, study: int) -> tuple[str, ...]:
        members = self.run(self.world.suite.studies.study_of(study)).committee
        return tuple(self.world.name(member) for member in members)

    # ---------------------------------------------------------------------------------------- judgements

    @rule(which=earlier, sender=position, backup=position)
    def accuse(self, which: int, sender: int, backup: int) -> None:
        if study := self.pick(self.studies, which):
            attempt = max(0, self.run(self.world.suite.studies.study_of(study)).attempt - 1)
            own = self.world.by("publisher").judgements
            if case := self.attempt(own.accuse(study, attempt, sender, backup, digest_of("evidence"))):
                self.cases.append(case)

    @rule(which=earlier, member=position, word=st.sampled_from(("evidence", "other")))
    def accuse_one(self, which: int, member: int, word: str) -> None:
        if study := self.pick(self.studies, which):
            attempt = max(0, self.run(self.world.suite.studies.study_of(study)).attempt - 1)
            own = self.world.by("north").judgements
            if case := self.attempt(own.accuse_one(study, attempt, member, digest_of(word))):
                self.cases.append(case)

    @rule(which=earlier, side=st.integers(0, 1), votes=st.lists(st.sampled_from(JudgedOutcome), max_size=3))
    def hear(self, which: int, side: int, votes: list[JudgedOutcome]) -> None:
        if case := self.pick(self.cases, which):
            contract, stranger = self.world.suite.judgements, self.world.by("stranger").judgements
            found = self.run(contract.case_of(case))
            if not found.is_about_one:
                accused = self.world.name(found.accused[side])
                self.attempt(self.world.by(accused).judgements.plead(case, side))
            self.chain.mine(6)
            self.attempt(stranger.convene(case, side))
            judges = self.run(contract.hearing_of(case, side)).judges
            for judge, outcome in zip(judges, votes, strict=False):
                self.attempt(self.world.by(self.world.name(judge)).judgements.vote(case, side, outcome))

    @rule(which=earlier, who=anyone, side=st.integers(0, 1))
    def end_case(self, which: int, who: str, side: int) -> None:
        if case := self.pick(self.cases, which):
            self.attempt(self.world.by(who).judgements.adjourn(case, side))
            self.attempt(self.world.by(who).judgements.close(case))

    # ---------------------------------------------------------------------------------------- evaluations

    @rule(drawn=st.booleans())
    def begin_evaluation(self, drawn: bool) -> None:
        before = self.run(self.world.suite.evaluations.count())
        self.attempt(self.world.evaluating(self.model) if drawn else self.world.requested(self.model))
        if self.run(self.world.suite.evaluations.count()) > before:
            self.requests.append(before + 1)

    @rule(which=earlier, values=st.lists(st.sampled_from((900_000, 905_000, 300_000)), min_size=3, max_size=3))
    def report(self, which: int, values: list[int]) -> None:
        if request := self.pick(self.requests, which):
            members = self.run(self.world.suite.evaluations.request_of(request)).evaluators
            reports = [
                (self.world.name(account), (score(v), score(1))) for account, v in zip(members, values, strict=False)
            ]
            for name, scores in reports:
                self.attempt(self.world.commit(request, name, scores))
            for name, scores in reports[: values[0] % 7]:
                self.attempt(self.world.reveal(request, name, scores))

    @rule(which=earlier, who=anyone, how=st.sampled_from(("draw", "capture", "finalise", "expire")))
    def end_evaluation(self, which: int, who: str, how: str) -> None:
        if request := self.pick(self.requests, which):
            self.attempt(getattr(self.world.by(who).evaluations, how)(request))

    # ---------------------------------------------------------------------------------------- stakes

    @rule(who=provider, amount=st.integers(1, 3_000_000_000), how=st.sampled_from(("stake", "request_unstake")))
    def change_stake(self, who: str, amount: int, how: str) -> None:
        self.attempt(getattr(self.world.by(who).providers, how)(TokenAmount(amount)))

    # ---------------------------------------------------------------------------------------- market

    @rule(quota=st.integers(1, 1_000), amount=st.integers(1, 10**9))
    def spend(self, quota: int, amount: int) -> None:
        buyer = self.world.by("buyer")
        self.attempt(buyer.market.buy(self.service, quota, 86_400, TokenAmount(10**9)))
        self.attempt(buyer.assets.distribute(self.model, TokenAmount(amount)))

    @rule(node=provider, deposit=st.integers(1, 10**6), lasting=st.sampled_from((60, 2_000)))
    def open_channel(self, node: str, deposit: int, lasting: int) -> None:
        expiry = UnixSeconds(self.chain.time + lasting)
        salt = digest_of(f"salt {len(self.channels)}")
        channel = self.attempt(
            self.world.by("buyer").market.open(
                self.world.address(node), self.service, TokenAmount(deposit), expiry, salt
            )
        )
        if channel:
            self.channels.append(channel)

    @rule(which=earlier, total=st.integers(0, 10**6 + 5), who=anyone)
    def settle(self, which: int, total: int, who: str) -> None:
        if channel := self.pick(self.channels, which):
            market = self.world.suite.market
            digest = voucher_digest(self.run(market.domain()), channel, TokenAmount(total))
            receiver = self.world.name(self.run(market.channel_of(channel)).receiver)
            caller = receiver if total % 3 else who
            signature = key_of("buyer").sign_digest(digest)
            self.attempt(self.world.by(caller).market.settle(channel, TokenAmount(total), signature))

    @rule(which=earlier, who=anyone, how=st.sampled_from(("request_close", "close")), more=st.integers(0, 1_000))
    def close_channel(self, which: int, who: str, how: str, more: int) -> None:
        if channel := self.pick(self.channels, which):
            if more % 2:
                until = UnixSeconds(self.chain.time + 3_000)
                self.attempt(self.world.by("buyer").market.top_up(channel, TokenAmount(more), until))
            self.attempt(getattr(self.world.by("buyer" if more % 3 else who).market, how)(channel))

    @rule(who=anyone)
    def withdraw(self, who: str) -> None:
        own = self.world.by(who)
        for contract in (own.studies, own.assets, own.evaluations, own.market, own.providers, own.judgements):
            self.attempt(contract.withdraw())

    # ---------------------------------------------------------------------------------------- what must hold

    @invariant()
    def conserved(self) -> None:
        self.run(self.world.check_balances())
        self.run(self.held_is_accounted_for())

    @rule()
    def everybody_is_asked(self) -> None:
        self.run(self.world.check_money())

    async def held_is_accounted_for(self) -> None:
        suite = self.world.suite
        studies = [await suite.studies.study_of(study) for study in self.studies]
        assert await suite.studies.total_held() == sum(study.held for study in studies)
        for study in studies:
            over = study.phase in (StudyPhase.COMPLETED, StudyPhase.ENDED)
            assert over == (study.held == 0) == (study.deadline == 0)
        requests = [await suite.evaluations.request_of(request) for request in self.requests]
        assert await suite.evaluations.total_held() == sum(request.held for request in requests)
        stakes = [await suite.providers.provider_of(self.world.address(name)) for name in PROVIDERS]
        assert await suite.providers.total_held() == sum(entry.stake + entry.unstaking for entry in stakes)
        channels = [await suite.market.channel_of(channel) for channel in self.channels]
        assert await suite.market.total_held() == sum(c.deposit - c.claimed for c in channels if not c.closed)
        assert await suite.assets.total_held() == 0
        busy = [member for study in studies for member in study.committee if study.phase == StudyPhase.RUNNING]
        for request in requests:
            if request.phase in (EvaluationPhase.COMMITTING, EvaluationPhase.REVEALING):
                busy += request.evaluators
        hearings = [await suite.judgements.hearing_of(case, side) for case in self.cases for side in (0, 1)]
        heard = [one for one in hearings if one.stage in (HearingStage.WAITING, HearingStage.SITTING)]
        assert await suite.judgements.total_held() == 3 * len(heard) * PARAMETERS.judge_fee
        busy += [judge for one in heard for judge in one.judges]
        for name, entry in zip(PROVIDERS, stakes, strict=True):
            assert entry.locks == busy.count(self.world.address(name))

    def teardown(self) -> None:
        """However it was left: time and anybody's calls bring every token home."""
        try:
            for _ in range(12):
                self.chain.sleep(1_001)
                self.chain.mine(1)
                for study in self.studies:
                    self.finish_study(study)
                for case in self.cases:
                    for side in (0, 1):
                        self.attempt(self.world.by("stranger").judgements.adjourn(case, side))
                    self.attempt(self.world.by("stranger").judgements.close(case))
                for request in self.requests:
                    phase = self.run(self.world.suite.evaluations.request_of(request)).phase
                    if phase == EvaluationPhase.REQUESTED:
                        self.run(self.world.by("stranger").evaluations.expire(request))
                    elif phase in (EvaluationPhase.COMMITTING, EvaluationPhase.REVEALING):
                        self.run(self.world.by("stranger").evaluations.finalise(request))
                if self.run(self.nothing_is_open()):
                    break
            assert self.run(self.nothing_is_open())
            self.run(self.world.check_money())
            self.chain.sleep(4_000)
            for channel in self.channels:
                self.attempt(self.world.by("stranger").market.close(channel))
            for name in PROVIDERS:
                entry = self.run(self.world.suite.providers.provider_of(self.world.address(name)))
                if entry.stake:
                    self.run(self.world.by(name).providers.request_unstake(entry.stake))
            self.chain.sleep(1_001)
            self.chain.mine(1)
            for name in PROVIDERS:
                self.run(self.world.by(name).providers.withdraw())
            for contract in self.world.payers():
                for name in ("publisher", *OWNERS, *PROVIDERS, "buyer"):
                    if self.run(contract.credit_of(self.world.address(name))):
                        own = self.world.client.with_key(key_of(name))
                        self.run(contract.through(own).withdraw())
                assert self.run(self.world.suite.token.balance_of(contract.address)) == 0, contract.NAME
        finally:
            self.loop.close()

    def finish_study(self, study: int) -> None:
        """Its deadline has passed; anybody moves it on."""
        state = self.run(self.world.suite.studies.study_of(study))
        if state.phase in (StudyPhase.COMPLETED, StudyPhase.ENDED):
            return
        own = self.world.by("stranger").studies
        for place in range(4 if state.open_challenges else 0):
            challenge = self.run(own.challenge_of(study, state.attempt, place))
            if challenge.deadline and not challenge.answered:
                self.run(own.expire_challenge(study, state.attempt, place))
                return
        self.run(own.expire(study))

    async def nothing_is_open(self) -> bool:
        suite = self.world.suite
        return (await suite.studies.total_held(), await suite.evaluations.total_held()) == (0, 0)


def search(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Money,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


def test_money_is_conserved_and_never_stuck() -> None:
    search(examples=6, steps=20)


if __name__ == "__main__":
    # A longer search by hand: python tests/contracts/test_contracts_money.py EXAMPLES STEPS
    search(int(sys.argv[1]), int(sys.argv[2]))
