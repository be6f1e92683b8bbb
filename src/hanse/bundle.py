"""What a data owner consents to: the frozen proposal, named by its SHA-256.

A bundle holds the configuration, the aligned features, which dataset (and which version of it) each
node would use, and the source of every file of the node's half that will run. ``code_preview`` is
read from it. A node compares that source with its own installation before it runs anything: the
code that was shown is the code that runs, or nothing runs.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import inspect
import os
import pkgutil
import threading
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

import hanse
from hanse import (
    algorithms,
    boosting,
    countries,
    flower,
    gathering,
    learning,
    privacy,
    protection,
    releases,
    selection,
    transforms,
)
from hanse.config import RunConfig
from hanse.errors import ConfigError, NotApproved, OtherRelease, WireError
from hanse.messages import Json, dumps, in_pieces, loads
from hanse.privacy.guarantee import Guarantee
from hanse.registry import FOLDERS, find, modules, names


@dataclass(frozen=True)
class Bundle:
    """A frozen proposal. Equal content gives equal ``text`` and ``sha256``."""

    content: Mapping[str, Json]

    @property
    def text(self) -> str:
        """Canonical JSON."""
        return dumps(self.content)

    @functools.cached_property
    def sha256(self) -> str:
        """What owners consent to: of the canonical text, in hexadecimal. The content does not change."""
        found = hashlib.sha256()
        for piece in in_pieces(self.content):
            found.update(piece.encode())
        return found.hexdigest()

    @property
    def config(self) -> RunConfig:
        """The run's configuration, checked anew. Raises ``ConfigError``."""
        return RunConfig.parse(self.content["config"])

    def facts(self, node: str) -> dict[str, Json]:
        """What it says of every task of its run at ``node``, by the names of :class:`hanse.facts.Facts`;
        ``dataset`` is what the hash binds of that node. Raises ``ConfigError`` where the configuration is wrong."""
        config = self.config
        learns = algorithms.needs_model(config) or not algorithms.needs_data(config)
        return {
            "study": config.study or None,
            "algorithm": algorithms.resolve(config),
            "model": config.model_name,
            "settings": config.to_json(),
            "rounds": config.num_rounds if learns else 0,
            "steps": algorithms.most_steps(config),
            "nodes": len(self.content["datasets"]),
            "features": list(self.content["alignment"]["features"]),
            "plan": config.plan is not None,
            "at_once": algorithms.at_once(config.federated_strategy),
            "needs_data": algorithms.needs_data(config),
            "countries": list(countries.of(self.content["datasets"])),
            "dataset": self.content["datasets"].get(node),
            "gathering": dict(self.content["gathering"]),
            "transforms": [link["name"] for link in self.content["transforms"]],
            "privacy": promised.to_json() if (promised := self.guarantee()) is not None else None,
        }

    def guarantee(self) -> Guarantee | None:
        """What differential privacy the run promises; None where it promises none. It follows from what the hash binds,
        so nobody can claim more than the noise is worth."""
        config, datasets = self.config, self.content["datasets"]
        protection.check(config, self.content["alignment"]["kinds"], _declared(datasets))
        return protection.of(config, len(datasets))

    def unread(self) -> str:
        """Why this release cannot read what it says, in words: an earlier one wrote it otherwise; "" where it can."""
        odd = otherwise(self.content)
        try:
            RunConfig.parse(self.content["config"])
        except ConfigError as error:
            odd.append(f"config ({error.message})")
        if not odd:
            return ""
        release = str(self.content.get("hanse"))[:40]
        return f"an earlier build of Hanse ({release}) wrote it, and this one reads it otherwise: {', '.join(odd)}"

    def preview(self) -> str:
        """The text that a data owner reads: settings first, then the code that will run."""
        config = self.content["config"]
        lines = [f"# hanse {self.content['hanse']}, bundle {self.sha256}", "# settings"]
        lines += [f"#   {name} = {value!r}" for name, value in config.items() if name != "plan"]
        if why := self.unread():
            return "\n".join([*lines, f"# it does not run here: {why}"]) + self.code_preview()
        alignment = self.content["alignment"]
        lines += [f"# features ({len(alignment['features'])}): {', '.join(alignment['features'][:50])}"]
        ways = sorted(self.content["gathering"].items())
        lines += [f"# gathering: {', '.join(f'{combine} by {name}' for combine, name in ways)}"]
        links = self.content["transforms"]
        told = [" ".join([x["name"], *(f"{k}={v}" for k, v in x.items() if k != "name")]) for x in links]
        lines += [f"# before it leaves: {', then '.join(told) or 'nothing is changed'}"]
        promised = self.guarantee()
        lines += [f"# privacy: {promised.words() if promised else 'no noise is added; sums are exact'}"]
        lines += [f"# data: {line}" for line in _data(self.content["datasets"])]
        return "\n".join(lines) + self.code_preview()

    def code_preview(self) -> str:
        """The end of :meth:`preview`: all the code, which reads alike in every release."""
        lines = [""]
        for what, source in plan_texts(self.content["config"].get("plan")).items():
            lines += ["", f"# ---- {what}", source]
        for module, source in self.content["code"].items():
            lines += ["", f"# ---- {module}", source]
        return "\n".join(lines)

    def check_code(self) -> None:
        """Compares the bundle's code with this installation. Raises ``OtherRelease`` where the bundle was made by
        another release and this one cannot run it, ``NotApproved`` where the code of the same release differs."""
        self.check_line()
        other = self.content["hanse"]
        try:
            here = node_code(self.config)
        except ConfigError as error:  # a setting or an ingredient that only the other one has
            if other == hanse.__version__:
                raise
            raise OtherRelease(f"{_releases(other)}: {error.message}") from None
        differing = sorted(m for m in {*here, *self.content["code"]} if here.get(m) != self.content["code"].get(m))
        if differing and other != hanse.__version__:
            raise OtherRelease(f"{_releases(other)}, whose code differs ({', '.join(differing)})")
        if differing:
            raise NotApproved(
                f"the code shown is not the code installed here ({', '.join(differing)}); "
                "bring both sides to the same release and propose again"
            )

    def check_line(self) -> None:
        """Raises ``OtherRelease`` where the bundle is of another line of releases (:mod:`hanse.releases`)."""
        if not releases.together(str(self.content["hanse"]), hanse.__version__):
            raise OtherRelease(_releases(str(self.content["hanse"])))


def plan_texts(plan: Json) -> dict[str, str]:
    """What the data scientist wrote, by what it is: one text, or the files of an app.

    >>> plan_texts({"name": "mine", "source": "import torch"})
    {"the data scientist's training plan": 'import torch'}
    """
    if not isinstance(plan, Mapping):
        return {}
    files = plan.get("files")
    if isinstance(files, Mapping):
        return {f"the data scientist's {path}": str(text) for path, text in files.items()}
    return {"the data scientist's training plan": str(plan.get("source", ""))}


def _releases(other: str) -> str:
    return (
        f"the run was proposed by hanse {other[:40]}, and here is hanse {hanse.__version__}; bring both to one release"
    )


def freeze(config: RunConfig, alignment: Mapping[str, Json], datasets: Mapping[str, Json]) -> Bundle:
    """The bundle of a proposal.

    Args:
        config: what was proposed; it is settled here (:func:`hanse.algorithms.settled`).
        alignment: :meth:`hanse.features.Alignment.to_json`, or ``{"features": [], "kinds": {}}``.
        datasets: node id to ``{name, version, most_rows, country}`` of the dataset that it would use, as
            :func:`bound` made it; ``most_rows`` is what a contribution made of it may count for (:mod:`hanse.weights`).

    Raises:
        ConfigError: an ingredient that the configuration names is unknown or does not fit the run, or its
            gathering cannot combine what its algorithm asks for.
    """
    config = algorithms.settled(config)
    algorithms.check_sites(config, len(datasets))
    selection.check(config)
    gathering.check(config, len(datasets))
    protection.check(config, alignment["kinds"], _declared(datasets))
    code = node_code(config)
    return Bundle(
        {
            "hanse": hanse.__version__,
            "config": config.to_json(),
            "alignment": dict(alignment),
            "datasets": datasets,
            "gathering": _gathering(config),
            "transforms": _transforms(config),
            "code": code,
        }
    )


def otherwise(content: Mapping[str, Json]) -> list[str]:
    """What of a bundle has another form than here: an earlier release made it."""
    forms = {"gathering": Mapping, "transforms": list, "datasets": Mapping, "alignment": Mapping, "code": Mapping}
    return [name for name, form in forms.items() if name in content and not isinstance(content[name], form)]


def thaw(text: str, sha256: str) -> Bundle:
    """The bundle in ``text``. Raises ``NotApproved`` if it is not the one that ``sha256`` names."""
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != sha256:
        raise NotApproved(f"the bundle has hash {found[:12]}…, announced was {sha256[:12]}…; nothing was run")
    content = loads(text)
    wanted = {"hanse", "config", "alignment", "datasets", "gathering", "transforms", "code"}
    if not isinstance(content, dict) or set(content) != wanted:
        raise WireError(
            f"a bundle has exactly {', '.join(sorted(wanted))}; one of another build of Hanse has others and does "
            "not run here: propose it again"
        )
    return Bundle(content)


def bound(datasets: Mapping[str, Mapping[str, Json]]) -> dict[str, Json]:
    """What a bundle says of the datasets that nodes registered. One that told no number of rows counts
    for one row; ``country`` is in it where the node declares one."""
    return {
        node: {
            "name": d["name"],
            "version": d.get("version"),
            "most_rows": next((d[k] for k in ("most_rows", "rows") if d.get(k) is not None), 0),
            **({"country": d["country"]} if d.get("country") else {}),
        }
        for node, d in datasets.items()
    }


def _declared(datasets: Mapping[str, Mapping[str, Json]]) -> dict[str, float]:
    return {node: float(dataset.get("most_rows") or 0) for node, dataset in datasets.items()}


def _data(datasets: Mapping[str, Mapping[str, Json]]) -> list[str]:
    """Whose data counts for how much, in words."""
    total = sum(d.get("most_rows", 0) for d in datasets.values())
    said = []
    for node, dataset in sorted(datasets.items()):
        rows = dataset.get("most_rows")
        share = "" if rows is None else f", at most {rows} rows ({rows / total if total else 0:.1%} of all)"
        where = f" in {dataset['country']}" if dataset.get("country") else ""
        said.append(f"{dataset['name']} at {node}{where}, version {dataset['version'][:12]}{share}")
    return said


def _gathering(config: RunConfig) -> dict[str, str]:
    """How each kind of contribution of this run comes together."""
    return gathering.settle(algorithms.combines(config), config.gathering, gathering.fallback(config))


def _transforms(config: RunConfig) -> list[dict[str, Json]]:
    """What is done to contributions before they leave a node, with all settings."""
    links = transforms.checked(config.transforms)
    if links and not algorithms.sends_updates(config) and (idle := transforms.needs_updates(links)):
        raise ConfigError(
            f"{algorithms.resolve(config)} sends no updates of common parameters, so {', '.join(idle)} would change "
            "nothing; leave it out of transforms"
        )
    return links


def node_code(config: RunConfig) -> dict[str, str]:
    """Module name to source of every file of the node's half of this run: its ingredients, what they are made of, and
    what those that learn have in common (:mod:`hanse.learning`, :mod:`hanse.boosting`)."""
    roots = [f"hanse.algorithms.{name}" for name in algorithms.files(config)]
    if algorithms.needs_model(config):
        settling = find("tasks", config.task_type).TASK
        tasks = (config.task_type,) if hasattr(settling, "target") else names("tasks")  # any may be settled
        roots += [f"hanse.models.{config.model_name}", *(f"hanse.tasks.{task}" for task in tasks)]
    roots += algorithms.ingredients(config)
    for name in config.measures:
        roots += [f"hanse.measures.{name}", *getattr(find("measures", name), "ingredients", lambda config: ())(config)]
    roots += [f"hanse.gathering.{name}" for name in sorted(set(_gathering(config).values()))]
    roots += [f"hanse.transforms.{link['name']}" for link in transforms.checked(config.transforms)]
    roots += ["hanse.answers", "hanse.memories", "hanse.features", "hanse.stages"]
    roots += ["hanse.protection", "hanse.privacy.release"] if config.privacy is not None else []
    found: dict[str, str] = {}
    while roots:
        module = roots.pop()
        if module in found:
            continue
        found[module] = _source(importlib.import_module(module))
        roots += _ingredients(found[module])
    return dict(sorted(found.items()))


_SOURCES: dict[str, tuple[tuple[int, int, int], str]] = {}  # file to when it was as it was read, and its text


def _source(module: ModuleType) -> str:
    """What stands in a module's file now. It is read again where it has changed: a run asks for dozens of them."""
    file = module.__file__
    if file is None:
        return inspect.getsource(module)
    there = os.stat(file)
    moment = (there.st_mtime_ns, there.st_size, there.st_ino)
    known = _SOURCES.get(file)
    if known is None or known[0] != moment:
        with tokenize.open(file) as read:  # as Python reads it; inspect would keep every line of it for tracebacks
            text = read.read()
        known = _SOURCES[file] = moment, text if text.endswith("\n") else f"{text}\n"
    return known[1]


_IN_COMMON = {
    "learning": learning,
    "boosting": boosting,
    "flower": flower,
    "privacy": privacy,
}  # rooms that ingredients are made of


_PARSING = threading.Lock()  # Python 3.11 counts the depth of the syntax tree for all threads together


@functools.lru_cache(256)
def _ingredients(source: str) -> tuple[str, ...]:
    """The files of ingredients, and of what they have in common or are computed with, that a source imports."""
    found = []
    with _PARSING:
        parsed = ast.parse(source)
    for item in _statements(parsed):
        if isinstance(item, ast.ImportFrom) and item.module:
            parts = item.module.split(".")
            if parts[0] == "hanse" and len(parts) == 2:
                found += [f"{item.module}.{a.name}" for a in item.names if a.name in _files(parts[1])]
            elif parts[0] == "hanse" and len(parts) == 3 and parts[1] in (*FOLDERS, *_IN_COMMON):
                found.append(item.module)
    return tuple(found)


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """``tree`` and the statements in it, however deep; not the expressions, which are nine tenths of a source."""
    yield tree
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        inner = getattr(tree, field, None)
        for item in inner if isinstance(inner, list) else ():  # the body of a lambda is an expression
            yield from _statements(item)


def _files(room: str) -> tuple[str, ...]:
    """The files of a room that a node runs some of; () of another room."""
    if room in _IN_COMMON:
        return tuple(module.name for module in pkgutil.iter_modules(_IN_COMMON[room].__path__))
    return modules(room) if room in FOLDERS else ()
