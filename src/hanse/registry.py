"""The folder is the registry: what there is of a kind is what stands in its folder.

An algorithm, a model, a statistic, a rule is one file of ``hanse.<folder>``. Files of other packages
take part like those of Hanse, as ``hanse.<folder>.<file>``, when they stand in a folder of the same name:

- of an installed package that names itself, or a package inside it, in ``pyproject.toml``::

    [project.entry-points."hanse.ingredients"]
    mine = "my_package"          # my_package/algorithms/..., my_package/policy/...

- of a directory in the environment variable ``HANSE_INGREDIENTS`` (several: separated as in ``PATH``),
  or one that a script gives to :func:`extend`.

A file from outside can add a name and never take one: where the name is taken, nothing of the kind is
found until the file has another. Its source stands in what owners consent to like any other, and a node
runs only what is installed there and has that very source (:mod:`hanse.bundle`).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import pkgutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hanse.errors import ConfigError
from hanse.messages import Json
from hanse.settings import Setting

FOLDERS = (
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
    "transports",
    "engines",
    "network",
)
GROUP = "hanse.ingredients"
VARIABLE = "HANSE_INGREDIENTS"
_SETTLED_NS = 2_000_000_000


class _Listing(NamedTuple):
    """The modules of a folder, and those of them that are ingredients."""

    modules: tuple[str, ...]
    names: tuple[str, ...]


def names(folder: str) -> tuple[str, ...]:
    """What there is of a kind: the modules of ``hanse.<folder>`` without a leading underscore."""
    return _looked_up(folder).names


def modules(folder: str) -> tuple[str, ...]:
    """All modules of ``hanse.<folder>``: what there is of the kind, and what that is made of. Raises
    ``ConfigError`` for an unknown kind, or where two files have one name."""
    return _looked_up(folder).modules


def _looked_up(folder: str) -> _Listing:
    places = tuple(dict.fromkeys(_package(folder).__path__))
    changed = tuple([os.stat(place).st_mtime_ns for place in places])
    if time.time_ns() - max(changed) < _SETTLED_NS:  # a file that comes now may leave the time as it is
        return _listed(folder, places)
    return _listed_once(folder, places, changed)


def _listed(folder: str, places: tuple[str, ...]) -> _Listing:
    whose: dict[str, str] = {}
    for place in places:
        for module in pkgutil.iter_modules([place]):
            if module.name in whose:
                raise ConfigError(
                    f"{module.name!r} of {folder} stands in {whose[module.name]} and in {place}; rename the file "
                    "of your own"
                )
            whose[module.name] = place
    found = tuple(sorted(whose))
    return _Listing(found, tuple(name for name in found if name[0] != "_"))


@functools.lru_cache(64)
def _listed_once(folder: str, places: tuple[str, ...], changed: tuple[int, ...]) -> _Listing:
    """The same, as long as no file has come or gone: a run looks up more than a thousand names."""
    return _listed(folder, places)


def find(folder: str, name: str) -> Any:
    """The module ``hanse.<folder>.<name>``; only names that stand in the folder are accepted."""
    known = names(folder)
    if name not in known:
        raise ConfigError(f"there is no {name!r} in {folder}; known are {', '.join(known)}")
    return _module(f"hanse.{folder}.{name}")


def every(folder: str) -> dict[str, Any]:
    """Each ingredient of a folder, by its name: what :func:`find` gives of one."""
    return {name: _module(f"hanse.{folder}.{name}") for name in names(folder)}


_LOADED: dict[str, Any] = {}


def _module(name: str) -> Any:
    """A module, loaded if it is not; of one that is, this is ten times as quick as to import it again."""
    found = _LOADED.get(name)
    if found is None or sys.modules.get(name) is not found:
        found = _LOADED[name] = importlib.import_module(name)
    return found


def settings(folder: str, name: str) -> Mapping[str, Setting]:
    """The ``SETTINGS`` of an ingredient: what a run, or an owner, may set for it. Empty where it has none."""
    found: Mapping[str, Setting] = getattr(find(folder, name), "SETTINGS", {})
    return found


def describe(folder: str) -> dict[str, dict[str, Json]]:
    """Every ingredient of a folder: the first line of its file, and its settings, for forms and references."""
    return {
        name: {
            "help": (module.__doc__ or "").strip().partition("\n")[0],
            "settings": [setting.describe(own) for own, setting in getattr(module, "SETTINGS", {}).items()],
        }
        for name, module in every(folder).items()
    }


def extend(directory: str | os.PathLike[str]) -> None:
    """Adds the folders of ``directory`` that are named as those of Hanse, in this process.

    Raises ``ConfigError`` where there is none, so that a mistyped path is not silently nothing.
    """
    _extend(Path(directory).resolve())


def outside() -> tuple[str, ...]:
    """The directories of other packages whose files take part here."""
    _installed()
    return tuple(dict.fromkeys(_EXTENSIONS))


_EXTENSIONS: list[str] = []


def _package(folder: str) -> Any:
    if folder not in FOLDERS:
        raise ConfigError(f"there is no kind {folder!r}; known are {', '.join(FOLDERS)}")
    package = _module(f"hanse.{folder}")
    for directory in outside():
        place = os.path.join(directory, folder)
        if place not in package.__path__ and os.path.isdir(place):
            package.__path__.append(place)
    return package


def _extend(directory: Path) -> None:
    if not any((directory / folder).is_dir() for folder in FOLDERS):
        raise ConfigError(f"{directory} has none of the folders {', '.join(FOLDERS)}; put the file into one of them")
    if str(directory) not in _EXTENSIONS:
        _EXTENSIONS.append(str(directory))
        importlib.invalidate_caches()


@functools.cache
def _installed() -> None:
    """Looks once for what is installed and what the environment names."""
    if _some_names_itself():
        from importlib.metadata import entry_points  # takes 50 ms, of every start of every command

        for point in entry_points(group=GROUP):
            for directory in _directories(point.value):
                _extend(directory)
    for named in os.environ.get(VARIABLE, "").split(os.pathsep):
        if named:
            _extend(Path(named).resolve())


def _some_names_itself() -> bool:
    """Whether any installed package has entry points of our group: read from the files that say so (1 ms)."""
    for place in sys.path:
        for file in Path(place or ".").glob("*-info/entry_points.txt"):
            try:
                if f"[{GROUP}]" in file.read_text(encoding="utf-8", errors="replace"):
                    return True
            except OSError:
                continue
    return False


def _directories(package: str) -> Iterator[Path]:
    """Where a package lies, found without running it. Raises ``ConfigError`` where it is not there."""
    try:
        spec = importlib.util.find_spec(package)
    except ImportError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"the entry point {package!r} of {GROUP} is no installed package; reinstall or remove it")
    yield from (Path(place) for place in spec.submodule_search_locations)
