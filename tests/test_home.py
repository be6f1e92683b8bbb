"""A folder has one holder, and is left alone by a release that is older than what it holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hanse
from hanse import home
from hanse.errors import ConfigError, Conflict


def test_one_process_holds_it_and_says_which(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from hanse.home import hold; "
        "hold(Path(sys.argv[1]), 'node'); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=-1, stdout=-1, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Conflict, match=f"a node is running in this folder already .process {holder.pid}."):
        home.hold(tmp_path, "node")
    holder.kill()
    holder.communicate()
    os.close(home.hold(tmp_path, "node"))  # a killed one holds nothing


def test_what_the_first_release_left_is_taken_and_marked(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('node_id = "a"\n')
    os.close(home.hold(tmp_path, "node"))
    assert json.loads((tmp_path / home.FILE).read_text()) == {
        "kind": "node",
        "format": home.FORMATS["node"],
        "release": hanse.__version__,
    }


@pytest.mark.parametrize("kind", ["node", "coordinator"])
def test_a_newer_one_is_refused_by_name_and_not_changed(tmp_path: Path, kind: str) -> None:
    text = json.dumps({"kind": kind, "format": 9, "release": "7.8.9", "more": True})
    (tmp_path / home.FILE).write_text(text)
    for look in (home.check, home.hold):
        with pytest.raises(
            ConfigError, match=r"written by hanse 7\.8\.9, format 9; this is hanse .*install hanse 7\.8\.9"
        ):
            look(tmp_path, kind)
    assert (tmp_path / home.FILE).read_text() == text
    group = "node" if kind == "node" else "coordinator"
    arguments = ["policy", "show"] if kind == "node" else ["account", "list"]
    done = subprocess.run(
        [sys.executable, "-m", "hanse.cli", group, *arguments, "--home", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "written by hanse 7.8.9" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_another_kind_and_a_damaged_mark(tmp_path: Path) -> None:
    os.close(home.hold(tmp_path, "node"))
    with pytest.raises(ConfigError, match="the home of a node, not of a coordinator"):
        home.check(tmp_path, "coordinator")
    (tmp_path / home.FILE).write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        home.check(tmp_path, "node")
