"""A data owner: keeps rows, answers studies by its policy, shares rows afresh with each drawn committee."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from koinon.contracts.assets import AssetKind, Mint, Minted
from koinon.contracts.client import Log
from koinon.contracts.eip712 import consent_digest
from koinon.contracts.studies import Completed, Drawn, Ended, LockedIn, Proposed, StudyPhase, nonce_commitment
from koinon.crypto.hash import keccak256
from koinon.data.schema import Schema
from koinon.jobs import owner
from koinon.jobs.inputs import check_rows, data_schema, share_columns, whole_columns
from koinon.jobs.policy import read_policy
from koinon.jobs.sessions import study_key
from koinon.jobs.solvers import shares_sums
from koinon.jobs.spending import SALT_BYTES, entry_of
from koinon.jobs.study import MATCHED, SignedStudy, StudyFile, open_study
from koinon.kernel.codec import decode, encode
from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput, KoinonError, Refused, Unavailable
from koinon.kernel.ids import Hash32, NodeId
from koinon.kernel.quantities import ALL_BASIS_POINTS, Seconds
from koinon.node.context import Context
from koinon.node.datasets import Datasets, StoredDataset
from koinon.node.orders import AddData, DataAdded
from koinon.node.privacy_ledger import added
from koinon.node.roles import encryption, summing, training
from koinon.node.roles.people import PeopleDesk
from koinon.node.roles.spending import PrivacyDesk
from koinon.node.roles.studies import fetch_study, manifest_key
from koinon.node.tasks import Narrator
from koinon.privacy.differential.budget import find, pay_back, spend
from koinon.wire.catalogue import Message
from koinon.wire.committee import Column, Input, ShareManifest
from koinon.wire.studies import (
    ConsultOwner,
    DeliverShares,
    FetchManifest,
    FetchRefusal,
    ManifestsReply,
    RefusalReason,
    WouldSign,
)

if TYPE_CHECKING:
    import numpy as np

    from koinon.data.table import Table

journal = logging.getLogger("koinon.data")
DELIVERY_TRIES: Final = 5
REVEAL_RETRY_SECONDS: Final = 1.0
_STATES: Final = b"owner/"
DELIVERY_SECONDS: Final = Seconds(20.0)
_Release = owner.StudyProposed | owner.CommitteeDrawn


class DataRole:
    """One owner's part in every study that names it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._datasets = Datasets(context.home.datasets)
        self._locks: dict[int, asyncio.Lock] = {}
        self._people = PeopleDesk(context, self._datasets)
        self._privacy = PrivacyDesk(context, self._datasets)

    def attach(self) -> None:
        """Follow the studies contract. Raises InvalidInput where the policy cannot be read."""
        read_policy(self._context.home.policy)
        feed, studies = self._context.feed, self._context.suite.studies
        feed.on(studies, Proposed, self._proposed)
        feed.on(studies, LockedIn, self._locked)
        feed.on(studies, Drawn, self._drawn)
        feed.on(studies, Completed, self._ended)
        feed.on(studies, Ended, self._ended)
        self._context.spawn(self.resume(), "studies under way")
        self._context.transport.handle(FetchManifest, self._manifest)
        self._context.transport.handle(FetchRefusal, self._reason)
        self._context.transport.handle(ConsultOwner, self._consult)
        self._people.attach()

    # ------------------------------------------------------------------------------------------ events of the chain

    async def _proposed(self, event: Proposed, _: Log) -> None:
        terms = await self._context.suite.studies.terms_of(event.study_id)
        if self._context.account not in terms.owners or self._load(event.study_id).phase != "new":
            return
        self._context.spawn(self._consider(event), f"study {event.study_id}")

    async def _consider(self, event: Proposed) -> None:
        try:
            study = await fetch_study(self._context, event.study_id)
            seen = await self._seen(study)
            if study.join == MATCHED and await self._would_sign(study, seen):
                common = await self._people.match(event.study_id, study, seen.dataset_hash)
                if common is None:
                    return  # the study has ended meanwhile
                seen = replace(seen, common=common)
        except KoinonError as problem:
            journal.warning("study %d: %s", event.study_id, problem)
            await self._refuse(event.study_id, str(problem))
            return
        if seen.dataset_hash:
            await self._spend(event.study_id, study, 0, seen.dataset_hash, seen)
        else:
            await self._advance(event.study_id, seen)

    async def _would_sign(self, study: StudyFile, seen: owner.StudyProposed) -> bool:
        """Whether nothing but too few common people could still make this owner refuse: no word to others before."""
        try:
            await self._check(study, seen)
        except Refused:
            return False
        return True

    async def _check(self, study: StudyFile, seen: owner.StudyProposed) -> None:
        """Raises Refused with the reason where this owner would not sign now."""
        policy = read_policy(self._context.home.policy)
        _, effects = owner.step(owner.OwnerState(0), seen, policy, self._context.account)
        for effect in effects:
            if isinstance(effect, owner.Refuse):
                raise Refused(effect.reason)
        await self._privacy.check_complete(seen.dataset_hash)
        entry = entry_of(study, 0, 0, self._context.rng)
        entries = self._privacy.ledger.entries(seen.dataset_hash)
        await asyncio.to_thread(spend, entries, entry, self._privacy.budget())

    async def _seen(self, study: StudyFile) -> owner.StudyProposed:
        """A proposal with what this owner has for it."""
        from koinon.privacy.engines import engine_named
        from koinon.privacy.programs.registry import REP4, algorithm_hash

        accounts = [party.account for party in study.owners]
        # A file that does not name this owner is refused with that reason, whatever rows there are.
        named = self._context.account in accounts
        schema = data_schema(study, accounts.index(self._context.account) if named else 0)
        dataset = self._datasets.matching(schema, study.people, with_ids=bool(study.held))
        unfit = engine_named(study.engine).missing()
        if dataset and not unfit and (whole_columns(study) or study.engine != REP4 or shares_sums(study)):
            unfit = await asyncio.to_thread(self._unfit, study, Hash32(dataset.dataset_hash))
        return owner.StudyProposed(
            file=study,
            installed_algorithm=algorithm_hash(study.algorithm, study.engine),
            dataset_hash=dataset.dataset_hash if dataset else b"",
            rows=dataset.rows if dataset else 0,
            nonce=self._context.rng.bytes(32),
            other_people=self._datasets.matching(schema) is not None,
            unfit=unfit,
        )

    def _unfit(self, study: StudyFile, dataset: Hash32) -> str:
        """Why these rows cannot be used for the study; empty where they can."""
        from koinon.privacy.programs.registry import FEDERATED, HE

        try:
            table = self._datasets.open(dataset)
            check_rows(study, table)
            if study.engine == HE:
                encryption.sums_over(study, table)
            elif study.engine == FEDERATED:
                training.check_rows_of(study, table)
            elif shares_sums(study):
                summing.sums_over(study, table)
        except InvalidInput as problem:
            return str(problem)
        return ""

    async def _locked(self, event: LockedIn, _: Log) -> None:
        if self._load(event.study_id).phase == "consented":
            self._context.spawn(self._advance(event.study_id, owner.StudyLocked()), f"reveal {event.study_id}")

    async def _drawn(self, event: Drawn, _: Log) -> None:
        if self._load(event.study_id).phase in ("revealed", "dealt"):
            self._context.spawn(self._deal_to(event), f"deal {event.study_id}.{event.attempt}")

    async def _deal_to(self, event: Drawn) -> None:
        nodes = [NodeId((await self._context.suite.providers.provider_of(a)).node_id) for a in event.committee]
        members = (nodes[0], nodes[1], nodes[2], nodes[3])
        drawn = owner.CommitteeDrawn(event.attempt, members)
        study, dataset = await fetch_study(self._context, event.study_id), self._load(event.study_id).dataset_hash
        await self._spend(event.study_id, study, event.attempt, dataset, drawn)

    async def _ended(self, event: Completed | Ended, _: Log) -> None:
        self._people.stop_matching(event.study_id)
        if self._load(event.study_id).phase not in ("new", "refused", "ended"):
            await self._end(event.study_id)

    async def resume(self) -> None:
        """After a restart: what was decided but may not have reached the chain is sent again.

        A consent or a nonce that stays behind would end the study, and the nonce's bond would be lost.
        """
        studies = self._context.suite.studies
        for _, stored in list(self._context.memory.scan(_STATES)):
            state = decode(owner.OwnerState, stored)
            if state.phase not in ("consented", "revealed", "dealt"):
                continue
            study = await studies.study_of(state.study)
            terms = await studies.terms_of(state.study)
            party = await studies.party_of(state.study, 1 + terms.owners.index(self._context.account))
            if study.phase == StudyPhase.PROPOSED and not party.consented:
                await self._consent(state.study, owner.Consent(state.dataset_hash, state.nonce))
            elif study.phase == StudyPhase.LOCKED and state.phase == "consented":
                await self._advance(state.study, owner.StudyLocked())
            elif study.phase == StudyPhase.LOCKED and not party.revealed:
                await self._reveal(state.study, state.nonce)
            elif study.phase in (StudyPhase.COMPLETED, StudyPhase.ENDED):
                await self._end(state.study)

    # ------------------------------------------------------------------------------------------------- one study

    async def _spend(
        self,
        number: int,
        study: StudyFile,
        attempt: int,
        dataset: bytes,
        event: _Release,
    ) -> None:
        """Take an event that lets shares leave: what it costs is on disk in the same write as the decision."""
        async with self._privacy.spending:
            entries = after = self._privacy.ledger.entries(dataset)
            if find(entries, number, attempt) is None:
                entry = entry_of(study, number, attempt, self._context.rng)
                try:
                    await self._privacy.check_complete(dataset)
                    after = await asyncio.to_thread(spend, entries, entry, self._privacy.budget())
                except Refused as problem:
                    event = replace(event, unaffordable=str(problem))
            effects = await self._decide(number, event, added(dataset, entries, after))
        await self._carry_out(number, effects)

    async def _end(self, number: int) -> None:
        """The study is over; what was paid for an attempt for which nothing was dealt is paid back."""
        async with self._privacy.spending:
            state = self._load(number)
            entries = after = self._privacy.ledger.entries(state.dataset_hash)
            if state.attempt < 0:
                after = pay_back(entries, number, 0, self._context.rng.bytes(SALT_BYTES))
            returned = added(state.dataset_hash, entries, after)
            effects = await self._decide(number, owner.StudyEnded(), returned)
            if state.dataset_hash and after != entries:
                await self._privacy.note(state.dataset_hash)
        self._people.forget(number)
        await self._carry_out(number, effects)

    async def _advance(self, number: int, event: owner.OwnerEvent) -> None:
        await self._carry_out(number, await self._decide(number, event))

    async def _decide(
        self, number: int, event: owner.OwnerEvent, paid: dict[bytes, bytes] | None = None
    ) -> tuple[owner.OwnerEffect, ...]:
        # One study's events are taken one at a time: a state must be on disk before the next is computed from it.
        async with self._locks.setdefault(number, asyncio.Lock()):
            policy = read_policy(self._context.home.policy)
            before = self._load(number)
            state, effects = owner.step(before, event, policy, self._context.account)
            changed = state != before and state.phase != "refused"
            self._context.memory.write({_state_key(number): encode(state), **((paid or {}) if changed else {})})
        return effects

    async def _carry_out(self, number: int, effects: tuple[owner.OwnerEffect, ...]) -> None:
        for effect in effects:
            await self._perform(number, effect)

    async def _perform(self, number: int, effect: owner.OwnerEffect) -> None:
        match effect:
            case owner.Consent():
                await self._consent(number, effect)
            case owner.Refuse():
                await self._refuse(number, effect.reason)
            case owner.RevealNonce():
                await self._reveal(number, effect.nonce)
            case owner.DealShares():
                await self._deal(number, effect)
            case owner.Withhold():
                journal.warning("study %d, attempt %d: no shares dealt: %s", number, effect.attempt, effect.reason)

    async def _consent(self, number: int, effect: owner.Consent) -> None:
        context, studies = self._context, self._context.suite.studies
        terms = await studies.terms_of(number)
        dataset_hash, nonce = Hash32(effect.dataset_hash), Hash32(effect.nonce)
        commitment = nonce_commitment(context.account, terms.spec_hash, nonce)
        digest = consent_digest(
            await studies.domain(), number, terms.spec_hash, dataset_hash, commitment, terms.consent_deadline
        )
        signature = context.keys.account.sign_digest(digest)
        await self._privacy.note(dataset_hash)
        try:
            await studies.consent(number, context.account, dataset_hash, commitment, signature)
        except Refused:
            if (await studies.study_of(number)).phase == StudyPhase.ENDED:
                # It ended before its end could find anything to pay back.
                await self._end(number)
                return
            raise
        journal.info("study %d: consented", number)

    async def _refuse(self, number: int, reason: str) -> None:
        journal.info("study %d: refused: %s", number, reason)
        self._context.memory.write({_reason_key(number): reason.encode()})
        await self._context.suite.studies.refuse(number, keccak256(reason.encode()))

    async def _reveal(self, number: int, nonce: bytes) -> None:
        """Open the nonce once the block of the draw exists: not before, or the draw could be steered."""
        studies, client = self._context.suite.studies, self._context.client
        terms = await studies.terms_of(number)
        place = 1 + terms.owners.index(self._context.account)
        while (study := await studies.study_of(number)).phase == StudyPhase.LOCKED:
            try:
                await client.advance_past(study.draw_height)
                await studies.reveal(number, place, Hash32(nonce))
                return
            except Unavailable as problem:
                # The bond hangs on it: as long as there is time, a chain that cannot be reached is asked again.
                journal.warning("study %d: the nonce is not on the chain yet: %s", number, problem)
                await asyncio.sleep(REVEAL_RETRY_SECONDS)

    async def _deal(self, number: int, effect: owner.DealShares) -> None:
        """Give the committee what the study's engine needs of this owner."""
        from koinon.privacy.programs.registry import FEDERATED, HE

        study = await fetch_study(self._context, number)
        table = self._datasets.open(Hash32(effect.dataset_hash))
        await self._privacy.note(effect.dataset_hash)
        if study.engine == FEDERATED:
            await self._train(number, study, effect, table)
        elif study.engine == HE:
            await self._encrypt(number, study, effect, table)
        elif shares_sums(study):
            await self._hand_over(
                number, study, effect, await summing.shared_sums(self._context, study, number, effect, table)
            )
            journal.info("study %d: dealt shares of sums over %d rows", number, table.rows)
        else:
            await self._share(number, study, effect, table)

    async def _share(self, number: int, study: StudyFile, effect: owner.DealShares, table: "Table") -> None:
        from koinon.privacy.programs.offer import FRACTION_BITS
        from koinon.privacy.sharing import Dealing, deal

        context = self._context
        dealing = Dealing(study_key(study, number), effect.attempt, effect.dataset_hash)
        columns = share_columns(study, self._place(study))
        rows = await self._people.shared_rows(number, study, Hash32(effect.dataset_hash), table)
        matrix = await asyncio.to_thread(_with_planted, rows, study.planted, context.rng)
        manifest, packages = await asyncio.to_thread(
            deal, matrix, columns, FRACTION_BITS, dealing, context.keys.node, context.rng, self._people.parts(number)
        )
        await self._hand_over(number, study, effect, [Input(manifest, package) for package in packages])
        journal.info("study %d: dealt shares of %d rows for attempt %d", number, len(matrix), effect.attempt)

    async def _train(self, number: int, study: StudyFile, effect: owner.DealShares, table: "Table") -> None:
        attempt = effect.attempt
        manifest = training.attested(self._context, study, number, attempt, effect.dataset_hash, table.rows)
        await self._hand_over(number, study, effect, [Input(manifest)] * len(effect.members))
        place = self._place(study)
        try:
            await training.train_here(self._context, study, number, attempt, effect.members, place, table)
        except KoinonError as problem:
            journal.warning("study %d, attempt %d: this owner is out of the training: %s", number, attempt, problem)
        else:
            journal.info("study %d: trained on %d rows that stayed here", number, table.rows)

    async def _encrypt(self, number: int, study: StudyFile, effect: owner.DealShares, table: "Table") -> None:
        try:
            sealed = await encryption.encrypted_sums(self._context, study, number, effect, table)
        except KoinonError as problem:
            journal.warning("study %d, attempt %d: nothing was encrypted: %s", number, effect.attempt, problem)
            return
        await self._hand_over(number, study, effect, [sealed] * len(effect.members))
        journal.info("study %d: encrypted sums over %d rows for attempt %d", number, table.rows, effect.attempt)

    async def _hand_over(
        self, number: int, study: StudyFile, effect: owner.DealShares, inputs: Sequence[Input]
    ) -> None:
        """Each member its own; the manifest, the same for all, is kept for whoever asks."""
        self._context.memory.write({manifest_key(number, effect.attempt): encode(inputs[0].manifest)})
        place = self._place(study)
        deliveries = (
            self._deliver(member, DeliverShares(number, effect.attempt, place, each))
            for member, each in zip(effect.members, inputs, strict=True)
        )
        await asyncio.gather(*deliveries)

    def _place(self, study: StudyFile) -> int:
        """This owner's number in the study."""
        return [party.account for party in study.owners].index(self._context.account)

    async def _deliver(self, member: NodeId, shares: DeliverShares) -> None:
        """Hand over one package; a member that cannot be reached is the committee's to challenge."""
        for attempt in range(DELIVERY_TRIES):
            try:
                record = await self._context.directory.find_node(member)
                await self._context.transport.call(record.endpoint, shares, DELIVERY_SECONDS)
                return
            except Refused:
                return  # the member has left this attempt already
            except Unavailable as problem:
                journal.warning("shares for one member, try %d: %s", attempt + 1, problem)
                await asyncio.sleep(0.2 * (attempt + 1))

    def _load(self, number: int) -> owner.OwnerState:
        stored = self._context.memory.get(_state_key(number))
        return decode(owner.OwnerState, stored) if stored else owner.OwnerState(number)

    def report(self) -> list[str]:
        """Where this owner is in each study."""
        found = (decode(owner.OwnerState, state) for _, state in self._context.memory.scan(_STATES))
        return [f"study {one.study}: {one.phase} {one.attempt}" for one in found]

    # ---------------------------------------------------------------------------------------- questions of others

    async def _manifest(self, _: NodeId, request: FetchManifest) -> Message:
        kept = self._context.memory.get(manifest_key(request.study, request.attempt))
        if kept is None:
            raise Refused("this owner dealt no shares in that attempt")
        return ManifestsReply(decode(ShareManifest, kept))

    async def _reason(self, _: NodeId, request: FetchRefusal) -> Message:
        kept = self._context.memory.get(_reason_key(request.study))
        if kept is None:
            raise Refused("this owner did not refuse that study")
        return RefusalReason(kept.decode())

    async def _consult(self, sender: NodeId, request: ConsultOwner) -> Message:
        """Whether this owner would sign now. Raises Refused with the reason where it would not."""
        study = open_study(decode(SignedStudy, request.signed_study))
        if study.publisher.node_id != sender:
            raise Refused("only a study's publisher is told whether its owners would sign")
        seen = await self._seen(study)
        await self._check(study, seen)
        # Of all its people an owner tells those only whom it is matched with.
        return WouldSign(0 if study.join == MATCHED else seen.rows)

    # --------------------------------------------------------------------------------------------------- orders

    def offer(self) -> None:
        """Offer the owner's own tasks."""
        self._context.board.offer("data.add", self._add)
        self._context.board.offer("data.intersect", self._people.intersect)
        self._privacy.offer()

    async def _add(self, argument: bytes, narrator: Narrator) -> DataAdded:
        order, context = decode(AddData, argument), self._context
        schema = Schema(tuple(Column(*column) for column in order.columns), order.target) if order.columns else None
        path = Path(order.path)
        stored = await asyncio.to_thread(self._datasets.add, path, schema, order.target, context.rng, order.key)
        narrator.say(f"{stored.rows} rows checked and committed to", 0.5)
        asset = await self._mint(stored)
        narrator.say(f"data set {stored.dataset_hash.hex()[:8]}… is asset {asset}", 1.0)
        columns = tuple((column.name, column.low, column.high) for column in stored.schema.columns)
        return DataAdded(Hash32(stored.dataset_hash), stored.rows, columns, stored.schema.target, asset, stored.people)

    async def _mint(self, stored: StoredDataset) -> int:
        """The data set as an asset: its commitment's root and nothing of its rows. Minted once."""
        context, assets = self._context, self._context.suite.assets
        for found in await assets.events(Minted, publisher=context.account):
            if found.event.content_hash == stored.dataset_hash:
                return found.event.asset_id
        whole = (context.account,), (ALL_BASIS_POINTS,)
        return await assets.mint(Mint(AssetKind.DATASET, Hash32(stored.dataset_hash), "", (), *whole))


def _state_key(number: int) -> bytes:
    return _STATES + number.to_bytes(8, "big")


def _with_planted(matrix: "np.ndarray", planted: int, rng: Rng) -> "np.ndarray":
    """An owner's rows, the target last, with so many rows after them whose labels nobody can know but from them."""
    if not planted:
        return matrix
    import numpy as np

    from koinon.privacy.differential.canaries import plant

    return np.column_stack(plant(matrix[:, :-1], matrix[:, -1], planted, rng))


def _reason_key(number: int) -> bytes:
    return b"refusal/" + number.to_bytes(8, "big")
