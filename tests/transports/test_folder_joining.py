"""A node that is enrolled through a shared folder, and who cannot be."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from carrier import Carrier
from folder_federation import FolderFederation
from grpc_federation import authority, new_key

from hanse import transports
from hanse.errors import ConfigError, NotAuthenticated, WireError
from hanse.identity import Authority, csr
from hanse.transports import _folder_joining as joining
from hanse.transports import _folder_papers as papers
from hanse.transports import _folder_watch
from hanse.transports._folder_keys import FreshKey
from tests.waiting import PATIENCE


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_folder_watch, "LOOK_S", 0.05)
    monkeypatch.setattr(joining, "LOOK_S", 0.01)


def run(test: Any) -> None:
    async def body() -> None:
        async with asyncio.timeout(PATIENCE):
            await test

    asyncio.run(body())


def wanted(secret: str = "s3cret") -> dict[str, str]:
    return {"token": secret, "node_id": "a", "csr": csr(new_key(), "a").decode()}


class Desk:
    """What a coordinator does with who wants to join: one secret, once."""

    def __init__(self, signer: Authority) -> None:
        self.signer, self.used, self.asked = signer, False, 0

    async def enrol(self, asked: Mapping[str, str]) -> dict[str, str]:
        self.asked += 1
        if self.used or asked["token"] != "s3cret":
            raise NotAuthenticated("the join token is unknown, used or expired; ask for a new one")
        self.used = True
        certificate = self.signer.issue_node(asked["csr"].encode(), asked["node_id"]).decode()
        return {"node_id": "a", "certificate": certificate, "ca": self.signer.pem.decode(), "address": "folder:///x"}


async def join(root: Path, asked: Mapping[str, str], pin: str, said: list[str] | None = None) -> dict[str, Any]:
    say = (said if said is not None else []).append
    return await asyncio.to_thread(transports.enrol, f"folder://{root}", asked, pin, say)


def test_a_token_buys_a_certificate_and_the_secret_is_not_in_the_folder(tmp_path: Path) -> None:
    async def test() -> None:
        signer = authority(tmp_path / "authority")
        desk = Desk(signer)
        remote = tmp_path / "remote"
        remote.mkdir()
        carrier = Carrier(tmp_path / "shared", remote, faults=0.3)
        carrying = asyncio.create_task(carrier.run())
        async with FolderFederation(tmp_path, enrol=desk.enrol):
            said: list[str] = []
            found = await join(remote, wanted(), signer.fingerprint(), said)
            assert found["certificate"].startswith("-----BEGIN CERTIFICATE")
            assert "waits for the coordinator's answer" in said[0]
            assert desk.asked == 1
            assert not list((remote / "joining").iterdir())  # it tidies up after itself
            assert not any(b"s3cret" in content for content in carrier.kept.values())
            assert {path.parent.name for path in carrier.kept} >= {"joining", "joined"}
            with pytest.raises(NotAuthenticated, match="unknown, used or expired"):
                await join(remote, wanted(), signer.fingerprint())
        carrying.cancel()

    run(test())


def test_a_copy_under_another_name_is_not_answered(tmp_path: Path) -> None:
    """It would be answered with the keys of the first, and one key and nonce would seal two texts."""

    async def test() -> None:
        signer = authority(tmp_path / "authority")
        desk = Desk(signer)
        shared = tmp_path / "shared"
        async with FolderFederation(tmp_path, enrol=desk.enrol):
            paper = (shared / "coordinator" / "announcement.json").read_bytes()
            session, content, _ = joining.request(paper, wanted(), signer.fingerprint())
            for name in (papers.new_number(), session):
                (shared / "joining" / f"{name}.request.json").write_bytes(content)
            while not (shared / "joined" / f"{session}.answer.json").exists():
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert desk.asked == 1
            assert len(list((shared / "joined").iterdir())) == 1

    run(test())


def test_a_folder_of_another_coordinator_is_not_told_the_secret(tmp_path: Path) -> None:
    async def test() -> None:
        signer = authority(tmp_path / "authority")
        desk = Desk(signer)
        async with FolderFederation(tmp_path, enrol=desk.enrol):
            with pytest.raises(NotAuthenticated, match="somebody may be in between"):
                await join(tmp_path / "shared", wanted(), authority(tmp_path / "other").fingerprint())
            assert desk.asked == 0
            assert not list((tmp_path / "shared" / "joining").iterdir())

    run(test())


def test_an_announcement_that_shows_the_right_authority_and_is_not_signed_by_it(tmp_path: Path) -> None:
    signer, liar = authority(tmp_path / "authority"), authority(tmp_path / "other")
    paper = papers.announcement(papers.new_number(), FreshKey().text, *liar.issue_server(["localhost"]), signer.pem)
    with pytest.raises(NotAuthenticated, match="authority"):
        joining.request(paper, wanted(), signer.fingerprint())


def test_a_coordinator_that_is_started_anew_is_asked_again(tmp_path: Path) -> None:
    async def test() -> None:
        signer = authority(tmp_path / "authority")
        desk = Desk(signer)
        federation = FolderFederation(tmp_path)  # nobody can join at the first one
        await federation.coordinator.start()
        asking = asyncio.create_task(join(tmp_path / "shared", wanted(), signer.fingerprint()))
        await asyncio.sleep(0.2)
        await federation.coordinator.stop()
        federation.options["enrol"] = desk.enrol
        federation.coordinator = federation.make()
        await federation.coordinator.start()
        assert (await asking)["node_id"] == "a"
        await federation.coordinator.stop()

    run(test())


def test_what_nobody_sealed_for_this_start_is_not_answered(tmp_path: Path) -> None:
    async def test() -> None:
        signer = authority(tmp_path / "authority")
        desk = Desk(signer)
        async with FolderFederation(tmp_path, enrol=desk.enrol) as federation:
            place = tmp_path / "shared" / "joining"
            other = papers.announcement(
                federation.coordinator.number, FreshKey().text, *signer.issue_server(["localhost"]), signer.pem
            )
            session, content, _ = joining.request(other, wanted(), signer.fingerprint())
            (place / f"{session}.request.json").write_bytes(content)
            for number, wrong in enumerate([b"{}\n", b"[]\n", b"\xff\n", b'{"sealed": "!", "key": ""}\n']):
                (place / f"{number:032x}.request.json").write_bytes(wrong)
            await asyncio.sleep(0.3)
            assert desk.asked == 0
            assert not list((tmp_path / "shared" / "joined").iterdir())
            assert (await join(tmp_path / "shared", wanted(), signer.fingerprint()))["node_id"] == "a"

    run(test())


def test_an_answer_that_somebody_else_put_there_is_not_believed(tmp_path: Path) -> None:
    async def test() -> None:
        signer = authority(tmp_path / "authority")
        answered = threading.Event()

        async def enrol(asked: Mapping[str, str]) -> dict[str, str]:
            await asyncio.to_thread(answered.wait)
            return {"node_id": "a"}

        async with FolderFederation(tmp_path, enrol=enrol):
            asking = asyncio.create_task(join(tmp_path / "shared", wanted(), signer.fingerprint()))
            place = tmp_path / "shared" / "joining"
            while not list(place.glob("*.request.json")):
                await asyncio.sleep(0.01)
            (path,) = place.glob("*.request.json")
            forged = joining.answer(FreshKey().shared(FreshKey().text, b"", b"joining"), {"node_id": "liar"})
            (tmp_path / "shared" / "joined" / path.name.replace("request", "answer")).write_bytes(forged)
            await asyncio.sleep(0.1)
            assert not asking.done()
            answered.set()
            assert (await asking) == {"node_id": "a"}

    run(test())


def test_only_a_way_that_offers_it_enrols(tmp_path: Path) -> None:
    assert transports.enrols(f"folder://{tmp_path}")
    assert not transports.enrols("grpc://coordinator.example:8080")
    with pytest.raises(ConfigError, match="is it synchronised"):
        transports.enrol(f"folder://{tmp_path}/missing", wanted(), "ab" * 32, print)


def test_what_is_opened_is_an_object_of_texts(tmp_path: Path) -> None:
    signer, own, number = authority(tmp_path / "authority"), FreshKey(), papers.new_number()
    paper = papers.announcement(number, own.text, *signer.issue_server(["localhost"]), signer.pem)
    session, content, _ = joining.request(paper, {"token": 7}, signer.fingerprint())  # type: ignore[dict-item]
    with pytest.raises(WireError, match="object of texts"):
        joining.opened(own, number, session, content)
    assert json.loads(content).keys() == {"key", "sealed"}
