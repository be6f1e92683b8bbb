"""Two folders kept in step by a real Syncthing, with a coordinator in one and a node in the other."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from folder_federation import FolderFederation

sys.path.insert(0, str(Path(__file__).parents[2]))
from demo.federation import free_port
from hanse.messages import Message, Record
from tests.waiting import PATIENCE

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("syncthing") is None, reason="Syncthing is not installed (apt install syncthing)"),
]
_OFF = ("globalAnnounceEnabled", "localAnnounceEnabled", "relaysEnabled", "natEnabled", "startBrowser")


class Device:
    """One Syncthing with a home and a folder, which calls nobody but the other one."""

    def __init__(self, home: Path, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / ".stfolder").mkdir()
        self.home, self.folder, self.port = home, folder, free_port()
        made = subprocess.run(
            ["syncthing", "generate", "--home", str(home)], capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        found = re.search(r"Device ID: ([A-Z0-9-]+)", made.stdout + made.stderr)
        assert found is not None
        self.id = found[1]

    def configure(self, other: Device) -> None:
        path = self.home / "config.xml"
        tree = ElementTree.parse(path)
        root = tree.getroot()
        folder = root.find("folder")
        assert folder is not None
        folder.set("path", str(self.folder))
        folder.set("fsWatcherDelayS", "1")
        ElementTree.SubElement(folder, "device", {"id": other.id, "introducedBy": ""})
        device = ElementTree.SubElement(root, "device", {"id": other.id, "name": "other", "compression": "never"})
        ElementTree.SubElement(device, "address").text = f"tcp://127.0.0.1:{other.port}"
        for name, text in (
            ("listenAddress", f"tcp://127.0.0.1:{self.port}"),
            ("reconnectionIntervalS", "2"),
            ("crashReportingEnabled", "false"),
            ("urAccepted", "-1"),
            ("autoUpgradeIntervalH", "0"),
            *((name, "false") for name in _OFF),
        ):
            option = root.find(f"options/{name}")
            assert option is not None, name
            option.text = text
        page = root.find("gui/address")
        assert page is not None
        page.text = f"127.0.0.1:{free_port()}"
        tree.write(path)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with (self.home / "log").open("w") as log:
            command = ["syncthing", "serve", "--home", str(self.home), "--no-browser", "--no-restart"]
            process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
            try:
                yield
            finally:
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), 15)
                except TimeoutError:
                    process.kill()
                    await process.wait()


@pytest.mark.timeout(200)
def test_messages_of_every_size_by_a_real_syncthing(tmp_path: Path) -> None:
    async def test() -> None:
        here, there = Device(tmp_path / "st-a", tmp_path / "shared"), Device(tmp_path / "st-b", tmp_path / "remote")
        here.configure(there)
        there.configure(here)
        federation = FolderFederation(tmp_path, of_nodes=there.folder)
        async with asyncio.timeout(180), here.running(), there.running(), federation:
            await federation.node("a")
            for size in (0, 1000, 3 << 20):
                body = Record({"size": size}, {"w": np.arange(size, dtype="u1")})
                reply = await federation.coordinator.request("a", Message("task", f"{size}", body=body))
                np.testing.assert_array_equal(reply.body.arrays["w"], body.arrays["w"])
            assert federation.recorded == []
            names = [path.name for path in (tmp_path / "remote").rglob("*.sealed")]
            assert len(names) < 20  # what was read does not stay

    asyncio.run(test())
