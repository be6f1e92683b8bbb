"""A project that runs an experiment, written into a folder (syft-flwr's bootstrap: rows S6, S7, S9, S10)."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hanse.cli import group
from hanse.errors import ConfigError, Conflict, HanseError
from hanse.experiment.bootstrap import bootstrap
from hanse.experiment.results import load_result
from tests.waiting import PATIENCE

NODES = ("--node", "ulm", "--node", "bonn")
RUN = ("--model", "logistic_regression", "--target", "y", "--rounds", "2", "--set", "sample_id_column=null")


def hanse(*arguments: str) -> Result:
    done = CliRunner().invoke(group, ["bootstrap", *arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done


def python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def table(path: Path, shift: int) -> Path:
    rows = [f"{i + shift},{(i * 7) % 5},{'yes' if (i + shift) % 3 else 'no'}" for i in range(40)]
    path.write_text("\n".join(["a,b,y", *rows]) + "\n")
    return path


def test_the_project_runs_on_files_and_says_how_it_ended(tmp_path: Path) -> None:
    folder = tmp_path / "My Experiment"
    said = hanse(str(folder), *NODES, *RUN).output
    assert str(folder / "main.py") in said
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["name"] == "my-experiment"
    assert project["tool"]["hanse"]["nodes"] == ["ulm", "bonn"]
    assert project["tool"]["hanse"]["run"]["num_rounds"] == 2
    files = [f"{name}={table(tmp_path / f'{name}.csv', i)}" for i, name in enumerate(("ulm", "bonn"))]
    done = python(folder / "main.py", "--simulate", *files)
    assert done.returncode == 0, done.stderr
    result = load_result(folder / "outputs" / "result.safetensors")
    assert result.nodes == ["bonn", "ulm"]
    for wrong in (files[:1], [*files, f"koeln={tmp_path / 'ulm.csv'}"], [files[0], files[0]]):
        failed = python(folder / "main.py", "--simulate", *wrong)
        assert failed.returncode == 1  # what syft-flwr drops without a word
        assert "once for each of ulm, bonn" in failed.stderr
        assert "Traceback" not in failed.stderr
    missing = python(folder / "main.py", "--simulate", files[0], "bonn=nowhere.csv")
    assert missing.returncode == 1


def test_a_coordinator_that_is_not_there_is_an_error_and_not_a_success(tmp_path: Path) -> None:
    hanse(str(tmp_path / "p"), *NODES, *RUN, "--url", "http://127.0.0.1:9")
    failed = subprocess.run(
        [sys.executable, str(tmp_path / "p" / "main.py")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HANSE_TOKEN": "t", "HOME": str(tmp_path)},
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("main.py: ")


def test_nothing_that_is_there_is_changed(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("mine")
    with pytest.raises(Conflict, match="main.py already"):
        hanse(str(tmp_path), *NODES, *RUN)
    assert (tmp_path / "main.py").read_text() == "mine"
    assert not (tmp_path / "pyproject.toml").exists()


def test_a_project_that_is_there_gets_one_table_more(tmp_path: Path) -> None:
    before = (
        '# my own\n[project]\nname = "x"\ndependencies = ["Hanse[all] >= 0.1", "numpy"]\n[tool.ruff]\nline-length = 99'
    )
    (tmp_path / "pyproject.toml").write_text(before)
    _, todo = bootstrap(tmp_path, {"target": "y", "model": "xgboost", "expected_client_ids": ["ulm"]})
    after = (tmp_path / "pyproject.toml").read_text()
    assert after.startswith(before)
    assert todo == ""
    assert tomllib.loads(after)["tool"]["ruff"] == {"line-length": 99}
    (tmp_path / "main.py").unlink()
    with pytest.raises(Conflict, match=r"\[tool.hanse\] already"):
        bootstrap(tmp_path, {"target": "y", "expected_client_ids": ["ulm"]})
    assert (tmp_path / "pyproject.toml").read_text() == after
    assert not (tmp_path / "main.py").exists()


def test_a_dependency_that_lacks_is_said(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["hanse-tools", "numpy"]\n')
    _, todo = bootstrap(tmp_path, {"target": "y", "expected_client_ids": ["ulm"]})
    assert "add hanse[scientist]" in todo


@pytest.mark.parametrize("text", ["tool = {ruff = {}}\n", "[[tool.hanse_x]]\n[tool", "a = 'never closed"])
def test_what_no_table_can_be_added_to_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigError):
        bootstrap(tmp_path, {"target": "y", "expected_client_ids": ["ulm"]})
    assert (tmp_path / "pyproject.toml").read_text() == text
    assert not (tmp_path / "main.py").exists()


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([], "name the nodes"),
        (["ulm", "ulm"], "distinct names"),
        (["ulm", "coordinator"], "reserved"),
        (["a/b"], "no node id"),
    ],
)
def test_who_takes_part_is_checked(tmp_path: Path, nodes: list[str], said: str) -> None:
    with pytest.raises(HanseError, match=said):
        bootstrap(tmp_path / "p", {"target": "y", "expected_client_ids": nodes})
    assert not (tmp_path / "p").exists()


def test_every_setting_reads_back_as_it_was(tmp_path: Path) -> None:
    given = {
        "model": "sgd_classifier",
        "target": 'the "y"',
        "purpose": "ä\n\\ ü \x7f 😀",
        "features": ["a", "b c"],
        "model_options": {"alpha": 1e-05, "penalty": "l2"},
        "expected_client_ids": ["ulm", "bonn"],
    }
    bootstrap(tmp_path, given)
    about = tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]["hanse"]
    from hanse.experiment.configuring import configure

    assert configure({**about["run"], "expected_client_ids": about["nodes"]}) == configure(given)
