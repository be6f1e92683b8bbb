"""``hanse bootstrap``: a folder with an experiment in it, which anybody can run, read and put under version control.

``pyproject.toml`` says under ``[tool.hanse]`` what is asked of whom, ``main.py`` runs it. Nothing that is there is
changed: a ``main.py`` is never overwritten, and to a ``pyproject.toml`` a table is added at its end, or nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from hanse.config import RunConfig
from hanse.errors import ConfigError, Conflict
from hanse.experiment.configuring import configure
from hanse.identity import check_node_id
from hanse.messages import Json
from hanse.toml_text import pairs
from hanse.whole_files import write_whole

MAIN, PROJECT = "main.py", "pyproject.toml"


def bootstrap(folder: Path, settings: Mapping[str, Json], url: str = "") -> tuple[list[Path], str]:
    """Writes the files; which, and a sentence about what is left to do ("" where nothing is).

    Args:
        folder: made where it is not there.
        settings: of the run, by full or short names; ``expected_client_ids`` has to name its nodes.
        url: the coordinator's address; "": what ``hanse login`` saved on the machine where it runs.

    Raises:
        Conflict: there is a ``main.py``, or ``pyproject.toml`` has a ``[tool.hanse]`` already.
        ConfigError: no node, one twice, one that is none, or a setting that is none.
    """
    config = configure(settings)
    nodes = _nodes(config)
    main, project = folder / MAIN, folder / PROJECT
    if main.exists():
        raise Conflict(f"there is a {main} already; remove it, or choose another folder")
    before = project.read_text(encoding="utf-8") if project.exists() else ""
    table = _table({"nodes": nodes, **({"url": url} if url else {})}, config)
    after, todo = (_added(before, table, project), _lacking(before)) if before else (_project(folder) + table, "")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(main, _MAIN, 0o644, replace=False)
    write_whole(project, after, 0o644)
    return [main, project], todo


def _nodes(config: RunConfig) -> list[str]:
    nodes = list(config.expected_client_ids or ())
    if not nodes:
        raise ConfigError("name the nodes that are to take part: --node ID, once for each")
    for node in nodes:
        check_node_id(node)  # "coordinator" is none: who coordinates takes no part
    return nodes


def _table(about: Mapping[str, Json], config: RunConfig) -> str:
    settings = {name: value for name, value in config.to_send().items() if value is not None}
    settings.pop("expected_client_ids", None)
    lines = ["", "# what is asked of whom; main.py runs it", "[tool.hanse]", *pairs(about)]
    return "\n".join([*lines, "", "[tool.hanse.run]", *pairs(settings), ""])


def _project(folder: Path) -> str:
    import hanse

    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "experiment"
    return (
        f'[project]\nname = "{name}"\nversion = "0.1.0"\nrequires-python = ">=3.11"\n'
        f'dependencies = ["hanse[scientist]~={hanse.__version__}"]\n'
    )


def _added(before: str, table: str, path: Path) -> str:
    """What was there, and the table after it; tried before anything is written."""
    try:
        known = tomllib.loads(before)
        if "hanse" in known.get("tool", {}):
            raise Conflict(f"{path} has a table [tool.hanse] already; remove it, or choose another folder")
        after = before.rstrip("\n") + "\n" + table
        found = tomllib.loads(after)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML to which a table can be added: {error}") from None
    del found["tool"]["hanse"]
    if not found["tool"] and "tool" not in known:
        del found["tool"]
    if found != known:
        raise ConfigError(f"{path} cannot be added to; put an empty line at its end")
    return after


def _lacking(before: str) -> str:
    """Whether the project that was there needs Hanse and does not say so."""
    needs = tomllib.loads(before).get("project", {}).get("dependencies", [])
    named = {re.sub(r"[-_.]+", "-", str(re.split(r"[\s\[<>=!~;@]", need, maxsplit=1)[0])).lower() for need in needs}
    return "" if "hanse" in named else "add hanse[scientist] to the dependencies in pyproject.toml"


_MAIN = '''"""Runs the experiment that pyproject.toml describes under [tool.hanse].

    python main.py                                                  at the coordinator, with your login (hanse login)
    python main.py --simulate hospital-1=a.csv hospital-2=b.csv     on files of this machine, without a federation

It ends with status 0 where there is a result, and with 1 and a sentence where there is none.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

import hanse
from hanse.errors import ConfigError, HanseError
from hanse.readers import read

HERE = Path(__file__).resolve().parent


def sites(given: list[str], nodes: list[str]) -> dict[str, object]:
    """A table for each node of the experiment, and for no other."""
    paths = dict(entry.partition("=")[::2] for entry in given)
    if sorted(paths) != sorted(nodes) or len(paths) != len(given):
        raise ConfigError(f"--simulate takes NODE=FILE once for each of {', '.join(nodes)}")
    return {node: read(path) for node, path in paths.items()}


def run(simulated: list[str], output: Path) -> None:
    """Runs it, shows the result and keeps it."""
    about = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hanse"]
    nodes = about["nodes"]
    federation = hanse.simulate(sites(simulated, nodes)) if simulated else hanse.connect(about.get("url"))
    with federation:
        result = federation.experiment(**about["run"], expected_client_ids=nodes).run()
    output.mkdir(parents=True, exist_ok=True)
    print(result)
    print(f"kept in {result.save(output / 'result.safetensors')}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulate", nargs="+", default=[], metavar="NODE=FILE")
    parser.add_argument("--output", type=Path, default=HERE / "outputs")
    options = parser.parse_args()
    try:
        run(options.simulate, options.output)
    except (HanseError, OSError) as error:
        print(f"main.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
'''
