"""Children that die, hang, lie and overreach: each is an error of one sentence, and none outlives its parent."""

import asyncio
import errno
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from koinon.kernel.errors import Expired, InvalidInput, MalformedMessage, Refused, Unavailable
from koinon.kernel.quantities import Seconds
from koinon.worker import Exit, ExitReason, Limits, Worker

MEBIBYTE = 1024 * 1024


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def ending_of(name: str, limits: Limits | None = None, *, first: bytes | None = None) -> tuple[Worker, Exit]:
    async with Worker.start(f"worker_targets:{name}", limits) as worker:
        if first is not None:
            await worker.send(first)
        return worker, await worker.wait()


@pytest.mark.parametrize("target", ["worker_targets:echo", "worker_targets:echo_async"])
async def test_frames_go_both_ways_unchanged(target: str) -> None:
    async with Worker.start(target) as worker:
        for frame in (b"", b"a", bytes(range(256)) * 20_000):
            await worker.send(frame)
            assert await worker.receive() == frame
        await worker.send([b"in ", bytearray(b"three "), memoryview(b"parts")])
        assert await worker.receive() == b"in three parts"
        assert worker.exit is None
    assert worker.exit == Exit(ExitReason.CANCELLED, signal.SIGKILL)
    assert not is_running(worker.pid)


async def test_both_sides_may_send_at_once_without_deadlock() -> None:
    async with Worker.start("worker_targets:echo_async") as worker:

        async def receive() -> int:
            return sum([len(await worker.receive()) for _ in range(40)])

        async def send() -> None:
            for _ in range(40):
                await worker.send(bytes(MEBIBYTE))

        received, _ = await asyncio.gather(receive(), send())
        assert received == 40 * MEBIBYTE


async def test_what_a_child_sent_before_it_ended_is_still_given() -> None:
    async with Worker.start("worker_targets:answer_once") as worker:
        assert await worker.wait() == Exit(ExitReason.FINISHED)
        assert await worker.receive() == b"last words"
        with pytest.raises(Unavailable, match="has ended: finished"):
            await worker.receive()
        with pytest.raises(Unavailable, match="has ended: finished"):
            await worker.send(b"too late")


async def test_the_memory_limit_ends_the_child_and_nobody_else() -> None:
    _, end = await ending_of("take_memory", Limits(memory_bytes=512 * MEBIBYTE), first=b"1000000000")
    assert end.reason is ExitReason.MEMORY
    _, end = await ending_of("take_native_memory")
    assert end.reason is ExitReason.MEMORY


async def test_the_processor_limit_ends_a_child_that_spins() -> None:
    _, end = await ending_of("burn", Limits(cpu_seconds=1))
    assert end == Exit(ExitReason.CPU, signal.SIGXCPU)


async def test_the_deadline_ends_a_child_that_hangs_as_expired() -> None:
    async with Worker.start("worker_targets:ignore_everything", Limits(wall_seconds=Seconds(1))) as worker:
        assert await worker.receive() == b"deaf"
        with pytest.raises(Expired, match="killed at its deadline"):
            await worker.receive()
        assert worker.exit is not None
        assert worker.exit.reason is ExitReason.DEADLINE


async def test_a_deadline_also_ends_a_send_that_nobody_reads() -> None:
    async with Worker.start("worker_targets:never_read", Limits(wall_seconds=Seconds(1))) as worker:
        assert await worker.receive() == b"ready"
        with pytest.raises(Expired):
            await worker.send(bytes(64 * MEBIBYTE))


async def test_a_crash_is_named_by_its_signal() -> None:
    async with Worker.start("worker_targets:crash") as worker:
        with pytest.raises(Unavailable, match="crashed with SIGSEGV"):
            await worker.receive()


async def test_an_error_of_ours_arrives_as_itself() -> None:
    async with Worker.start("worker_targets:refuse") as worker:
        with pytest.raises(Refused, match="publish a smaller one"):
            await worker.receive()
        assert (await worker.wait()).reason is ExitReason.FAILED


async def test_a_foreign_error_is_told_without_its_text() -> None:
    async with Worker.start("worker_targets:raise_with_data") as worker:
        with pytest.raises(Unavailable, match="failed with ValueError") as caught:
            await worker.receive()
        await worker.wait()
    assert "patient" not in str(caught.value)
    assert b"patient 17" in worker.output


async def test_output_is_kept_to_a_bound() -> None:
    worker, end = await ending_of("chatter")
    assert end.reason is ExitReason.FINISHED
    assert len(worker.output) == 64 * 1024
    assert worker.output.endswith(b"the end\n")


async def test_a_child_cannot_reach_out_and_sees_only_its_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOINON_SECRET", "do not inherit")
    read_end, write_end = os.pipe()
    os.set_inheritable(read_end, True)
    try:
        async with Worker.start("worker_targets:describe") as worker:
            seen = (await worker.receive()).decode().splitlines()
    finally:
        os.close(read_end)
        os.close(write_end)
    for name in ("socket", "fork", "program", "exec"):
        assert f"{name} forbidden" in seen
    assert "thread allowed" in seen
    assert "descriptors /dev/null pipe pipe socket" in seen, "standard input, output, error and the channel"
    assert "group True" in seen
    assert "OPENBLAS_NUM_THREADS=1" in seen
    assert not [line for line in seen if "SECRET" in line]


async def test_the_network_is_there_when_granted_and_processes_never() -> None:
    async with Worker.start("worker_targets:describe", Limits(network=True)) as worker:
        seen = (await worker.receive()).decode().splitlines()
    assert "socket allowed" in seen
    assert "fork forbidden" in seen


async def test_a_file_beyond_the_limit_is_cut_off(tmp_path: Path) -> None:
    async with Worker.start("worker_targets:write_file", Limits(file_bytes=4096)) as worker:
        await worker.send(str(tmp_path / "large").encode())
        assert await worker.receive() == f"OSError {errno.EFBIG}".encode()
    assert (tmp_path / "large").stat().st_size <= 4096


async def test_frames_beyond_the_limit_are_refused_on_both_sides() -> None:
    small = Limits(frame_bytes=MEBIBYTE)
    async with Worker.start("worker_targets:echo", small) as worker:
        with pytest.raises(InvalidInput, match="longer than the 1048576"):
            await worker.send(bytes(MEBIBYTE + 1))
        await worker.send(b"still alive")
        assert await worker.receive() == b"still alive"
    async with Worker.start("worker_targets:send_too_much", small) as worker:
        with pytest.raises(InvalidInput, match="longer than the 1048576"):
            await worker.receive()


async def test_a_frame_out_of_turn_stops_the_child() -> None:
    async with Worker.start("worker_targets:send_ready_again") as worker:
        with pytest.raises(MalformedMessage, match="out of turn"):
            await worker.receive()
        assert (await worker.wait()).reason is ExitReason.CANCELLED


@pytest.mark.parametrize(
    ("target", "error", "reason"),
    [
        ("worker_targets", InvalidInput, "module:function"),
        ("worker_targets:", InvalidInput, "module:function"),
        ("worker_targets:not-a-name", InvalidInput, "module:function"),
        ("worker_targets:missing", InvalidInput, "no function 'missing'"),
        ("no_such_module:run", Unavailable, "ModuleNotFoundError"),
    ],
)
async def test_a_target_that_does_not_exist_is_refused(target: str, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        async with Worker.start(target):
            raise AssertionError("started")


@pytest.mark.parametrize(
    "limits",
    [
        Limits(memory_bytes=0),
        Limits(cpu_seconds=-1),
        Limits(wall_seconds=Seconds(float("nan"))),
        Limits(frame_bytes=2**40),
    ],
)
async def test_limits_out_of_range_are_refused(limits: Limits) -> None:
    with pytest.raises(InvalidInput, match="worker limit"):
        async with Worker.start("worker_targets:echo", limits):
            raise AssertionError("started")


async def test_leaving_by_an_error_leaves_no_child_and_no_task() -> None:
    before = asyncio.all_tasks()
    with pytest.raises(RuntimeError, match="ours"):
        async with Worker.start("worker_targets:ignore_everything") as worker:
            raise RuntimeError("ours")
    assert not is_running(worker.pid)
    assert asyncio.all_tasks() == before


def test_no_child_outlives_a_parent_that_is_killed() -> None:
    program = (
        "import asyncio\n"
        "from koinon.worker import Worker\n"
        "async def main():\n"
        "    async with Worker.start('worker_targets:ignore_everything') as worker:\n"
        "        await worker.receive()\n"
        "        print(worker.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        watched = os.pidfd_open(child)
        parent.kill()
    try:
        readable, _, _ = select.select([watched], [], [], 10)
        assert readable, "the child is still running"
    finally:
        os.close(watched)
