"""The AI company: deploys contracts, proposes studies, receives outputs, and orders the steps of the main job."""

import tempfile
from pathlib import Path

from koinon.contracts.suite import Suite, SuiteParameters
from koinon.jobs.study import Party, SignedStudy, open_study, read_study_toml
from koinon.journey import outputs
from koinon.journey.encryption import KeyDesk
from koinon.journey.results import Hardened, Named, Published, Served, Trained, Validated
from koinon.journey.results import Study as ProposedStudy
from koinon.journey.study import recover, study_file_key
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Refused
from koinon.kernel.ids import Hash32, NodeId
from koinon.node import orders
from koinon.node.context import Context
from koinon.node.roles.results import find_study, keep, kept
from koinon.node.tasks import Narrator
from koinon.wire.catalogue import Message
from koinon.wire.studies import (
    DeliverOutput,
    EncryptionKeyReply,
    FetchEncryptionKey,
    FetchManifest,
    FetchStudyFile,
    ManifestsReply,
    StudyFileReply,
)


class PublisherRole:
    """The publisher's answers to other nodes, and its operator's orders."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._outputs: outputs.OutputDesk | None = None
        self._keys = KeyDesk(context.memory)

    def offer(self) -> None:
        """Orders that make sense before the contracts are known."""
        self._context.board.offer("suite.deploy", self._deploy)

    def attach(self) -> None:
        """Answer owners and members, and take orders."""
        context = self._context
        self._outputs = outputs.OutputDesk(context.suite, context.memory)
        context.transport.handle(FetchStudyFile, self._study_file)
        context.transport.handle(FetchManifest, self._manifest)
        context.transport.handle(FetchEncryptionKey, self._encryption_key)
        context.transport.handle(DeliverOutput, self._outputs.deliver)
        board = context.board
        board.offer("study.propose", self._propose)
        board.offer("study.train", self._train)
        board.offer("model.publish", self._publish)
        board.offer("model.harden", self._harden)
        board.offer("model.validate", self._validate)
        board.offer("model.name", self._name)
        board.offer("model.serve", self._serve)
        board.offer("results.kept", self._kept)
        board.offer("study.disclose", self._disclose)

    async def _study_file(self, _: NodeId, request: FetchStudyFile) -> Message:
        kept = self._context.memory.get(study_file_key(Hash32(request.specification_hash)))
        if kept is None:
            raise Refused("this publisher has no study file with that hash")
        return StudyFileReply(kept)

    async def _manifest(self, _: NodeId, request: FetchManifest) -> Message:
        assert self._outputs is not None
        kept = self._outputs.manifest(request.study, request.attempt, request.owner)
        if kept is None:
            raise Refused("this publisher was delivered no such manifest")
        return ManifestsReply(kept)

    async def _encryption_key(self, sender: NodeId, request: FetchEncryptionKey) -> Message:
        """The public key of a study on ciphertexts, for its data owners."""
        from koinon.privacy.programs.registry import HE

        context = self._context
        terms = await context.suite.studies.terms_of(request.study)
        kept = context.memory.get(study_file_key(terms.spec_hash))
        if kept is None:
            raise Refused("this publisher has no such study")
        study = open_study(decode(SignedStudy, kept))
        if study.engine != HE or sender not in {party.node_id for party in study.owners}:
            raise Refused("only data owners of a study on ciphertexts are told its key")
        return EncryptionKeyReply(await self._keys.public_key(request.study))

    async def _deploy(self, argument: bytes, narrator: Narrator) -> orders.Suite:
        order = decode(orders.DeploySuite, argument)
        narrator.say("deploying the contracts", 0.1)
        parameters = SuiteParameters(
            supply=order.supply,
            minimum_stake=order.minimum_stake,
            draw_delay=order.draw_delay,
            slash_share=order.slash_share,
            judge_fee=order.judge_fee,
            plead_seconds=order.plead_seconds,
            judge_seconds=order.judge_seconds,
        )
        suite = await Suite.deploy(self._context.client, parameters)
        narrator.say(f"{len(suite.contracts)} contracts deployed and wired", 1.0)
        return orders.Suite(tuple((name.lower(), one.address) for name, one in suite.contracts.items()))

    async def _propose(self, argument: bytes, narrator: Narrator) -> ProposedStudy:
        from koinon.journey.solver import chosen
        from koinon.journey.study import propose
        from koinon.privacy.programs.registry import algorithm_hash

        context, order = self._context, decode(orders.ProposeStudy, argument)
        with tempfile.TemporaryDirectory(dir=context.home.path) as scratch:
            path = Path(scratch) / "study.toml"
            path.write_text(order.text, "utf-8")
            file = read_study_toml(
                path,
                algorithm_hash=algorithm_hash,
                publisher=Party(context.config.name, context.keys.node.node_id, context.account),
                chain_id=await context.client.chain_id(),
                studies_contract=context.suite.studies.address,
            )
        desk = context.desk(narrator.say)
        file = await chosen(desk, file, order.round_trip_seconds, order.bits_per_second)
        return keep(context.memory, await propose(desk, file))

    async def _kept(self, argument: bytes, narrator: Narrator) -> orders.Kept:
        """What is remembered; a study whose proposal was interrupted is read from the chain."""
        context = self._context
        number = find_study(context.memory, decode(orders.ResultsOf, argument).subject)
        if not kept(context.memory, number):
            keep(context.memory, await recover(context.desk(narrator.say), number))
        return orders.Kept(number, kept(context.memory, number))

    async def _disclose(self, argument: bytes, narrator: Narrator) -> orders.Disclosed:
        """A study's opened packages, for whoever is to be shown its result. Raises Refused where there is none."""
        from koinon.jobs.disclosed import DisclosedResult

        assert self._outputs is not None
        number = decode(orders.Disclose, argument).study
        trained = dict(kept(self._context.memory, number)).get("train")
        if trained is None:
            raise Refused(f"study {number} has no result here; run: koinon study train {number}")
        found = decode(Trained, trained)
        signed = decode(SignedStudy, found.study.signed)
        owners = range(len(open_study(signed).owners))
        manifests = [self._outputs.manifest(number, found.attempt, owner) for owner in owners]
        packages = self._outputs.packages(number, found.attempt)
        narrator.say(f"{len(packages)} packages of study {number}", 1.0)
        shown = tuple(manifest for manifest in manifests if manifest is not None)
        return orders.Disclosed(encode(DisclosedResult(number, found.attempt, signed, shown, packages)))

    async def _train(self, argument: bytes, narrator: Narrator) -> Trained:
        from koinon.journey.train import train

        assert self._outputs is not None
        desk = self._context.desk(narrator.say)
        return keep(desk.memory, await train(desk, decode(ProposedStudy, argument), self._outputs))

    async def _publish(self, argument: bytes, narrator: Narrator) -> Published:
        from koinon.journey.publish import publish

        order = decode(orders.Publish, argument)
        file = open_study(decode(SignedStudy, order.trained.study.signed))
        desk = self._context.desk(narrator.say)
        return keep(desk.memory, await publish(desk, order.trained, file, order.name, order.copies))

    async def _harden(self, argument: bytes, narrator: Narrator) -> Hardened:
        from koinon.journey.harden import harden

        desk = self._context.desk(narrator.say)
        return keep(desk.memory, await harden(desk, decode(Published, argument)))

    async def _validate(self, argument: bytes, narrator: Narrator) -> Validated:
        from koinon.journey.validate import validate

        desk = self._context.desk(narrator.say)
        return keep(desk.memory, await validate(desk, decode(orders.Validate, argument)))

    async def _name(self, argument: bytes, narrator: Narrator) -> Named:
        from koinon.journey.name import name

        order = decode(orders.NameModel, argument)
        desk = self._context.desk(narrator.say)
        return keep(desk.memory, await name(desk, order.validated, order.name))

    async def _serve(self, argument: bytes, narrator: Narrator) -> Served:
        from koinon.journey.serve import serve

        desk = self._context.desk(narrator.say)
        return keep(desk.memory, await serve(desk, decode(orders.Serve, argument)))
