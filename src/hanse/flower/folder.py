"""A Flower app as a folder: its files, as text, are what data owners read and agree to.

Of a folder those files belong to the app that Flower itself would pack (its FAB): Python, TOML, Markdown, YAML and
JSON, and ``LICENSE``; no tests, no environments, nothing hidden. ``pyproject.toml`` says in
``[tool.flwr.app.components]`` where ClientApp and ServerApp are, and in ``[tool.flwr.app.config]`` with which settings
they run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hanse.errors import ConfigError, NotApproved
from hanse.messages import Json

PROJECT = "pyproject.toml"
MOST_BYTES = 512 << 10  # of all files: owners are to read them
_SUFFIXES = (".py", ".toml", ".md", ".yaml", ".yml", ".json", ".jsonl")
_NOT_AT_THE_TOP = {"build", "eggs", "lib", "lib64", "parts", "venv", "env", "ENV", "env.bak", "venv.bak"}  # as Flower


@dataclass(frozen=True, slots=True)
class FlowerApp:
    """A Flower app.

    Args:
        name: of its project.
        files: path below its folder, with ``/``, to text.
        client, server: where ClientApp and ServerApp are, as (module, attribute).
        config: what both read as ``context.run_config``.
        given: what of it somebody set for this run.
    """

    name: str
    files: Mapping[str, str]
    client: tuple[str, str]
    server: tuple[str, str]
    config: Mapping[str, Json]
    given: Mapping[str, Json]

    def plan(self) -> dict[str, Json]:
        """As the setting ``plan`` of a run has it."""
        return {"name": self.name, "files": dict(self.files), "run_config": dict(self.given)}

    @staticmethod
    def of(plan: Mapping[str, Json]) -> FlowerApp:
        """The app in the setting ``plan`` of a run. Raises ``ConfigError`` where there is none, or it is none."""
        wrong = sorted(set(plan) ^ {"name", "files", "run_config"})
        if wrong:
            raise ConfigError(
                f"the plan of a Flower app has name, files and run_config; {', '.join(wrong)} does not fit"
            )
        files, given = plan["files"], plan["run_config"]
        if not isinstance(files, Mapping) or not isinstance(given, Mapping) or not isinstance(plan["name"], str):
            raise ConfigError("the plan of a Flower app has a name, files by their path, and a run_config by name")
        for path, text in files.items():
            _check(path, text)
        if sum(len(text.encode()) for text in files.values()) > MOST_BYTES:
            raise ConfigError(f"the files of this app are more than {MOST_BYTES >> 10} KiB; owners could not read them")
        about = _about(files)
        return FlowerApp(
            plan["name"],
            dict(sorted(files.items())),
            _place(about, "clientapp", files),
            _place(about, "serverapp", files),
            _config(about, given),
            dict(given),
        )


def read(folder: Path, run_config: Mapping[str, Json] | None = None) -> FlowerApp:
    """The app in ``folder``.

    Args:
        run_config: what to set of its ``[tool.flwr.app.config]`` for this run.

    Raises ``ConfigError`` where there is no app, or one that cannot be run so.
    """
    files = {}
    for path in _files(folder, _NOT_AT_THE_TOP):
        try:
            files[path.relative_to(folder).as_posix()] = path.read_bytes().decode()
        except UnicodeDecodeError:
            raise ConfigError(f"{path} is not text in UTF-8, so owners could not read it") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if PROJECT not in files:
        raise ConfigError(f"there is no {PROJECT} in {folder}; is it the folder of a Flower app (flwr new)?")
    name = str(_table(_parsed(files[PROJECT]), "project").get("name") or folder.resolve().name)
    return FlowerApp.of({"name": name, "files": files, "run_config": dict(run_config or {})})


def check_same(agreed: FlowerApp, here: FlowerApp) -> None:
    """Raises ``NotApproved`` where what is here is not, byte for byte, what owners agreed to."""
    names = sorted({*agreed.files, *here.files})
    other = [name for name in names if agreed.files.get(name) != here.files.get(name)]
    if other or agreed.given != here.given:
        what = ", ".join(other) or "its run_config"
        raise NotApproved(f"{what} of this Flower app is not what the owners agreed to; propose it again")


def _files(folder: Path, without: Set[str] = frozenset()) -> Iterator[Path]:
    """The files of an app, in the order of their names."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read: {error.strerror}") from None
    for path in entries:
        if path.name.startswith(".") or path.name in without or path.name == "__pycache__" or path.is_symlink():
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.name == "LICENSE" or (path.suffix in _SUFFIXES and not _test(path.name)):
            yield path


def _test(name: str) -> bool:
    return name.endswith("_test.py") or (name.startswith("test_") and name.endswith(".py"))


def _check(path: Any, text: Any) -> None:
    """Raises ``ConfigError`` unless it is a path below a folder, of text: at a node the files are written so."""
    parts = PurePosixPath(path).parts if isinstance(path, str) else ()
    plain = all(part.isprintable() and "\\" not in part and not part.startswith(".") for part in parts)
    if not parts or len(path) > 200 or path != "/".join(parts) or path.startswith("/") or not plain:
        raise ConfigError(f"{str(path)[:100]!r} is no path of a file of an app")
    if not isinstance(text, str):
        raise ConfigError(f"the file {path} is no text")


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{PROJECT} is not TOML: {error}") from None


def _table(about: Any, *names: str) -> Mapping[str, Any]:
    for name in names:
        about = about.get(name, {}) if isinstance(about, Mapping) else {}
    return about if isinstance(about, Mapping) else {}


def _about(files: Mapping[str, str]) -> Mapping[str, Any]:
    about = _table(_parsed(files.get(PROJECT, "")), "tool", "flwr", "app")
    if "fab-include" in about:
        raise ConfigError("this app names its files in fab-include, which Hanse does not follow; leave it out")
    return about


def _place(about: Mapping[str, Any], what: str, files: Mapping[str, str]) -> tuple[str, str]:
    said = _table(about, "components").get(what)
    module, colon, name = said.partition(":") if isinstance(said, str) else ("", "", "")
    base = module.replace(".", "/")
    if not colon or not name.isidentifier() or not {f"{base}.py", f"{base}/__init__.py"} & set(files):
        raise ConfigError(
            f"{what} in [tool.flwr.app.components] of {PROJECT} is {said!r}; expected MODULE:NAME of a file of the app"
        )
    return module, name


def _config(about: Mapping[str, Any], given: Mapping[str, Json]) -> dict[str, Json]:
    """The settings of an app, those of tables within by ``table.name``, with what was given in their place."""
    found = dict(_flat(_table(about, "config")))
    for name, value in _flat(given):
        if name not in found:
            raise ConfigError(
                f"this app has no {name!r} in [tool.flwr.app.config]; it has {', '.join(found) or 'none'}"
            )
        if type(value) is not type(found[name]) and not (type(value) is int and type(found[name]) is float):
            raise ConfigError(f"{name} is {value!r}; expected a value such as {found[name]!r}")
        found[name] = value
    return found


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Json]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif isinstance(value, (bool, int, float, str)):
            yield f"{above}{name}", value
        else:
            raise ConfigError(
                f"the setting {above}{name} of this app is {value!r}; expected a number, text or a truth value"
            )
