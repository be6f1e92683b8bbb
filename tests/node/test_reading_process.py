"""The process in which an owner's file is read for the first time."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from hanse.errors import DataError, HanseError
from hanse.node.catalogue import Catalogue
from hanse.node.reading_process import ReadingProcess
from hanse.node.settings import NodeSettings
from hanse.node.summaries import summaries, summarise
from hanse.node.surroundings import environment

WAITS = """
import sys, socket
stream = socket.socket(fileno=int(sys.argv[1])).makefile("rwb")
for line in stream:
    {}
"""

DIES_ONCE = """
import os, pathlib, runpy, socket, sys
died = pathlib.Path({!r})
if not died.exists():
    died.touch()
    socket.socket(fileno=int(sys.argv[1])).makefile("rb").readline()
    os.abort()
runpy.run_module("hanse.node.reading_process", run_name="__main__")
"""


def dies(home: Path, how: str) -> ReadingProcess:
    return ReadingProcess(home, ("-c", WAITS.format(how)))


TELLS = WAITS.format('stream.write(json.dumps({"found": dict(os.environ)}).encode() + b"\\n"); stream.flush()')


def test_it_gets_to_know_nothing_of_the_nodes_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may hold tokens and keys, and a library that reads a file may be made to do what the file wants."""
    (tmp_path / "a.csv").write_text("a\n1\n")
    dataset = Catalogue(tmp_path).add(tmp_path / "a.csv")
    for name in ("HANSE_TOKEN", "HANSE_PASSPHRASE", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD_OF_OURS"):
        monkeypatch.setenv(name, "a secret of the node")
    with ReadingProcess(tmp_path, ("-c", "import json, os" + TELLS)) as reading:
        found = reading.summary(tmp_path, dataset, None, 1, lambda share: None)
    assert "a secret of the node" not in found.values()
    assert not {"PATH", "HOME"} & {*found}
    assert found.items() <= {**environment(0), "LC_CTYPE": "C.UTF-8"}.items()  # Python adds that one


def test_it_runs_no_program_that_lies_beside_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner may stand in a folder that somebody sent."""
    (tmp_path / "a.csv").write_text("a\n" + "1\n" * 40)
    for name in ("hanse", "traceback", "polars"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    with ReadingProcess(tmp_path) as reading:
        Catalogue(tmp_path, reading.describe).add(tmp_path / "a.csv")
    assert not (tmp_path / "ran").exists()


def test_it_says_what_is_said_without_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,age,sex\n" + "".join(f"{i},{i % 7},{'fm'[i % 2]}\n" for i in range(40)))
    done: list[float] = []
    here, there = Catalogue(tmp_path / "here"), tmp_path / "there"
    with ReadingProcess(there) as reading:
        found = Catalogue(there, reading.describe).add(tmp_path / "a.csv", subject="id", note=done.append)
        summarise(there, found, "sex", done.append, reading.summary)
    plain = here.add(tmp_path / "a.csv", subject="id")
    summarise(tmp_path / "here", plain, "sex", lambda share: None)
    assert {**found.to_json(), "added_at": ""} == {**plain.to_json(), "added_at": ""}
    assert summaries(there) == summaries(tmp_path / "here")
    assert done[-1] == 1.0


def test_an_error_of_a_reader_is_told_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(DataError) as here:
        Catalogue(tmp_path / "here").add(tmp_path / "a.csv")
    with ReadingProcess(tmp_path / "node") as reading, pytest.raises(DataError) as there:
        Catalogue(tmp_path / "node", reading.describe).add(tmp_path / "a.csv")
    assert there.value.message == here.value.message


def test_after_a_file_of_which_it_died_the_next_is_read(tmp_path: Path) -> None:
    """Whatever a library dies of, who asks goes on, nothing is registered, and the next question is answered."""
    (tmp_path / "a.csv").write_text("a\n1\n2\n3\n")
    home = tmp_path / "node"
    with ReadingProcess(home, ("-c", DIES_ONCE.format(str(tmp_path / "died")))) as reading:
        catalogue = Catalogue(home, reading.describe)
        with pytest.raises(DataError, match=r"^a\.csv: .*died of it.*SIGABRT"):
            catalogue.add(tmp_path / "a.csv")
        assert catalogue.list() == []
        assert catalogue.add(tmp_path / "a.csv").rows == 3


@pytest.mark.parametrize(
    ("how", "said"), [("import os; os.abort()", "SIGABRT"), ("sys.exit(3)", "status 3"), ("stream.close()", "")]
)
def test_where_it_dies_is_said(tmp_path: Path, how: str, said: str) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    with dies(tmp_path / "node", how) as reading, pytest.raises(DataError, match=f"died of it.*{re.escape(said)}"):
        Catalogue(tmp_path / "node", reading.describe).add(tmp_path / "a.csv")


def test_it_takes_no_more_memory_than_the_owner_allows(tmp_path: Path) -> None:
    home = tmp_path / "node"
    NodeSettings.parse({"node_id": "a", "limits": {"memory_mb": 64}}).save(home)
    (tmp_path / "a.csv").write_text("a\n1\n")
    with ReadingProcess(home) as reading:
        Catalogue(home, reading.describe).add(tmp_path / "a.csv")
        assert reading._process is not None
        limits = Path(f"/proc/{reading._process.pid}/limits").read_text()
    (most,) = re.findall(r"^Max data size +(\d+)", limits, re.MULTILINE)
    assert 64 << 20 <= int(most) <= (64 + 256 + 16 * (os.cpu_count() or 1)) << 20


def test_a_fault_of_ours_is_no_error_of_the_files(tmp_path: Path) -> None:
    """So that fuzzing finds it: what is raised in the process that is no error of Hanse is none here."""
    (tmp_path / "a.csv").write_text("a\n1\n")
    how = 'stream.write(b\'{"fault": "KeyError: 1"}\\n\'); stream.flush()'
    with dies(tmp_path / "node", how) as reading, pytest.raises(RuntimeError, match="KeyError: 1") as raised:
        Catalogue(tmp_path / "node", reading.describe).add(tmp_path / "a.csv")
    assert not isinstance(raised.value, HanseError)
