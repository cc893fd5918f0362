"""Four real worker processes over TLS: an honest run, a lie, a killed peer, and nodes that ask for nonsense."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from committee_scenes import LIMITS, committee, node
from offer_scenes import SCENES, Scene, inputs_of, layout_of
from privacy_scenes import cancer_columns
from test_privacy_programs import cancer, pooled_scores, scores

from koinon.cli.judging import judged
from koinon.crypto.hash import keccak256
from koinon.crypto.signature import NodeKey
from koinon.kernel import codec
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, MalformedMessage, Unavailable
from koinon.kernel.ids import to_hex
from koinon.node import disputes
from koinon.privacy.backend import named_outputs
from koinon.privacy.opening import reconstruct
from koinon.privacy.programs import logistic_regression, registry
from koinon.privacy.programs import offer as offers
from koinon.privacy.programs.logistic_regression import Parameters, in_study, to_raw_units
from koinon.privacy.programs.offer import settings_from
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.hearing import check_dispute, hear, joined_testimony, names_one
from koinon.privacy.seats import certify
from koinon.privacy.sharing import Dealing, deal
from koinon.privacy.valuation.shapley import WORTH
from koinon.wire.catalogue import Done, Failure, Message, from_frame, to_frame
from koinon.wire.committee import (
    POSITIONS,
    Aborted,
    Fault,
    Input,
    Listening,
    OpenedView,
    Output,
    Peer,
    Prepare,
    Progress,
    Run,
)
from koinon.worker import Worker

TARGET = "koinon.privacy.rep4.worker:main"
SESSION = bytes([9]) * 32
SEED = 1

pytestmark = pytest.mark.filterwarnings("ignore:unclosed")


def small_study() -> tuple[Parameters, list[Any]]:
    return study([np.array([[0.5, 1.0], [0.1, 0.0], [0.7, 1.0]]), np.array([[0.2, 0.0], [0.9, 1.0]])], iterations=3)


def study(parts: list[np.ndarray], iterations: int) -> tuple[Parameters, list[Any]]:
    columns = cancer_columns(np.concatenate(parts)[:, :-1])
    parameters = Parameters(tuple(len(part) for part in parts), columns, iterations=iterations)
    rng, dealing = SeededRng(b"owners"), Dealing(SESSION, 0, bytes(32))
    return parameters, [deal(part, columns, 20, dealing, NodeKey.generate(rng), rng) for part in parts]


def run_message(position: int, peers: tuple[Peer, Peer, Peer, Peer], parameters: Parameters, dealt: list[Any]) -> Run:
    return Run(
        peers=peers,
        program=logistic_regression.NAME,
        algorithm=registry.algorithm_hash(logistic_regression.NAME),
        parameters=in_study(parameters),
        result_party=bytes(32),
        inputs=tuple(Input(manifest, packages[position]) for manifest, packages in dealt),
        deadline_seconds=120.0,
        silence_seconds=60.0,
    )


async def answer(
    worker: Worker,
    run: Run,
    on_progress: Callable[[Progress], None] = lambda _: None,
    views: list[OpenedView] | None = None,
) -> Message:
    await worker.send(to_frame(run))
    while True:
        message = from_frame(await worker.receive())
        if isinstance(message, OpenedView) and views is not None:
            views.append(message)
        elif isinstance(message, Progress):
            on_progress(message)
        else:
            return message


async def test_four_processes_train_the_model_of_the_pooled_rows() -> None:
    parts, held_out = cancer(SEED)
    parameters, dealt = study(parts, iterations=40)
    stages: list[Progress] = []
    async with committee(TARGET, SESSION) as (workers, peers):
        answers = await asyncio.gather(
            *(answer(workers[i], run_message(i, peers, parameters, dealt), stages.append) for i in POSITIONS)
        )
    outputs = [each for each in answers if isinstance(each, Output)]
    assert len(outputs) == 4, answers
    assert {output.output_digest for output in outputs} == {keccak256(b"".join(outputs[0].package.digests))}
    values, liars = reconstruct([output.package for output in outputs], SESSION, outputs[0].output_digest)
    assert liars == ()
    slopes, bias = to_raw_units(values[:-1], values[-1], parameters.columns[:-1])
    area, loss = scores(held_out, 1 / (1 + np.exp(-(held_out[:, :-1] @ slopes + bias))))
    want_area, want_loss = pooled_scores(parts, held_out)
    assert abs(area - want_area) < 0.005
    assert abs(loss - want_loss) < 0.01
    # No position saw the result: each holds three components, whose sum is not it.
    for output in outputs:
        held = sum(np.frombuffer(share.values, "<u8") for share in output.package.components)
        assert np.abs(held.view(np.int64) / 2.0**output.package.fraction_bits - values).min() > 1
    assert {head.position for head in outputs[2].heads} == set(POSITIONS)
    assert stages
    assert all(0 < stage.done <= stage.total for stage in stages)


async def through_four_processes(scene: Scene, *, by_columns: bool) -> None:
    offer, layout = registry.offer(scene.program), layout_of(scene, by_columns=by_columns)
    settings = settings_from(offer, scene.settings)
    rng, dealing = SeededRng(b"owners"), Dealing(SESSION, 0, bytes(32))
    dealt = [
        deal(each.values, each.columns, layout.fraction_bits, dealing, NodeKey.generate(rng), rng)
        for each in inputs_of(scene, layout)
    ]
    outputs = tuple(name for name in offer.outputs if name != WORTH)
    encoded = codec.encode(offers.Parameters(layout, settings, outputs))
    async with committee(TARGET, SESSION) as (workers, peers):
        runs = [
            msgspec.structs.replace(
                run_message(i, peers, small_study()[0], dealt),
                program=scene.program,
                algorithm=registry.algorithm_hash(scene.program),
                parameters=encoded,
            )
            for i in POSITIONS
        ]
        answers = await asyncio.gather(*(answer(workers[i], runs[i]) for i in POSITIONS))
    packages = [each.package for each in answers if isinstance(each, Output)]
    assert len(packages) == 4, answers
    values, _ = reconstruct(packages, SESSION)
    opened = named_outputs(registry.load(scene.program, encoded), values)
    shown = offer.present(opened, layout, offers.decode_settings(offer, settings))
    found = scene.reading({table.name: table.values for table in shown}, scene.rows)
    for name, (wanted, error) in scene.wanted(scene.rows).items():
        assert np.abs(found[name] - wanted).max() <= error, name


@pytest.mark.long
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.program)
@pytest.mark.parametrize("by_columns", [False, True], ids=["rows split", "columns split"])
async def test_every_program_runs_in_four_processes(scene: Scene, by_columns: bool) -> None:
    await through_four_processes(scene, by_columns=by_columns)


@pytest.mark.long
async def test_trees_and_networks_on_split_columns_run_in_four_processes_sample() -> None:
    for scene in SCENES:
        if scene.program in ("decision-tree/1", "perceptron/1"):
            await through_four_processes(scene, by_columns=True)


async def test_a_lying_process_is_named_by_the_three_others_and_by_a_judge(tmp_path: Path) -> None:
    parameters, dealt = small_study()
    views = list[OpenedView]()
    async with committee(TARGET, SESSION) as (workers, peers):
        runs = [run_message(i, peers, parameters, dealt) for i in POSITIONS]
        runs[1] = msgspec.structs.replace(runs[1], fault=Fault(round=30, peer=0, bit=17))
        answers = await asyncio.gather(*(answer(workers[i], runs[i], views=views) for i in POSITIONS))
    for i in (0, 2, 3):
        told = answers[i]
        assert isinstance(told, Aborted)
        assert 1 in told.suspects
        assert 1 in (told.sender, told.backup, told.receiver)
        assert told.complaint
    assert not any(isinstance(each, Output) for each in answers)
    # Only the receiver has evidence, only the accused have views, and either view names the liar.
    (dispute,) = [each.dispute for each in answers if isinstance(each, Aborted) and each.dispute is not None]
    assert {view.position for view in views} == set(check_dispute(dispute).accused)
    disputes.keep(tmp_path / "evidence", dispute)
    proved = judged(tmp_path / "evidence", None)
    assert "deviated" not in proved
    for view in views:
        path = tmp_path / f"view {view.position}"
        disputes.keep(path, view)
        assert path.stat().st_mode & 0o077 == 0
        facts = judged(tmp_path / "evidence", path)
        assert facts["deviated"] == to_hex(node(1).node_id)
        assert facts["outcome"] == ("deviated" if view.position == 1 else "kept")
    # What is not the position's own is refused: another run, another's place, another input, somebody else's word.
    view, replace = views[0], msgspec.structs.replace
    package = view.run.inputs[0].package
    words = package.components[2]
    other_input = replace(
        view.run.inputs[0],
        package=replace(package, components=(*package.components[:2], replace(words, value=bytes(len(words.value))))),
    )
    for forged in (
        replace(view, signature=bytes(64)),
        replace(view, identity=bytes(32)),
        replace(view, position=view.position ^ 3),
        replace(view, position=7),
        replace(view, rounds=view.rounds[:-1]),
        replace(view, randomness=view.randomness[1:]),
        replace(view, run=replace(view.run, result_party=bytes([1]) * 32)),
        replace(view, run=replace(view.run, inputs=())),
        replace(view, run=replace(view.run, inputs=(other_input, *view.run.inputs[1:]))),
    ):
        with pytest.raises(Forged):
            hear(dispute, forged)
    with pytest.raises(InvalidInput, match="not OpenedView"):
        judged(tmp_path / "evidence", tmp_path / "evidence")
    (tmp_path / "damaged").write_bytes((tmp_path / "evidence").read_bytes()[:-1])
    with pytest.raises(MalformedMessage):
        judged(tmp_path / "damaged", None)
    stranger = replace(dispute, identity=bytes(32))
    with pytest.raises(Forged):
        check_dispute(stranger)


async def test_a_process_that_confirms_another_key_is_named_alone_by_what_the_others_were_told(tmp_path: Path) -> None:
    parameters, dealt = small_study()
    async with committee(TARGET, SESSION) as (workers, peers):
        runs = [run_message(i, peers, parameters, dealt) for i in POSITIONS]
        runs[1] = msgspec.structs.replace(runs[1], fault=Fault(round=3, peer=0, bit=17))
        answers = await asyncio.gather(*(answer(workers[i], runs[i]) for i in POSITIONS))
    stopped = [each for each in answers if isinstance(each, Aborted)]
    assert len(stopped) == 4
    # What the receiver was told shows that one of two lied; with what the third was told, it shows which.
    honest = {position: each for position, each in enumerate(stopped) if position != 1}
    assert all(each.dispute is None for each in honest.values())
    told = {position: each.testimony for position, each in honest.items() if each.testimony is not None}
    receiver = told.pop(0)
    assert not names_one(receiver)
    joined = joined_testimony([receiver, *told.values()])
    dispute = check_dispute(joined)
    assert (dispute.accused, dispute.is_heard) == ((1,), False)
    disputes.keep(tmp_path / "evidence", joined)
    assert judged(tmp_path / "evidence", None)["deviated"] == to_hex(node(1).node_id)
    replace = msgspec.structs.replace
    for forged in (
        replace(joined, frames=()),
        replace(joined, frames=joined.frames[:2]),
        replace(joined, frames=(replace(joined.frames[0], receiver=9), *joined.frames[1:])),
        replace(joined, identity=bytes(32)),
    ):
        with pytest.raises(Forged):
            check_dispute(forged)
    # Testimony of others, or made up, is left out.
    made_up = replace(receiver, frames=(replace(receiver.frames[0], receiver=3), *receiver.frames[:1]))
    stranger = replace(receiver, identity=bytes(32))
    assert check_dispute(joined_testimony([stranger, made_up, receiver, *told.values()])).accused == (1,)
    with pytest.raises(InvalidInput, match="names none of them"):
        joined_testimony([receiver])
    with pytest.raises(InvalidInput, match="names none of them"):
        joined_testimony([])


async def test_a_killed_process_is_named_and_nobody_waits() -> None:
    parameters, dealt = study(cancer(SEED)[0], iterations=40)
    async with committee(TARGET, SESSION) as (workers, peers):

        def kill(_: Progress) -> None:
            if workers[2].exit is None:
                os.kill(workers[2].pid, signal.SIGKILL)

        answers = await asyncio.wait_for(
            asyncio.gather(
                *(
                    answer(workers[i], run_message(i, peers, parameters, dealt), kill if i == 2 else lambda _: None)
                    for i in POSITIONS
                ),
                return_exceptions=True,
            ),
            timeout=120,
        )
    assert isinstance(answers[2], Unavailable)
    for i in (0, 1, 3):
        told = answers[i]
        assert isinstance(told, Aborted), told
        assert 2 in told.suspects


async def test_a_worker_that_never_gets_its_order_is_named() -> None:
    parameters, dealt = small_study()
    async with committee(TARGET, SESSION) as (workers, peers):
        runs = [
            msgspec.structs.replace(run_message(i, peers, parameters, dealt), deadline_seconds=3.0, silence_seconds=2.0)
            for i in POSITIONS
        ]
        answers = await asyncio.wait_for(asyncio.gather(*(answer(workers[i], runs[i]) for i in (0, 1, 2))), 120)
    for told in answers:
        assert isinstance(told, Aborted)
        assert 3 in told.suspects


async def test_a_worker_that_died_before_the_run_is_named() -> None:
    parameters, dealt = small_study()
    async with committee(TARGET, SESSION) as (workers, peers):
        os.kill(workers[3].pid, signal.SIGKILL)
        await workers[3].wait()
        runs = [
            msgspec.structs.replace(run_message(i, peers, parameters, dealt), deadline_seconds=8.0) for i in POSITIONS
        ]
        answers = await asyncio.wait_for(asyncio.gather(*(answer(workers[i], runs[i]) for i in (0, 1, 2))), 120)
    for told in answers:
        assert isinstance(told, Aborted)
        assert 3 in told.suspects


async def test_a_tampered_share_ends_the_run_before_it_is_used() -> None:
    parameters, dealt = small_study()
    async with committee(TARGET, SESSION) as (workers, peers):
        runs = [run_message(i, peers, parameters, dealt) for i in POSITIONS]
        given = runs[0].inputs[1]
        share = given.package.components[2]
        changed = msgspec.structs.replace(share, value=bytes([share.value[0] ^ 1]) + share.value[1:])
        components = (*given.package.components[:2], changed)
        package = msgspec.structs.replace(given.package, components=components)
        tampered = (runs[0].inputs[0], msgspec.structs.replace(given, package=package))
        runs[0] = msgspec.structs.replace(runs[0], inputs=tampered)
        answers = await asyncio.wait_for(asyncio.gather(*(answer(workers[i], runs[i]) for i in POSITIONS)), 60)
    for told in answers:
        assert isinstance(told, Aborted)
        assert told.input == 1
        assert told.receiver == 0


def bad_runs(run: Run) -> dict[str, tuple[Run, type[KoinonError]]]:
    replace = msgspec.structs.replace
    first, second, third, fourth = run.peers
    stranger = replace(second, certificate=bytes(64))
    return {
        "another algorithm": (replace(run, algorithm=bytes(32)), InvalidInput),
        "unknown program": (replace(run, program="nothing/1"), InvalidInput),
        "parameters that are none": (replace(run, parameters=b"\xc0"), MalformedMessage),
        "an input missing": (replace(run, inputs=run.inputs[:1]), InvalidInput),
        "one owner twice": (replace(run, inputs=(run.inputs[0],) * 2), Forged),
        "a worker nobody vouches for": (replace(run, peers=(first, stranger, third, fourth)), Forged),
        "one node twice": (replace(run, peers=(first, second, third, replace(fourth, node=third.node))), InvalidInput),
        "another worker here": (replace(run, peers=(second, first, third, fourth)), InvalidInput),
        "no deadline": (replace(run, deadline_seconds=0.0), InvalidInput),
        "endless deadline": (replace(run, deadline_seconds=float("inf")), InvalidInput),
        "no silence limit": (replace(run, silence_seconds=float("nan")), InvalidInput),
    }


async def test_orders_that_make_no_sense_are_refused_with_a_reason() -> None:
    parameters, dealt = small_study()
    keys = [NodeKey.from_seed(bytes([50 + i]) * 32) for i in POSITIONS]
    certified = [certify(node(i), SESSION, i, keys[i].node_id) for i in POSITIONS]
    zeroth, first, second, third = (
        Peer(node(i).node_id, keys[i].node_id, certified[i], "127.0.0.1", 1) for i in POSITIONS
    )
    cases = bad_runs(run_message(0, (zeroth, first, second, third), parameters, dealt))

    async def refused(run: Run, kind: type[KoinonError]) -> str:
        async with Worker.start(TARGET, LIMITS) as worker:
            await worker.send(to_frame(Prepare(SESSION, 0, keys[0].seed, "127.0.0.1")))
            assert isinstance(from_frame(await worker.receive()), Listening)
            await worker.send(to_frame(run))
            failure = from_frame(await worker.receive())
            assert isinstance(failure, Failure)
            assert failure.kind == kind.__name__
            return failure.reason

    for case, (run, kind) in cases.items():
        assert len(await refused(run, kind)) > 10, case


@pytest.mark.parametrize(
    "message",
    [Done(), Prepare(SESSION, 4, bytes(32), "127.0.0.1"), Prepare(b"", 0, bytes(32), "127.0.0.1")],
    ids=["out of turn", "no such position", "no session"],
)
async def test_a_wrong_first_message_is_refused(message: Message) -> None:
    async with Worker.start(TARGET, LIMITS) as worker:
        await worker.send(to_frame(message))
        failure = from_frame(await worker.receive())
    assert isinstance(failure, Failure)
    assert failure.kind == "MalformedMessage"
