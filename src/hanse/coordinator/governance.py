"""What the operator's policies allow at the coordinator: who may propose, which nodes take part in a run, which of them
are sent a step, and who may see what it gave.

Nodes have the last word, at their own gates. What is decided here spares them to be asked, and holds where no node is:
for results. A policy that cannot be asked (:class:`hanse.errors.NotNow`) allows nothing; a run waits then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from hanse.bundle import Bundle
from hanse.cedar.files import PolicyFiles
from hanse.cedar.policies import Policies, Ruling
from hanse.cedar.vocabulary import Vocabulary
from hanse.errors import NotAllowed, StorageFailed, WireError
from hanse.facts import Participation, Proposing, Reading, RunFacts, now, told_in_json
from hanse.kinds import Ask
from hanse.messages import Json, dumps
from hanse.whole_files import write_whole

VOCABULARY = Vocabulary(
    {"propose": Proposing, "take_part": Participation, "share_model": Participation, "read_result": Reading}
)
_ROLE_S = 1.0  # a role is looked up again after so long
_REMEMBERED = 10_000  # decisions that were noted, so that only another one is noted again

log = logging.getLogger(__name__)
Note = Callable[..., None]  # (kind, run, node, actor, detail), as of the chronicle


class Engine(Protocol):
    """What decides: policies in this process, or a service."""

    async def decide(self, action: str, person: str, asked: Sequence[RunFacts]) -> list[Ruling]:
        """What the policies say of an action of ``VOCABULARY``, of each of ``asked``, by one state of them. Raises
        ``NotNow`` where they cannot be asked."""
        ...

    def reads(self, *actions: str) -> tuple[str, frozenset[str]] | None:
        """The version of the policies as they are now, and the names of the facts that they read of these actions; None
        where that is not known. Raises ``NotNow`` where they cannot be read."""
        ...


class OwnPolicies:
    """The policies of a file or a folder, in this process. Raises ``ConfigError`` where they cannot be read.

    Args:
        kept: a folder, where each version by which was decided is kept, for the evidence of runs.
    """

    def __init__(self, path: Path, kept: Path) -> None:
        self._files, self._kept, self._version = PolicyFiles(path, VOCABULARY), kept, ""
        self._read: tuple[Policies, tuple[str, ...], tuple[str, frozenset[str]]] | None = None  # of which, and what

    async def decide(self, action: str, person: str, asked: Sequence[RunFacts]) -> list[Ruling]:
        policies = self._files.current()
        if policies.version != self._version:
            await self._keep(policies)
        return [policies.decide(action, person, facts.run, facts) for facts in asked]

    def reads(self, *actions: str) -> tuple[str, frozenset[str]]:
        policies = self._files.current()
        if self._read is None or self._read[0] is not policies or self._read[1] != actions:
            named = policies.version, frozenset[str]().union(*map(policies.reads, actions))
            self._read = policies, actions, named
        return self._read[2]

    async def _keep(self, policies: Policies) -> None:
        """Nothing is decided by what no evidence could show."""
        place = self._kept / f"{policies.version}.json"

        def write() -> None:
            self._kept.mkdir(mode=0o700, exist_ok=True)
            write_whole(place, dumps(policies.texts))

        try:
            await asyncio.to_thread(write)
        except OSError as error:
            log.error("nothing is decided until %s can be written: %s", place, error)
            raise StorageFailed(
                "the policies that decide this cannot be kept now; the coordinator's log says why"
            ) from None
        self._version = policies.version


class Governance:
    """Asks the engine, and notes what it said.

    Args:
        engine: None: the operator has no policies, and what access and owners allow is allowed.
        note: makes an event of a decision, for people and the audit.
    """

    def __init__(self, engine: Engine | None, note: Note) -> None:
        self._engine, self._note = engine, note
        self._noted: OrderedDict[tuple[str, str, str, str], tuple[bool, tuple[str, ...], str]] = OrderedDict()

    @property
    def decides(self) -> bool:
        """Whether there are policies."""
        return self._engine is not None

    def reads(self, *actions: str) -> tuple[str, frozenset[str]] | None:
        """As of :meth:`Engine.reads`."""
        return None if self._engine is None else self._engine.reads(*actions)

    async def _refused(self, action: str, person: str, asked: Sequence[RunFacts]) -> list[str]:
        """Of each, why not; "" where it is allowed."""
        if self._engine is None or not asked:
            return [""] * len(asked)
        said = await self._engine.decide(action, person, asked)
        return [self._noted_as(action, person, facts, ruling) for facts, ruling in zip(asked, said, strict=True)]

    def _noted_as(self, action: str, person: str, facts: RunFacts, said: Ruling) -> str:
        """Why not, after it was noted where it is another decision than before."""
        node = facts.node if isinstance(facts, Participation) else ""
        about = facts.run or facts.bundle, node or str(getattr(facts, "result", ""))
        key, told = (action, person, *about), (said.allowed, said.by, said.version)
        if self._noted.get(key) != told:
            self._noted[key] = told
            while len(self._noted) > _REMEMBERED:
                self._noted.popitem(last=False)
            detail: dict[str, Json] = {"action": action, "allowed": said.allowed, "by": ", ".join(said.by)}
            detail |= {"version": said.version, "reason": said.reason, "bundle": facts.bundle}
            if result := getattr(facts, "result", ""):
                detail["result"] = result
            self._note("policy.decision", facts.run or None, node or None, person, detail)
        return "" if said.allowed else f"{said.reason} [policies {said.version}]"

    # ------------------------------------------------------------ what is asked

    async def check_proposal(self, bundle: Bundle, proposer: str, role: str, nodes: int) -> None:
        """Raises ``NotAllowed`` where nobody may propose this."""
        if self._engine is not None:
            facts = Proposing(**of_run(bundle, "", proposer, nodes), role=role, time=now())
            [why] = await self._refused("propose", proposer, [facts])
            if why:
                raise NotAllowed(f"this coordinator's policies do not let {proposer} propose this: {why}")

    async def not_taking_part(
        self, bundle: Bundle, run: str, proposer: str, role: str, nodes: Sequence[str]
    ) -> dict[str, str]:
        """The nodes that may take no part in a run, and why."""
        if self._engine is None:
            return {}
        return await RunAdmission(self, bundle, run, proposer, role, nodes, {}).not_taking_part(nodes)

    async def check_reading(self, bundle: Bundle, run: str, proposer: str, nodes: int, **reader: Any) -> None:
        """Raises ``NotAllowed`` where who reads may not see a result: ``name``, ``role``, ``own``, ``result``."""
        if self._engine is not None:
            name = reader.pop("name")
            facts = Reading(**of_run(bundle, run, proposer, nodes), **reader, time=now())
            [why] = await self._refused("read_result", name, [facts])
            if why:
                raise NotAllowed(f"this coordinator's policies do not show this result to {name}: {why}")

    async def refused(self, action: str, person: str, asked: Sequence[Participation]) -> dict[str, str]:
        """The nodes that may not take part, or be sent a step, and why."""
        said = await self._refused(action, person, asked)
        return {facts.node: why for facts, why in zip(asked, said, strict=True) if why}


class RunAdmission:
    """Of one run: which of its nodes may be sent a step (:class:`hanse.choice.Admission`).

    Args:
        role: of who proposed it.
        failures: node to how many steps it gave nothing usable in, so far.
        role_now: looks which role that is by now, as it may be another one, or none, before the run is over. Blocks.
    """

    def __init__(
        self,
        governance: Governance,
        bundle: Bundle,
        run: str,
        proposer: str,
        role: str,
        nodes: Sequence[str],
        failures: Mapping[str, int],
        role_now: Callable[[], str] | None = None,
    ) -> None:
        self._governance, self._person = governance, proposer
        self._role_now, self._looked = role_now, time.monotonic()
        self._run = {**of_run(bundle, run, proposer, len(nodes)), "role": role}
        self._datasets: Mapping[str, Mapping[str, Json]] = bundle.content["datasets"]
        self._tags = tuple(bundle.config.tags)
        self._failures, self._failed = dict(failures), 0  # and how often one was added
        self._allowed: Hashable = None  # what was so the last time that nothing was refused

    async def refused(self, ask: Ask, step: int, nodes: Sequence[str]) -> dict[str, str]:
        """Those of ``nodes`` that may not be sent this, and why."""
        if self._role_now is not None and time.monotonic() - self._looked >= _ROLE_S:
            self._run["role"] = await asyncio.to_thread(self._role_now)
            self._looked = time.monotonic()
        where: dict[str, Any] = {"step": step, "round": ask.round, "label": ask.label, "time": now()}
        alike = self._alike(ask, nodes, where)
        if alike is not None and alike == self._allowed:
            return {}
        self._allowed = None
        asked = [self._facts(node, **where, bytes=ask.each.get(node, ask.record).nbytes) for node in nodes]
        found = await self._governance.refused("take_part", self._person, asked)
        left = [facts for facts in asked if facts.node not in found]
        found |= await self._governance.refused("share_model", self._person, left)
        if not found:
            self._allowed = alike
        return found

    def _alike(self, ask: Ask, nodes: Sequence[str], where: Mapping[str, Any]) -> Hashable | None:
        """Equal for steps of this run of which the policies say the same: they are the same ones, and read nothing that
        differs. Of the time they read no more than the minute. None: it is not known."""
        known = self._governance.reads("take_part", "share_model")
        if known is None:
            return None
        version, names = known
        read = [where[name] for name in ("step", "round", "label") if name in names]
        if "bytes" in names:
            read.append(
                tuple(ask.each.get(node, ask.record).nbytes for node in nodes) if ask.each else ask.record.nbytes
            )
        if "time" in names:
            read.append(where["time"].timestamp() // 60)
        return version, self._run["role"], tuple(nodes), self._failed, *read

    async def not_taking_part(self, nodes: Sequence[str]) -> dict[str, str]:
        """Those that may take no part at all, before the run begins, and why."""
        where: dict[str, Any] = {"step": None, "round": None, "label": "", "bytes": 0, "time": now()}
        return await self._governance.refused("take_part", self._person, [self._facts(node, **where) for node in nodes])

    def seen(self, failures: Mapping[str, str]) -> None:
        """A step is over; these nodes gave nothing usable."""
        for node in failures:
            self._failures[node] = self._failures.get(node, 0) + 1
            self._failed += 1

    def _facts(self, node: str, **where: Any) -> Participation:
        dataset = self._datasets.get(node) or {}
        rows = dataset.get("most_rows")
        return Participation(
            **self._run,
            node=node,
            country=dataset.get("country"),
            tags=self._tags,
            rows=int(rows) if rows is not None else None,
            failures=self._failures.get(node, 0),
            **where,
        )


def to_wire(action: str, person: str, facts: RunFacts) -> dict[str, Json]:
    """A question as another process is asked it; its settings, which no policy reads, stay here."""
    told = {field.name: getattr(facts, field.name) for field in fields(facts)}
    del told["settings"]
    told["time"] = told["time"].isoformat()
    return {"action": action, "person": person, "facts": told}


def from_wire(asked: Json) -> tuple[str, str, RunFacts]:
    """The action, who asks and the facts; their time is that of this process. Raises ``WireError``."""
    known = VOCABULARY.facts
    action = asked.get("action") if isinstance(asked, Mapping) else None
    if not isinstance(asked, Mapping) or not isinstance(action, str) or action not in known:
        raise WireError(f"what is asked has an action; expected one of {', '.join(known)}")
    kind, told, person = known[action], asked.get("facts"), asked.get("person")
    names = {field.name for field in fields(kind)} - {"settings"}
    if not isinstance(told, Mapping) or set(told) != names or not isinstance(person, str):
        raise WireError(f"what is asked has a person (text) and the facts {', '.join(sorted(names))}")
    return action, person, kind(**{**told, "settings": {}, "time": now()})


def of_run(bundle: Bundle, run: str, proposer: str, nodes: int) -> dict[str, Any]:
    """The facts of a run (:class:`hanse.facts.RunFacts`), by name."""
    said = told_in_json(bundle.facts(""))
    del said["dataset"]
    said |= {"nodes": nodes}
    return {**said, "run": run, "bundle": bundle.sha256, "proposer": proposer, "purpose": bundle.config.purpose}
