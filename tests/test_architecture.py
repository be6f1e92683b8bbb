"""The structure of the house: who may import whom, and what stays light."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hanse.bundle import node_code
from hanse.config import RunConfig
from hanse.registry import find, names
from tests.sources import FILES, ROOT, nodes, tree

INGREDIENTS = (
    "algorithms",
    "models",
    "tasks",
    "objectives",
    "selection",
    "gathering",
    "transforms",
    "policy",
    "ledgers",
    "statistics",
    "noised_statistics",
    "attacks",
    "measures",
)
SHOWN = (
    "learning",
    "boosting",
    "flower",
    "privacy",
    *INGREDIENTS,
)  # an owner reads all of these rooms that runs at the node
GROUND = (
    "kinds",
    "choice",
    "gather",
    "transport",
    "network_driver",
    "task",
    "model",
    "rule",
    "ledger",
    "facts",
    "registry",
    "comparison",
    "curvature",
    "convex",
    "settings",
    "json_writer",
    "toml_text",
    "messages",
    "codec",
    "training",
    "typed",
    "errors",
    "table",
    "config",
    "features",
    "stages",
    "thresholds",
    "terminal",
    "queries",
    "presentation",
    "rough",
    "suppression",
    "subjects",
    "budgets",
    "researcher_code",
    "noised",
    "attack",
    "allocator",
    "shared_threads",
    "thread_limits",
    "philox",
    "event_loop",
    "large_arrays",
    "spans",
    "whole_files",
    "disk_faults",
    "home",
    "addresses",
    "countries",
    "releases",
    "validity",
    "pace",
    "served_certificate",
    "trust",
    "proxies",
    "logs",
    "supervisor",
    "receipts",
    "participants",
    "by_node",
    "alike",
)
FLOOR = {  # what stands on which floor; imports point downwards, or stay inside a room
    **dict.fromkeys(("cli", "container"), 5),
    **dict.fromkeys(("coordinator", "node", "experiment"), 4),
    **dict.fromkeys(
        (
            "rounds",
            "exchanges",
            "answers",
            "memories",
            "bundle",
            "prediction",
            "weights",
            "tabulated",
            "protection",
            "differences",
        ),
        3,
    ),
    **dict.fromkeys(
        (
            "run_schema",
            "fetched",
            "coefficients",
            "store",
            "transports",
            "engines",
            "network",
            "identity",
            "signing",
            "summary",
            "alignment",
        ),
        3,
    ),
    **dict.fromkeys(("decisions", "evidence"), 3),
    **dict.fromkeys(INGREDIENTS, 2),
    "boosting": 1.7,
    "cedar": 1.7,
    "flower": 1.5,
    "learning": 1.5,
    "readers": 1.5,
    "privacy": 1.5,
    **dict.fromkeys(GROUND, 1),
}
OWNERS = {  # heavy libraries and the only rooms that may import them
    "torch": {"models"},
    "sklearn": {"models"},
    "xgboost": {"models"},
    "numba": {"boosting"},
    "polars": {"readers", "experiment"},
    "pandas": {"experiment"},
    "fastapi": {"coordinator"},
    "uvicorn": {"coordinator"},
    "sqlalchemy": {"store"},
    "grpc": set(),  # the tests and the benchmarks speak with it
    "hpack": {"transports"},
    "zstandard": {"messages"},
    "watchdog": {"transports"},
    "pyroute2": {"network"},
    "os_ken": {"network"},
    "h11": {"transports"},
    "flwr": {"transports", "flower"},
    "ray": {"experiment"},
    "dp_accounting": {"privacy"},
    "cedarpy": {"cedar"},
    "matplotlib": {"experiment"},
    "httpx": {"experiment"},
    "tensorboard": {"experiment"},
    "mlflow": {"experiment"},
    "wandb": {"experiment"},
    "authlib": {"coordinator"},
    "joserfc": {"coordinator"},
}


def room(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


@functools.cache
def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for item in nodes(path):
        if isinstance(item, ast.Import):
            found.update(alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom) and item.module and not item.level:
            found.add(item.module)
            found.update(f"{item.module}.{alias.name}" for alias in item.names)
    return found


def test_imports_point_downwards() -> None:
    rooms = {room(path) for path in FILES} - {"__init__"}
    assert not rooms - FLOOR.keys(), "on no floor yet; give each one here and in docs/architecture.md"
    wrong = []
    for path in FILES:
        for name in imports(path):
            here, (first, there, *_) = room(path), (*name.split("."), "")
            if first != "hanse" or here == "__init__" or there not in FLOOR or there == here:
                continue  # hanse.__version__ and the like; the same room
            if not (FLOOR[there] < FLOOR[here] or FLOOR[there] == FLOOR[here] in (1, 3)):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_heavy_libraries_are_imported_only_by_their_owners() -> None:
    forbidden: dict[str, set[str]] = {
        name: set() for name in ("pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal")
    }
    owners, wrong = OWNERS | forbidden, []
    for path in FILES:
        for top in {name.split(".")[0] for name in imports(path)}:
            if room(path) not in owners.get(top, {room(path)}):
                wrong.append(f"{path.relative_to(ROOT)} imports {top}")
    assert wrong == []


@functools.cache
def modules() -> dict[str, Path]:
    found = {".".join(("hanse", *p.relative_to(ROOT).with_suffix("").parts)): p for p in FILES}
    return {name.removesuffix(".__init__"): path for name, path in found.items()}


def needed(path: Path, known: Mapping[str, Path]) -> set[str]:
    """The modules that are named; ``from hanse.models import _trees`` names the module, not its package."""
    found: set[str] = set()
    for item in nodes(path):
        if isinstance(item, ast.Import):
            found.update(alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom) and item.module:
            each = {f"{item.module}.{alias.name}" for alias in item.names}
            found.update(name if name in known else item.module for name in each)
    return found & known.keys()


def test_no_module_needs_itself() -> None:
    """Neither inside a room nor over rooms; an import for types alone counts too: what can only be
    understood together is one idea, and stands in one file."""
    known = modules()
    needs = {name: needed(path, known) - {name} for name, path in known.items()}
    while free := [name for name, those in needs.items() if not those & needs.keys()]:
        for name in free:
            del needs[name]
    while outside := needs.keys() - {name for those in needs.values() for name in those}:
        for name in outside:  # they need a circle, and stand in none
            del needs[name]
    assert not needs, f"these need each other: {', '.join(sorted(needs))}"


def test_private_names_stay_where_they_are() -> None:
    """``_name`` belongs to its file, and a file ``_name.py`` to its folder."""
    assert [wrong for path in FILES for wrong in taken(path, modules())] == []


def taken(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The private names of other files, and private files of other folders, that a file uses."""
    folder = ".".join(("hanse", *path.relative_to(ROOT).parent.parts))
    imported: set[str] = set()
    for item in nodes(path):
        if isinstance(item, ast.ImportFrom) and (item.module or "").startswith("hanse"):
            for alias in item.names:
                name = f"{item.module}.{alias.name}"
                inside, _, last = (name if name in known else str(item.module)).rpartition(".")
                if name not in known and private(alias.name):
                    yield f"{path.relative_to(ROOT)} takes {alias.name} out of {item.module}"
                if inside != folder and private(last):
                    yield f"{path.relative_to(ROOT)} imports {last}, a part of {inside}"
                imported.add(alias.asname or alias.name)
    for item in nodes(path):
        if not (isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name)):
            continue
        if private(item.attr) and item.value.id in imported:
            yield f"{path.relative_to(ROOT)} uses {item.value.id}.{item.attr}"


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_")


def test_no_noun_stands_twice() -> None:
    """One name, one meaning: of classes, but for the two halves of an algorithm's own language."""
    found: dict[str, list[str]] = {}
    for path in FILES:
        for item in tree(path).body:
            if isinstance(item, ast.ClassDef) and not item.name.startswith("_"):
                found.setdefault(item.name, []).append(str(path.relative_to(ROOT)))
    twice = {name: places for name, places in found.items() if len(places) > 1}
    assert set(twice) <= {"State", "Question"}, twice


def test_what_can_be_chosen_as_an_algorithm_is_one() -> None:
    for name in names("algorithms"):
        assert {"init", "ask", "answer", "tell", "result"} <= set(dir(find("algorithms", name).ALGORITHM)), name
    assert not {"evaluation", "preparation"} & set(names("algorithms"))


@pytest.mark.parametrize("model", sorted({"xgboost", "random_forest", "mlp_classifier", "logistic_regression"}))
def test_an_owner_reads_every_ingredient_that_runs_at_the_node(model: str) -> None:
    """Also those that one ingredient gets from the folder of another, ``from hanse.models import _trees``, and what
    those that learn have in common."""
    code = node_code(RunConfig.parse({"model_name": model}))
    assert {"hanse.learning.rows", "hanse.learning.evaluation"} <= set(code)
    for module in code:
        if module.split(".")[1] in SHOWN:
            needed = imports(ROOT.parent / f"{module.replace('.', '/')}.py")
            files = {n for n in needed if (ROOT.parent / f"{n.replace('.', '/')}.py").is_file()}
            assert {n for n in files if n.split(".")[1] in SHOWN} <= set(code), module


def loaded(statement: str) -> set[str]:
    """The modules that are there after it, and the packages that they are of."""
    code = f"import sys\n{statement}\nprint(*sorted(sys.modules), *sorted(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_hanse_loads_nothing_heavy() -> None:
    assert not loaded("import hanse") & {"numpy", "click", "grpc", *OWNERS}


def test_the_command_line_loads_nothing_heavy() -> None:
    assert not loaded("import hanse.cli") & {"numpy", "grpc", *OWNERS}


def test_what_stands_beside_a_coordinator_loads_no_database() -> None:
    """A network's controller and a policy engine were a second coordinator in memory, and started as slowly."""
    assert "sqlalchemy" not in loaded("import hanse.coordinator.network_service, hanse.coordinator.policy_service")


HELP = """
import contextlib, io
from hanse.cli import main
for group in {}:
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        main([group, "--help"])
    assert "Usage: hanse " + group in said.getvalue(), said.getvalue()
"""


def test_help_loads_nothing_heavy() -> None:
    """So it is there at once."""
    assert not loaded(HELP.format(["coordinator", "node", "run"])) & {"numpy", "cryptography", *OWNERS}


def test_a_node_loads_no_web_framework_and_no_learning_library_until_it_needs_them() -> None:
    names = ", ".join(f"hanse.node.{m.stem}" for m in (ROOT / "node").glob("[a-z]*.py"))
    assert not loaded(f"import {names}") & (set(OWNERS) - {"hpack"})


def test_a_worker_loads_what_computes_with_keys_and_what_keeps_promises_where_a_gather_needs_it() -> None:
    """It compares the code of a bundle with its own, which loaded all of that: 8 MB of each worker of a plain run."""
    checked = """
import hanse.node.worker_loop
from hanse import bundle
from hanse.config import RunConfig
frozen = bundle.freeze(RunConfig.parse({"federated_strategy": "probe"}), {"features": [], "kinds": {}}, {})
bundle.thaw(frozen.text, frozen.sha256).check_code()
"""
    there = loaded(checked)
    assert not there & {"cryptography", "sqlite3"}
    # another 2 MB of each: what reads data, what asks for statistics, and what large or misspelt things take
    assert not there & {"hanse.node.catalogue", "hanse.queries", "blake3", "concurrent.futures", "tempfile", "difflib"}


def test_a_node_lists_installed_packages_only_where_it_has_to() -> None:
    assert not loaded("import hanse.node.agent, hanse.node.cli") & {"importlib.metadata", "decimal", "csv", "getpass"}


def test_no_two_test_files_have_one_module_name() -> None:
    """pytest imports a file of a folder without ``__init__.py`` by its name alone; a second one stops a whole run."""
    alone = [p.name for p in Path(__file__).parent.rglob("test_*.py") if not (p.parent / "__init__.py").exists()]
    assert sorted(set(alone)) == sorted(alone)
