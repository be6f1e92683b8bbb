"""A coordinator and nodes that share nothing but a folder, and what may happen to it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from carrier import Carrier, restore
from folder_federation import FolderFederation
from grpc_federation import authority, echo, identity

from hanse import transports
from hanse.errors import ConfigError, NodeLost, NotAllowed, NotNow
from hanse.messages import Memory, Message, Record
from hanse.transport import Handler, Progress
from hanse.transports import _folder_coordinator, _folder_files, _folder_watch, _folder_wire
from hanse.transports import _folder_papers as papers
from hanse.transports._folder_keys import FreshKey
from tests.waiting import PATIENCE, eventually


def run(test: Coroutine[Any, Any, None]) -> None:
    async def body() -> None:
        async with asyncio.timeout(PATIENCE):
            await test

    asyncio.run(body())


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at now and then is looked at often."""
    monkeypatch.setattr(_folder_watch, "LOOK_S", 0.05)
    monkeypatch.setattr(_folder_watch, "TIDY_EVERY", 2)


def lies_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def noted() -> tuple[list[str], Handler]:
    """What a node was asked, and a node that notes it."""
    seen: list[str] = []

    async def work(peer: str, request: Message, alive: Progress) -> Message:
        seen.append(request.id)
        return await echo(peer, request, alive)

    return seen, work


@contextlib.asynccontextmanager
async def carried(
    home: Path, seed: int = 0, faults: float = 0
) -> AsyncIterator[tuple[FolderFederation, Carrier, Path]]:
    """A federation whose nodes have a folder of their own, which a carrier keeps in step."""
    remote = home / "remote"
    remote.mkdir()
    federation, carrier = FolderFederation(home, of_nodes=remote), Carrier(home / "shared", remote, seed, faults)
    carrying = asyncio.create_task(carrier.run())
    try:
        async with federation:
            yield federation, carrier, remote
    finally:
        carrying.cancel()


# ---------------------------------------------------------------- a day as it should be


def test_nodes_ask_too(tmp_path: Path) -> None:
    async def test() -> None:
        async def answer(peer: str, request: Message, alive: Progress) -> Message:
            return Message("reply", request.id, body=Record({"hello": peer}))

        async with FolderFederation(tmp_path, answer) as federation:
            node = await federation.node("a")
            assert (await node.request(Message("hello", "1"))).body.data == {"hello": "a"}

    run(test())


def test_nothing_in_the_folder_is_in_the_clear(tmp_path: Path) -> None:
    async def test() -> None:
        async with FolderFederation(tmp_path) as federation:
            await federation.node("a")
            seen: list[bytes] = []
            place = _folder_files.place

            def noted(path: Path, content: bytes, **how: Any) -> None:
                seen.append(content)
                place(path, content, **how)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_folder_files, "place", noted)
                body = Record({"word": "cholesterol"}, {"w": np.frombuffer(b"arterial" * 99, "u1")})
                await federation.coordinator.request("a", Message("task", "1", body=body))
            assert len(seen) == 2
            assert not any(word in content for content in seen for word in (b"cholesterol", b"arterial", b"task"))

    run(test())


def test_a_small_exchange_is_two_files_and_none_of_them_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with FolderFederation(tmp_path) as federation:
            await federation.node("a")
            names: list[str] = []
            place = _folder_files.place

            def noted(path: Path, content: bytes, **how: Any) -> None:
                names.append(path.name)
                place(path, content, **how)

            monkeypatch.setattr(_folder_files, "place", noted)
            for i in range(30):
                await federation.coordinator.request("a", Message("task", f"{i}"))
            assert all(name.endswith(".sealed") for name in names)  # that it was read rides along
            assert len(names) == len(set(names)) * 2 == 60  # each number once in each direction
            await eventually(lambda: not [n for n in lies_in(tmp_path / "shared") if n.endswith(".sealed")][4:])

    monkeypatch.setattr(_folder_wire, "_SAY_S", 1000.0)
    run(test())


def test_large_messages_do_not_fill_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_folder_wire, "_UNREAD_BYTES", 4 << 20)
    monkeypatch.setattr(_folder_wire, "_SAY_BYTES", 1 << 20)

    async def test() -> None:
        async with FolderFederation(tmp_path) as federation:
            await federation.node("a")
            body = Record({}, {"w": np.arange(3 << 20, dtype="f8")})
            most = 0

            async def measure() -> None:
                nonlocal most
                while True:
                    sizes = []
                    for path in (tmp_path / "shared").rglob("*.sealed"):
                        with contextlib.suppress(OSError):
                            sizes.append(path.stat().st_size)
                    most = max(most, sum(sizes))
                    await asyncio.sleep(0.005)

            measuring = asyncio.create_task(measure())
            reply = await federation.coordinator.request("a", Message("task", "1", body=body))
            measuring.cancel()
            np.testing.assert_array_equal(reply.body.arrays["w"], body.arrays["w"])
            assert most < 16 << 20 < body.nbytes

    run(test())


def test_the_address_is_a_folder_on_this_machine(tmp_path: Path) -> None:
    for wrong in ("folder://relative/path", "folder://"):
        with pytest.raises(ConfigError, match="no address"):
            transports.line(wrong, None)  # type: ignore[arg-type]
    patience = transports.patience(f"folder://{tmp_path}")
    assert patience.heartbeat_s * patience.missed >= 600  # what is carried takes its time


def test_hub_and_caller_are_served_by_the_file_of_the_scheme(tmp_path: Path) -> None:
    async def test() -> None:
        signer = authority(tmp_path / "authority")
        hub = transports.Hub(
            echo, lambda *_: None, lambda *_: None, lambda hosts: (*signer.issue_server(hosts), signer.pem), tmp_path
        )
        listener = transports.listener(f"folder://{tmp_path}/shared", hub)
        assert not await listener.answers()
        address = await listener.start()
        assert address == f"folder://{tmp_path}/shared"
        assert await listener.answers()
        known, said = identity(signer, "a"), []
        caller = transports.Caller(
            "a", lambda: known, echo, Memory, lambda *what: said.append(what), lambda *_: None, 1 << 30
        )
        line = transports.line(address, caller)
        line.start()
        assert (await listener.request("a", Message("task", "1"))).id == "1"
        assert said[-1] == ("connected", address)
        await line.close()
        await listener.stop()

    run(test())


def test_a_look_takes_some_of_many_nodes_and_the_next_look_others(tmp_path: Path) -> None:
    """Where the system tells of new files, looking is there for what it forgot, and costs little."""

    async def test() -> None:
        coordinator = FolderFederation(tmp_path).coordinator
        looked: list[int] = []

        class Wire:
            def __init__(self, number: int) -> None:
                self.number = number

            def look(self) -> None:
                looked.append(self.number)

        coordinator._wires = {f"n{i}": Wire(i) for i in range(250)}  # type: ignore[misc]
        for _ in range(3):
            before = len(looked)
            await coordinator._look()
            assert len(looked) - before <= 100
        assert set(looked) == set(range(250))
        await coordinator.stop()

    run(test())


# ---------------------------------------------------------------- who may come in


def test_who_is_turned_away_is_told_and_comes_in_later(tmp_path: Path) -> None:
    async def test() -> None:
        welcome = asyncio.Event()

        def accept(node: str, fingerprint: str) -> None:
            assert len(fingerprint) == 64
            if not welcome.is_set():
                raise NotAllowed("node 'a' is revoked; ask the operator to reinstate it")

        said: list[tuple[str, str]] = []
        async with FolderFederation(tmp_path, accept=accept) as federation:
            await federation.node("a", wait=False, report=lambda *what: said.append(what))
            await eventually(lambda: ("turned away", "node 'a' is revoked; ask the operator to reinstate it") in said)
            assert federation.coordinator.online() == frozenset()
            assert "not accepted" in federation.kinds()
            welcome.set()
            assert (await federation.coordinator.request("a", Message("task", "1"))).id == "1"

    run(test())


def test_where_nobody_can_say_who_may_come_in_a_node_waits_and_is_not_turned_away(tmp_path: Path) -> None:
    async def test() -> None:
        looks = 0

        def accept(node: str, fingerprint: str) -> None:
            nonlocal looks
            looks += 1
            if looks < 3:
                raise NotNow("the database is away")

        said: list[tuple[str, str]] = []
        async with FolderFederation(tmp_path, accept=accept) as federation:
            await federation.node("a", wait=False, report=lambda *what: said.append(what))
            assert (await federation.coordinator.request("a", Message("task", "1"))).id == "1"
            assert "turned away" not in dict(said)
            assert federation.kinds() == []

    run(test())


def test_a_hello_in_the_directory_of_another_node_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with FolderFederation(tmp_path) as federation:
            number = federation.coordinator.number
            forged = papers.Greeting(identity(federation.authority, "b"), papers.Announcement(number)).paper
            place = tmp_path / "shared" / "to-coordinator" / "a"
            place.mkdir(parents=True)
            _folder_files.place(place / "hello.json", forged)
            await eventually(lambda: federation.recorded)
            ((node, what, detail),) = federation.recorded
            assert (node, what) == ("a", "not accepted")
            assert "'b'" in detail
            assert federation.coordinator.online() == frozenset()

    run(test())


def test_a_node_believes_no_coordinator_of_another_authority(tmp_path: Path) -> None:
    async def test() -> None:
        said: list[tuple[str, str]] = []
        async with FolderFederation(tmp_path) as federation:
            stranger = identity(authority(tmp_path / "other"), "a")
            await federation.node("a", known=stranger, wait=False, report=lambda *what: said.append(what))
            await eventually(lambda: said)
            assert said[0][0] == "not possible"
            assert "authority" in said[0][1]
            assert not (tmp_path / "shared" / "to-coordinator" / "a" / "hello.json").exists()

    run(test())


def test_a_second_coordinator_is_not_started_in_the_same_folder(tmp_path: Path) -> None:
    async def test() -> None:
        async with FolderFederation(tmp_path) as first:
            second = FolderFederation(tmp_path)
            second.authority = authority(tmp_path / "other")
            with pytest.raises(ConfigError, match="another coordinator"):
                await second.coordinator.start()
            await second.coordinator.stop()
            await first.node("a")
            assert (await first.coordinator.request("a", Message("task", "1"))).id == "1"

    run(test())


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    async def test() -> None:
        said: list[tuple[str, str]] = []
        federation = FolderFederation(tmp_path, of_nodes=tmp_path / "not mounted")
        await federation.node("a", wait=False, report=lambda *what: said.append(what))
        await eventually(lambda: said)
        assert said[0][0] == "not possible"
        assert "is it synchronised to this machine?" in said[0][1]
        (tmp_path / "not mounted").mkdir()
        await eventually(lambda: said[-1][0] == "disconnected")
        assert "no coordinator has announced itself" in said[-1][1]
        await federation.nodes[0].close()
        await federation.coordinator.stop()

    run(test())


# ---------------------------------------------------------------- days off line


def test_who_comes_back_on_monday_answers_what_is_still_wanted(tmp_path: Path) -> None:
    async def test() -> None:
        seen, work = noted()
        async with FolderFederation(tmp_path) as federation:
            node = await federation.node("a", work)
            await federation.coordinator.request("a", Message("task", "friday"))
            await node.close()
            await eventually(lambda: not federation.coordinator.online())
            given_up = asyncio.create_task(federation.coordinator.request("a", Message("task", "saturday")))
            wanted = asyncio.create_task(federation.coordinator.request("a", Message("task", "sunday")))
            await asyncio.sleep(0.05)
            given_up.cancel()
            await federation.node("a", work)
            assert (await wanted).id == "sunday"
            assert seen == ["friday", "sunday"]

    run(test())


def test_a_machine_that_slept_goes_on_in_the_same_session_and_does_not_begin_what_was_given_up(tmp_path: Path) -> None:
    async def test() -> None:
        seen, work = noted()
        async with carried(tmp_path) as (federation, carrier, remote):
            await federation.node("a", work)
            session = {n[:32] for n in lies_in(remote) if "welcome" in n}
            carrier.stopped = True
            given_up = asyncio.create_task(federation.coordinator.request("a", Message("task", "saturday")))
            await asyncio.sleep(0.05)
            given_up.cancel()
            wanted = asyncio.create_task(federation.coordinator.request("a", Message("task", "sunday")))
            await asyncio.sleep(0.3)
            assert not wanted.done()
            assert federation.coordinator.online() == {"a"}  # whether it is there, its heartbeats say
            carrier.stopped = False
            assert (await wanted).id == "sunday"
            assert seen == ["sunday"]
            assert {n[:32] for n in lies_in(remote) if "welcome" in n} == session

    run(test())


def test_a_coordinator_that_was_killed_is_found_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with FolderFederation(tmp_path) as federation:
            said: list[tuple[str, str]] = []
            await federation.node("a", report=lambda *what: said.append(what))
            first, federation.coordinator = federation.coordinator, federation.make()
            await first._watch.stop()  # type: ignore[union-attr]  # no goodbye: it reads and writes nothing any more
            await federation.coordinator.start()
            assert (await federation.coordinator.request("a", Message("task", "1"))).id == "1"
            assert ("disconnected", "the coordinator was started anew") in said
            await first.stop()

    run(test())


def test_a_node_that_was_killed_begins_anew_and_is_asked_again(tmp_path: Path) -> None:
    async def test() -> None:
        began = asyncio.Event()

        async def stuck(peer: str, request: Message, alive: Progress) -> Message:
            began.set()
            await asyncio.Event().wait()
            raise AssertionError

        async with FolderFederation(tmp_path) as federation:
            killed = await federation.node("a", stuck)
            asking = asyncio.create_task(federation.coordinator.request("a", Message("task", "1")))
            await began.wait()
            killed._desk.shutdown()  # no goodbye: it reads and writes nothing any more
            killed._task.cancel()  # type: ignore[union-attr]
            await federation.node("a", echo)
            assert (await asking).id == "1"
            assert federation.kinds() == ["second stream"]
            await eventually(lambda: not [n for n in lies_in(tmp_path / "shared") if n.endswith(".sealed")][4:])

    run(test())


def test_the_end_of_a_session_touches_nothing_of_the_next_one(tmp_path: Path) -> None:
    """Both may be written at the same moment: a node that was killed begins anew while its older session ends."""

    async def test() -> None:
        with ThreadPoolExecutor(1) as desk:
            keys, session, following = FreshKey().shared(FreshKey().text, b"", b"test"), "ab" * 16, "cd" * 16
            wire = _folder_wire.FolderWire(session, tmp_path, tmp_path, keys.of_node, keys.of_coordinator, desk)
            for name in (f"{following}.welcome.json", f"{following}.0000000000.sealed", f"{session}.0000000000.sealed"):
                (tmp_path / name).touch()
            wire.tidy()
            wire.end("a newer connection took over")
            await eventually(lambda: (tmp_path / f"{session}.bye").exists())
        assert lies_in(tmp_path) == [f"{session}.bye", f"{following}.0000000000.sealed", f"{following}.welcome.json"]

    run(test())


def test_a_welcome_that_was_removed_is_put_back(tmp_path: Path) -> None:
    async def test() -> None:
        remote = tmp_path / "remote"
        remote.mkdir()
        federation = FolderFederation(tmp_path, of_nodes=remote)
        carrier = Carrier(tmp_path / "shared", remote, faults=0)
        async with federation:
            carrier.step()
            node = await federation.node("a", wait=False)
            await eventually(lambda: list(remote.rglob("hello.json")))
            await eventually(lambda: carrier.step() or list((tmp_path / "shared").rglob("*.welcome.json")))
            for path in [*(tmp_path / "shared").rglob("*.welcome.json"), *remote.rglob("*.welcome.json")]:
                path.unlink()
            carrying = asyncio.create_task(carrier.run())
            await node.connected()
            assert (await federation.coordinator.request("a", Message("task", "1"))).id == "1"
        carrying.cancel()

    run(test())


def test_who_is_disconnected_is_lost_and_may_come_back(tmp_path: Path) -> None:
    async def test() -> None:
        async def stuck(peer: str, request: Message, alive: Progress) -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async with FolderFederation(tmp_path) as federation:
            said: list[tuple[str, str]] = []
            await federation.node("a", stuck, report=lambda *what: said.append(what))
            asking = asyncio.create_task(federation.coordinator.request("a", Message("task", "1")))
            await asyncio.sleep(0.05)
            federation.coordinator.disconnect("a", "the node was revoked")
            with pytest.raises(NodeLost, match="revoked"):
                await asking
            await eventually(lambda: ("disconnected", "the node was revoked") in said)
            await eventually(lambda: federation.coordinator.online() == {"a"})

    run(test())


# ---------------------------------------------------------------- what becomes of files on their way


@pytest.mark.parametrize("seed", range(4))
def test_late_out_of_order_in_halves_twice_and_copied(tmp_path: Path, seed: int) -> None:
    async def test() -> None:
        seen, work = noted()
        async with carried(tmp_path, seed, faults=0.4) as (federation, carrier, remote):
            for name in "ab":
                await federation.node(name, work)

            async def ask(i: int) -> None:
                body = Record({"i": i}, {"w": np.full(i * 1000, i)})
                reply = await federation.coordinator.request("ab"[i % 2], Message("task", f"{i}", body=body))
                assert reply.body.data == {"i": i}
                np.testing.assert_array_equal(reply.body.arrays["w"], body.arrays["w"])

            for begin in range(0, 60, 6):
                await asyncio.gather(*(ask(i) for i in range(begin, begin + 6)))
            assert sorted(map(int, seen)) == list(range(60))  # each once
            for half in (0, 1):
                own = [int(i) for i in seen if int(i) % 2 == half]
                assert own == sorted(own)  # as they were asked
            await eventually(lambda: "conflicted copy" in federation.kinds())
            assert set(federation.kinds()) == {"conflicted copy"}
            assert min(carrier.did[what] for what in ("late", "cut", "beside", "in place", "back again")) > 0

    run(test())


def test_old_files_that_are_put_back_are_not_read_again(tmp_path: Path) -> None:
    async def test() -> None:
        seen, work = noted()
        async with carried(tmp_path) as (federation, carrier, remote):
            first = await federation.node("a", work)
            for i in range(3):
                await federation.coordinator.request("a", Message("task", f"old {i}"))
            await first.close()
            await eventually(lambda: not federation.coordinator.online())
            kept = dict(carrier.kept)
            assert {path.suffix for path in kept} >= {".sealed", ".json", ".bye"}
            await federation.node("a", work)
            restore(kept)  # the old hello too, over the new one, and the old goodbye
            await asyncio.sleep(0.3)
            assert (await federation.coordinator.request("a", Message("task", "new"))).id == "new"
            assert seen == ["old 0", "old 1", "old 2", "new"]
            assert "second stream" not in federation.kinds()

    run(test())


def test_a_file_that_was_changed_ends_the_session_and_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_folder_wire, "_TAMPERED_S", 0.2)

    async def test() -> None:
        async with carried(tmp_path) as (federation, carrier, remote):
            await federation.node("a")
            carrier.stopped = True
            asking = asyncio.create_task(federation.coordinator.request("a", Message("task", "1")))
            source = tmp_path / "shared" / "to-nodes" / "a"
            await eventually(lambda: list(source.glob("*.sealed")))
            (path,) = source.glob("*.sealed")
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            (remote / "to-nodes" / "a" / path.name).write_bytes(content)
            carrier._there[path] = (path.stat().st_size, path.stat().st_mtime_ns)  # carried, it believes
            carrier.stopped = False
            assert (await asking).id == "1"
            assert federation.kinds() == ["tampered"]

    run(test())


def test_what_was_removed_before_it_was_read_is_sent_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with carried(tmp_path) as (federation, carrier, remote):
            await federation.node("a")
            carrier.stopped = True
            asking = asyncio.create_task(federation.coordinator.request("a", Message("task", "1")))
            source = tmp_path / "shared" / "to-nodes" / "a"
            await eventually(lambda: list(source.glob("*.sealed")))
            for path in source.glob("*.sealed"):
                path.unlink()
            carrier.stopped = False
            assert (await asking).id == "1"
            assert federation.kinds() == []

    run(test())


def test_without_news_of_the_system_files_are_found_by_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from watchdog.observers import Observer

    def full(self: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left: the limit of watches is reached")

    monkeypatch.setattr(Observer, "start", full)

    async def test() -> None:
        async with FolderFederation(tmp_path) as federation:
            await federation.node("a")
            for i in range(3):
                assert (await federation.coordinator.request("a", Message("task", f"{i}"))).id == f"{i}"

    run(test())


def test_a_disk_that_is_full_for_a_while_ends_a_session_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with FolderFederation(tmp_path) as federation:
            await federation.node("a")
            place, full = _folder_files.place, 3

            def placed(path: Path, content: bytes, **how: Any) -> None:
                nonlocal full
                if full:
                    full -= 1
                    raise OSError(errno.ENOSPC, "No space left on device")
                place(path, content, **how)

            monkeypatch.setattr(_folder_files, "place", placed)
            assert (await federation.coordinator.request("a", Message("task", "1"))).id == "1"
            assert full == 0

    run(test())


def test_a_hello_whose_answer_could_not_be_written_is_answered_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        def accept(node: str, fingerprint: str) -> None:
            raise NotAllowed("node 'a' is revoked")

        place, full = _folder_files.place, 1

        def placed(path: Path, content: bytes, **how: Any) -> None:
            nonlocal full
            if full and path.name.endswith(".welcome.json"):
                full -= 1
                raise OSError(errno.ENOSPC, "No space left on device")
            place(path, content, **how)

        monkeypatch.setattr(_folder_files, "place", placed)
        said: list[tuple[str, str]] = []
        async with FolderFederation(tmp_path, accept=accept) as federation:
            await federation.node("a", wait=False, report=lambda *what: said.append(what))
            await eventually(lambda: ("turned away", "node 'a' is revoked") in said)
        assert full == 0

    run(test())


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "link", "folder", "missing"):
        assert _folder_files.read(tmp_path / name, 10) is None
    assert _folder_files.read(tmp_path / "secret", 10) == b"x"
    (tmp_path / "large").write_bytes(b"x" * 100)
    assert len(_folder_files.read(tmp_path / "large", 10) or b"") == 11


def test_cleaning_leaves_what_is_not_ours(tmp_path: Path) -> None:
    session, older = "ab" * 16, "cd" * 16
    ours = [_folder_files.sealed(session, n) for n in range(4)] + [f"{session}.welcome.json"]
    old = [_folder_files.sealed(older, 9), f"{older}.seen", f"{older}.bye"]
    foreign = ["hello.json", "notes.txt", f"{session}.0000000001.sync-conflict-20260101-000000-A.sealed", ".stfolder"]
    for name in (*ours, *old, *foreign):
        (tmp_path / name).touch()
    assert _folder_files.trim(tmp_path, session, 2) == {2, 3}
    assert lies_in(tmp_path) == sorted([*ours[2:], *old, *foreign])
    _folder_files.clean(tmp_path, session)
    assert lies_in(tmp_path) == sorted([*ours[2:], *foreign])


NAMES = {
    f"{'ab' * 16}.0000000001.sync-conflict-20261129-120000-ABCDEFG.sealed": "Syncthing",
    f"{'ab' * 16}.0000000001 (conflicted copy 2026-11-29 120000).sealed": "Nextcloud",
    "hello (Ada's conflicted copy 2026-11-29).json": "Dropbox",
    "hello-LAPTOP-7.json": "OneDrive",
    "announcement (1).json": "Google Drive",
    "hello_conflict-20261129-120000.json": "ownCloud",
}


@pytest.mark.parametrize("name", NAMES, ids=NAMES.values())
def test_the_copies_of_each_tool_are_known(name: str) -> None:
    assert _folder_files.conflicted(name)
    assert not _folder_files.named(name)


@pytest.mark.parametrize(
    "name",
    [
        f".syncthing.{'ab' * 16}.0000000001.sealed.tmp",
        f"~syncthing~{'ab' * 16}.0000000001.sealed.tmp",
        f".{'ab' * 16}.0000000001.sealed.~1a2b",
        f"{'ab' * 16}.0000000001.sealed.part",
        "hello.json.filepart",
    ],
)
def test_what_is_on_its_way_is_neither_ours_nor_a_copy(name: str) -> None:
    assert not _folder_files.conflicted(name)
    assert not _folder_files.named(name)


def test_an_answer_that_never_comes_is_the_runs_to_give_up_not_the_transports(tmp_path: Path) -> None:
    """A task may take longer than any sign of life: no clock of the transport ends it."""

    async def test() -> None:
        progress: list[int] = []
        release = asyncio.Event()

        async def slow(peer: str, request: Message, alive: Progress) -> Message:
            await release.wait()
            return Message("reply", request.id)

        async with FolderFederation(tmp_path) as federation:
            await federation.node("a", slow, alive_every=0.05)
            asking = asyncio.create_task(
                federation.coordinator.request("a", Message("task", "1"), lambda: progress.append(1))
            )
            await eventually(lambda: len(progress) > 3)  # each sign of life is progress
            assert not asking.done()
            release.set()
            assert (await asking).id == "1"
        return None

    run(test())  # type: ignore[arg-type]


def test_sessions_end_with_the_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_folder_coordinator, "_LONGEST_SESSION", 0.2)

    async def test() -> None:
        async with FolderFederation(tmp_path) as federation:
            said: list[tuple[str, str]] = []
            await federation.node("a", report=lambda *what: said.append(what))
            await eventually(lambda: said.count(("disconnected", "the node has to show its certificate again")) >= 2)
            assert (await federation.coordinator.request("a", Message("task", "1"))).id == "1"

    run(test())
