"""Whatever a task does to the worker, the node answers, stays, and goes on with a fresh one."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from one_node import ATTACKS, Node, attack, carry, probe, running

from hanse.bundle import Bundle
from hanse.errors import NodeFailed, NotAllowed, NotApproved, TooLarge, WorkerDied
from hanse.large_arrays import LARGE_BYTES
from hanse.messages import Message, Record
from hanse.node import shared_memory
from hanse.node.pipe import FREED, MESSAGE, Packet
from hanse.node.settings import TaskLimits
from hanse.node.shared_memory import SharedBuffer, SharedPool
from hanse.node.surroundings import environment
from hanse.node.worker import _Process
from tests.waiting import PATIENCE, eventually

LARGE = 1 << 20  # elements of float32


async def still_works(node: Node) -> None:
    bundle = probe()
    await node.approved(bundle, "afterwards")
    body = await node.task(bundle, {"round": 1}, {"x": np.zeros(16, np.float32)}, run="afterwards")
    assert body.arrays["a.x"].shape == (16,)


@pytest.mark.parametrize(
    ("ask", "limits", "says"),
    [
        ({"do": "exit"}, {}, "status 3"),
        ({"do": "segfault"}, {}, "signal 11"),
        ({"do": "sleep", "seconds": 60}, {"task_seconds": 0.5}, "task_seconds, which is 0.5"),
        ({"do": "sleep in C", "seconds": 60}, {"task_seconds": 0.5}, "task_seconds"),
        ({"do": "allocate at once", "bytes": 4e9}, {"memory_mb": 256}, "memory_mb"),
        ({"do": "allocate slowly", "bytes": 3e8}, {"memory_mb": 200}, "more memory than [limits] memory_mb, which"),
        ({"do": "raise system exit"}, {}, "status 4"),
    ],
    ids=lambda v: v["do"] if isinstance(v, dict) and "do" in v else None,
)
def test_a_worker_that_ends_hangs_or_takes_too_much_is_replaced(
    tmp_path: Path, ask: dict[str, Any], limits: dict[str, Any], says: str
) -> None:
    async def main() -> None:
        lasting = {name: value for name, value in limits.items() if name != "task_seconds"}
        async with running(tmp_path, attacks=True, limits=TaskLimits(threads=1, **lasting)) as node:
            await node.approved(attack())
            before, plain = node.agent.worker.pid, node.agent.worker.plain
            allowed = plain.limits
            plain.limits = dataclasses.replace(allowed, **limits)  # seconds for this task alone, not before or after
            with pytest.raises(WorkerDied) as error:
                await node.task(attack(), ask)
            plain.limits = allowed
            assert says in error.value.message
            await still_works(node)
            assert node.agent.worker.pid != before
            assert {"task.refused", "task.answered", "worker.lost"} <= set(node.actions())
            assert node.agent.audit.verify().ok

    asyncio.run(main())


def test_a_worker_that_is_killed_in_the_middle_is_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            task = asyncio.create_task(node.task(attack(), {"do": "progress"}, progress=moved.set))
            await moved.wait()  # it is at work
            pid = node.agent.worker.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(WorkerDied, match="signal 9"):
                await task
            await still_works(node)
            assert "worker.lost" in node.actions()

    moved = asyncio.Event()
    asyncio.run(main())


def test_an_idle_worker_that_is_killed_is_replaced_before_it_is_needed(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            pid = node.agent.worker.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await still_works(node)
            assert node.agent.worker.pid not in (None, pid)

    asyncio.run(main())


def test_an_exception_gives_its_kind_and_never_its_text(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            before = node.agent.worker.pid
            with pytest.raises(NodeFailed, match="failed with ValueError"):
                await node.task(attack(), {"do": "raise"})
            assert b"Grete" not in bytes(node.coordinator.left)
            assert "Grete Hansen" in (tmp_path / "worker.log").read_text()  # the owner can find it
            assert node.agent.worker.pid == before
            await still_works(node)

    asyncio.run(main())


def test_a_log_has_a_bound_while_the_worker_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a training plan says goes into one, too, and a worker lives for as long as a run."""
    monkeypatch.setattr("hanse.node.worker._LOG_BYTES", 4000)
    monkeypatch.setattr("hanse.node.worker._LOG_SECONDS", 0.0)
    log = tmp_path / "worker.log"

    async def main() -> None:
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            await node.task(attack(), {"do": "nothing"})
            before = node.agent.worker.pid
            for end in ("first", "second"):
                with open(log, "a") as said:
                    said.write("progress\n" * 1000 + end)
                await node.task(attack(), {"do": "nothing"})
                assert 900 < log.stat().st_size < 4000
                assert end in log.read_text()
            assert node.agent.worker.pid == before
            with open(log, "a") as said:
                said.write("progress\n" * 1000)
        assert log.stat().st_size < 4000

    asyncio.run(main())


@pytest.mark.parametrize("how", ["sleep", "sleep in C"])
def test_a_cancelled_task_is_stopped_by_force_if_need_be(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # who only sleeps ends by itself, however long a busy machine takes for it
    monkeypatch.setattr("hanse.node.worker._GRACE_SECONDS", 0.5 if how == "sleep in C" else PATIENCE)

    async def main() -> None:
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            await node.task(attack(), {"do": "nothing"})
            before = node.agent.worker.pid
            task = asyncio.create_task(node.task(attack(), {"do": how, "seconds": 3600}, step=1))
            while node.agent.worker.busy is None:
                await asyncio.sleep(0)
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(PATIENCE):
                await still_works(node)
            assert (node.agent.worker.pid == before) == (how == "sleep")

    asyncio.run(main())


def test_a_worker_that_is_being_started_ends_with_the_node(tmp_path: Path) -> None:
    """The one before was lost a moment ago, and its successor has not said a word yet."""

    async def main() -> None:
        started: list[_Process] = []
        async with running(tmp_path) as node:
            worker, pid = node.agent.worker.plain, node.agent.worker.pid
            assert pid is not None
            spawn = worker._spawn
            worker._spawn = lambda: started.append(spawn()) or started[-1]  # type: ignore[method-assign, func-returns-value]
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(PATIENCE):
                while not started:
                    await asyncio.sleep(0)
        assert len(started) == 1
        assert not started[0].alive
        assert started[0].process.wait(PATIENCE) == -signal.SIGKILL

    asyncio.run(main())


def test_many_cancelled_tasks_never_mix_up_replies(tmp_path: Path) -> None:
    async def main() -> None:
        bundle = probe(4 * LARGE, num_rounds=200)
        async with running(tmp_path) as node:
            await node.approved(bundle)
            for step in range(30):
                x = np.full(LARGE if step % 2 else 16, step, np.float32)
                task = asyncio.create_task(node.task(bundle, {"round": step}, {"x": x}, step=step))
                await asyncio.sleep(0.0005 * (step % 7))
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                body = await node.task(bundle, {"round": 100 + step}, {"x": np.zeros(8 + step, np.float32)}, step=step)
                assert body.arrays["a.x"].shape == (8 + step,)
            assert node.agent.worker.pid is not None

    asyncio.run(main())


def test_progress_reaches_the_coordinator(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            beats: list[str] = []
            await node.task(attack(), {"do": "progress"}, progress=lambda: beats.append("moved"))
            assert len(beats) == 2  # of three, of which the first comes with the task itself

    asyncio.run(main())


def test_nobody_is_told_of_progress_after_the_answer(tmp_path: Path) -> None:
    """Who would be told knows the answer, and a model of gigabytes stayed in memory until the next task."""

    class Asker:
        def __call__(self) -> None:
            pass

    async def main() -> None:
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            asker = Asker()
            gone = weakref.ref(asker)
            await node.task(attack(), {"do": "nothing"}, progress=asker)
            del asker
            await eventually(lambda: gone() is None)

    asyncio.run(main())


def test_the_worker_knows_no_secrets_and_has_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSE_TOKEN", "s3cret")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        async def main() -> None:
            async with running(tmp_path, attacks=True) as node:
                await node.approved(attack())
                body = await node.task(attack(), {"do": "look around", "port": server.getsockname()[1]})
                found = body.data["data"]
                assert "HANSE_TOKEN" not in found["environment"]
                assert not {"PATH", "HOME"} & set(found["environment"])
                assert found["network"] is not node.agent.worker.offline
                if os.getuid() == 0:
                    assert node.agent.worker.offline

        asyncio.run(main())


def test_a_workers_threads_are_its_owners_word_then_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
        monkeypatch.setenv(name, "3")
        assert environment(0)[name] == "3"
        assert environment(2)[name] == "2"
        monkeypatch.delenv(name)
        assert environment(0)[name] == str(os.cpu_count())


def test_a_worker_computes_by_the_instructions_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENBLAS_CORETYPE", "MKL_CBWR"):
        monkeypatch.delenv(name, raising=False)
        assert name not in environment(1)
        monkeypatch.setenv(name, "some")
        assert environment(1)[name] == "some"


def test_a_worker_computes_on_the_cards_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
        assert name not in environment(1)
        for cards in ("1", ""):
            monkeypatch.setenv(name, cards)
            assert environment(1)[name] == cards


def test_a_worker_finds_the_libraries_of_its_python_and_none_where_its_owner_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", ":/opt/one:.:lib:/opt/two:")
    assert environment(1)["LD_LIBRARY_PATH"] == "/opt/one:/opt/two"
    monkeypatch.setenv("LD_LIBRARY_PATH", ":")
    assert "LD_LIBRARY_PATH" not in environment(1)


def test_the_worker_dies_with_its_agent(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from one_node import attack, running
async def main():
    async with running(Path({str(tmp_path)!r}), attacks=True) as node:
        await node.approved(attack())
        print(node.agent.worker.pid, flush=True)
        await node.task(attack(), {{"do": "sleep in C", "seconds": 60}})
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        worker = psutil.Process(int(process.stdout.readline()))
        time.sleep(0.3)
        process.kill()
        process.wait()
        assert worker.wait(PATIENCE) is None or not worker.is_running()


def test_a_worker_that_is_older_than_the_code_is_replaced(tmp_path: Path) -> None:
    """Or the code that is compared (on disk) would not be the code that runs (loaded before)."""

    async def main() -> None:
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            await node.task(attack(), {"do": "nothing"})
            before = node.agent.worker.pid
            (ATTACKS / "attack.py").chmod((ATTACKS / "attack.py").stat().st_mode)  # a change, as far as one can tell
            await node.approved(probe(), "run-2")
            await node.task(probe(), {"round": 1}, {"x": np.zeros(4, np.float32)}, run="run-2")
            assert node.agent.worker.pid == before  # it does not concern this run
            again = Bundle({**attack().content, "datasets": {"beta": {"name": "x", "version": "1"}}})
            await node.approved(again, "run-3")
            await node.task(again, {"do": "nothing"}, run="run-3")
            assert node.agent.worker.pid != before

    asyncio.run(main())


# ---------------------------------------------------------------- payloads


def test_large_payloads_come_back_exact_and_memory_is_used_again(tmp_path: Path) -> None:
    async def main() -> None:
        rng = np.random.default_rng(0)
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            for step, size in enumerate([LARGE, 3, LARGE, 0, LARGE + 1, 40_000, LARGE, LARGE, 16_384, 16_385]):
                x = rng.standard_normal(size).astype(np.float32)
                body = await node.task(attack(), {"do": "echo"}, {"x": x}, step=step)
                assert body.arrays["a.x"].tobytes() == x.tobytes()
            assert node.agent.pool._free  # something is kept
            await node.coordinator.ask("finished", {"run": "run-1", "state": "completed"})
            del body
            await asyncio.gather(*node.agent._tasks - {node.agent._beating})
            assert not node.agent.pool._free

    asyncio.run(main())


def test_a_reply_larger_than_the_last_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            for step, do in enumerate(["echo", "twice", "echo", "twice"]):
                x = np.full(LARGE, step, np.float32)
                body = await node.task(attack(), {"do": do}, {"x": x}, step=step)
                assert body.arrays["a.x"].size == LARGE * (1 + (do == "twice"))
                assert (body.arrays["a.x"] == step).all()

    asyncio.run(main())


def adopted(node: Node) -> list[int]:
    """Bytes of each piece of new memory that the node takes over from its worker from here on."""
    fresh, adopt = list[int](), node.agent.pool.adopt

    def counted(fd: int, nbytes: int) -> SharedBuffer:
        fresh.append(nbytes)
        return adopt(fd, nbytes)

    node.agent.pool.adopt = counted  # type: ignore[method-assign]
    return fresh


async def back(node: Node) -> None:
    """All memory is the pool's again: a thread that has read an answer beside may let go of it a moment later."""
    await eventually(lambda: node.agent.pool._in_use == 0)


def test_a_small_reply_of_another_exchange_loses_no_memory(tmp_path: Path) -> None:
    """A step of a secure sum has a large answer, then a small one: the next large one lies where the last one did."""

    async def main() -> None:
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            fresh = adopted(node)
            for step in range(4):
                for op, size in (("answer", LARGE), ("unmask", 3)):
                    x = np.full(size, step, np.float32)
                    body = await node.task(attack(), {"do": "echo"}, {"x": x}, step=step, op=op)
                    assert (body.arrays["a.x"] == step).all()
                    del body
                assert fresh == [4 * LARGE]

    asyncio.run(main())


def test_what_an_algorithm_keeps_of_an_ask_is_never_overwritten(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            await node.task(attack(), {"do": "keep"}, {"x": np.full(LARGE, 7, np.float32)}, step=1)
            await node.approved(attack(), "other")
            for step in range(4):
                await node.task(attack(), {"do": "echo"}, {"x": np.full(LARGE, 9, np.float32)}, run="other", step=step)
            body = await node.task(attack(), {"do": "kept"}, step=2)
            assert (body.arrays["a.x"] == 7).all()

    asyncio.run(main())


def test_an_answer_is_one_packet_that_says_what_is_kept_of_its_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one would wake the node's connection once more for each ask."""
    came: list[int] = []
    packet_of = _Process._packet

    def counted(self: _Process, packet: Packet) -> None:
        came.append(packet.what)
        packet_of(self, packet)

    async def main() -> None:
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            x = {"x": np.full(LARGE, 7, np.float32)}
            await node.task(attack(), {"do": "echo"}, x)
            monkeypatch.setattr(_Process, "_packet", counted)
            for step, do in enumerate(("echo", "keep", "echo"), 1):
                await node.task(attack(), {"do": do}, x, step=step)
            assert came == [FREED, MESSAGE, FREED]

    asyncio.run(main())


def large(do: str, value: int) -> dict[str, Any]:
    return {"do": do, "size": LARGE_BYTES // 4, "value": value}


def test_the_next_answer_is_made_where_the_last_one_lay(tmp_path: Path) -> None:
    """What is too large for a copy is handed over, and lent for the next one."""

    async def main() -> None:
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            fresh = adopted(node)
            for step in range(4):
                body = await node.task(attack(), large("fill", step), {"x": np.zeros(LARGE, np.float32)}, step=step)
                assert (body.arrays["a.x"] == step).all()
                del body
                await back(node)
            assert fresh == [LARGE_BYTES]

    asyncio.run(main())


def test_an_answer_lies_where_the_task_did_that_it_needs_no_more(tmp_path: Path) -> None:
    """There is no room for both of every node, where they are of gigabytes."""

    async def main() -> None:
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            fresh, shared = adopted(node), node.agent.pool
            for step, do in enumerate(["fill over", "echo", "fill over", "fill", "fill over", "fill over"]):
                x = np.arange(LARGE_BYTES // 4, dtype=np.float32)
                body = await node.task(attack(), large(do, step), {"x": x}, step=step)
                assert (body.arrays["a.x"] == {"fill": step, "echo": x}.get(do, x + step)).all()
                del body
                assert sum(kept.capacity for kept in shared._free) == LARGE_BYTES * (2 if step > 2 else 1)
            assert fresh == [LARGE_BYTES]  # of the one that was made elsewhere

    asyncio.run(main())


@pytest.mark.parametrize("first", [[], ["fill"]], ids=["its own memory", "memory on loan"])
@pytest.mark.parametrize(
    ("do", "answers"), [("fill and keep", 7), ("fill over and keep", 7), ("keep and answer another", -1)]
)
def test_what_an_algorithm_keeps_of_an_answer_is_never_overwritten(
    do: str, answers: int, first: list[str], tmp_path: Path
) -> None:
    async def main() -> None:
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            for step, each in enumerate([*first, do]):
                zero = {"x": np.zeros(LARGE_BYTES // 4, np.float32)}
                body = await node.task(attack(), large(each, 7), zero if "over" in do else {}, step=step)
            assert (body.arrays["a.x"] == answers).all()
            del body
            await node.approved(attack(), "other")
            x = {"x": np.full(LARGE_BYTES // 4, 9, np.float32)}
            for step in range(3):
                await node.task(attack(), large("fill", 9), x, run="other", step=step)
            body = await node.task(attack(), {"do": "kept"}, step=len(first) + 1)
            assert (body.arrays["a.x"] == 7).all()

    asyncio.run(main())


def test_memory_in_use_and_kept_is_no_more_than_was_in_use_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "_KEPT_BYTES", 1 << 20)
    free = shared_memory.available()
    assert free > 0
    monkeypatch.setattr(shared_memory, "available", lambda: free)
    pool = SharedPool()
    held = [pool.shared(3 << 20), pool.shared(3 << 20)]
    held.clear()
    assert sum(kept.capacity for kept in pool._free) == 6 << 20  # more than is kept of what nobody used at once
    held = [pool.shared(3 << 20), pool.shared(16 << 20)]
    assert pool._free == []
    held.clear()
    assert sum(kept.capacity for kept in pool._free) == 19 << 20
    free = 37 << 20  # memory is short: with what is kept it is not three times that, so the oldest goes
    del (held := [pool.shared(2 << 20)])[:]
    assert [kept.capacity for kept in pool._free] == [3 << 20]
    pool.clear()
    del (small := [pool.shared(2 << 20)])[:]
    assert not small
    assert sum(kept.capacity for kept in pool._free) == 2 << 20


def test_shared_memory_that_is_still_looked_at_is_not_given_away() -> None:
    pool = SharedPool()
    first = pool.shared(1 << 20)
    first.write(0, memoryview(b"\x01" * (1 << 20)))
    view = first.read(0, 10)
    del first
    second = pool.shared(1 << 20)
    second.write(0, memoryview(b"\x02" * (1 << 20)))
    assert bytes(view) == b"\x01" * 10
    fd = second.fd
    del second
    third = pool.shared(1 << 20)
    assert third.fd == fd  # nobody looked: used again
    third.lent = True
    del third
    assert not pool._free


def test_a_write_outside_the_buffer_is_refused() -> None:
    buffer = SharedPool().shared(1 << 17)
    with pytest.raises(ValueError, match="do not fit"):
        buffer.write((1 << 17) - 1, memoryview(b"xx"))


def test_incoming_payloads_land_in_shared_memory() -> None:
    pool = SharedPool()
    message = carry(Message("task", "1", "", Record({}, {"x": np.arange(LARGE, dtype=np.float32)})), pool.allocate)
    assert isinstance(message.body.arrays.buffer, SharedBuffer)  # type: ignore[attr-defined]
    assert (message.body.arrays["x"] == np.arange(LARGE)).all()


# ---------------------------------------------------------------- what leaves


def test_long_json_does_not_leave(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, attacks=True, limits=TaskLimits(threads=1, reply_json_kb=10)) as node:
            await node.approved(attack())
            await node.task(attack(), {"do": "long json", "count": 50})
            with pytest.raises(TooLarge):
                await node.task(attack(), {"do": "long json", "count": 500})
            assert node.audit()[-1].action == "task.refused"

    asyncio.run(main())


def test_a_message_over_the_limit_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, attacks=True, limits=TaskLimits(threads=1, message_mb=1)) as node:
            await node.approved(attack())
            with pytest.raises(NotAllowed, match="limits"):
                await node.task(attack(), {"do": "echo"}, {"x": np.zeros(LARGE, np.float32)})
            with pytest.raises(TooLarge):
                await node.task(attack(), {"do": "twice"}, {"x": np.zeros(200_000, np.float32)})

    asyncio.run(main())


def test_a_bad_weight_does_not_leave(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, attacks=True) as node:
            await node.approved(attack())
            with pytest.raises(NotAllowed, match="weight"):
                await node.task(attack(), {"do": "nothing", "weight": -1})

    asyncio.run(main())


def test_code_that_differs_in_the_worker_is_not_run(tmp_path: Path) -> None:
    """The algorithm stands in the bundle, but not in this worker's installation."""

    async def main() -> None:
        async with running(tmp_path) as node:
            await node.approved(attack())
            with pytest.raises((NotApproved, ValueError)):
                await node.task(attack(), {"do": "nothing"})

    asyncio.run(main())


@pytest.mark.long
def test_a_small_task_costs_little(tmp_path: Path) -> None:
    """Gate, audit and worker together, at their best of sixty: whoever sleeps on the way, or starts a process, or reads
    the data again, is never that quick. The figure is measured in bench/."""

    async def main() -> None:
        bundle = probe(1024, num_rounds=100)
        async with running(tmp_path) as node:
            await node.approved(bundle)
            x = {"x": np.zeros(256, np.float32)}
            times, floor = [], []
            for step in range(60):
                began = time.perf_counter()
                await node.task(bundle, {"round": 1}, x, step=step)
                times.append(time.perf_counter() - began)
                began = time.perf_counter()
                await asyncio.to_thread(lambda: None)
                floor.append(time.perf_counter() - began)
            assert min(times) < max(0.01, 100 * min(floor))  # a hundred steps into a thread and back

    asyncio.run(main())
