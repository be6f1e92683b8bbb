"""What rules said of a task counts for the next one that is the same to them.

The tasks of a run differ in their step, their round and the time, and few rules look at those. A rule that says which
facts it reads (``reads``, :class:`hanse.rule.Rule`) is asked again only where one of these is another one, and is
handed no others: one that has said too little finds a fact missing, which is a no, and nothing old is taken for an
answer. All rules take some microseconds where a processor does nothing else, and ten times as long where it runs many
nodes in turn and has to fetch their code anew for each task.

Only a yes is remembered, of this version of whatever rules follow (``decides_by``), and of this minute.
"""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hanse import policy
from hanse.facts import Data, Facts
from hanse.messages import Json
from hanse.rule import Decision, Rule

_RUNS = 16  # of which a yes is remembered
_PASSING = frozenset({"step", "round", "exchange"})  # facts that are others in each task
_TIME = "time"
_MINUTE = timedelta(minutes=1)
_COMPARED = frozenset({str, int, float, tuple, Data})  # what is equal is the same; anything else only where it is one

Decided = tuple[Sequence[Decision], str]


@dataclass(slots=True)
class _Yes:
    """What was read, in which minute, what was said, and who decided."""

    read: tuple[Any, ...]
    begin: datetime
    end: datetime
    said: Sequence[Decision]
    by: str
    others: Sequence[Decision] = ()  # what those said last that are asked each time
    together: Decided = ((), "")  # and what follows from both


class RememberedRules:
    """Rules, and what they said last of each run.

    Args:
        rules: as of :func:`hanse.policy.rules`.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self._following = [rule for rule in rules if hasattr(rule, "decides_by")]
        self._by: list[Json] | None = None
        self._narrowed: list[policy.Narrowed] = []
        self._others: list[Rule] = []  # that are asked each time
        self._read: Callable[[Facts], tuple[Any, ...]] = operator.attrgetter("run", "bundle")
        self._timed = False
        self._yes: dict[str, _Yes] = {}

    def decides_by(self) -> list[Json]:
        """The version of what the rules have read that follow something: to be taken before they decide, so that what
        changes meanwhile is asked again. Raises what cannot be read."""
        return [rule.decides_by() for rule in self._following] if self._following else []

    def decide(self, facts: Facts, by: list[Json]) -> Decided | Coroutine[Any, Any, Decided]:
        """What was said, less what is remembered where others were asked, and who in particular decided
        (:func:`hanse.policy.named`); to be waited for only where a rule is asked that is. ``by``: of
        :meth:`decides_by`. Raises as :func:`hanse.policy.decide`."""
        if by != self._by:
            self._sort(by)
        yes = self._yes.get(facts.run)
        if yes is None or not self._same(facts, yes):
            return self._anew(facts, by)
        if not self._others:
            return yes.said, yes.by
        said = policy.ask(self._others, facts)
        return _together(yes, said) if isinstance(said, list) else self._later(yes, said)

    async def _later(self, yes: _Yes, said: Awaitable[Sequence[Decision]]) -> Decided:
        return _together(yes, await said)

    async def _anew(self, facts: Facts, by: list[Json]) -> Decided:
        said = await policy.decide([*self._narrowed, *self._others], facts)
        first = said[: len(self._narrowed)]
        if first and all(one.allowed for one in first) and by == self._by and by == self.decides_by():
            self._remember(facts, first)
        return said, policy.named(said)

    def _sort(self, by: list[Json]) -> None:
        """What each rule reads, of this version."""
        self._by = None  # until all is known
        self._yes.clear()
        self._narrowed, self._others, names = [], [], {"run", "bundle"}
        for rule in self.rules:
            reads = getattr(rule, "reads", None)
            if reads is None or reads & _PASSING:
                self._others.append(rule)
            else:
                self._narrowed.append(policy.Narrowed(rule, reads))
                names |= reads
        self._timed = _TIME in names
        self._read = operator.attrgetter(*sorted(names - {_TIME}))
        self._by = by if by == self.decides_by() else None

    def _same(self, facts: Facts, yes: _Yes) -> bool:
        """Whether the rules that were asked then would read the same now."""
        try:
            read = self._read(facts)
            return _alike(read, yes.read) and (not self._timed or yes.begin <= facts.time < yes.end)
        except AttributeError:
            return False

    def _remember(self, facts: Facts, said: Sequence[Decision]) -> None:
        while len(self._yes) >= _RUNS:
            del self._yes[next(iter(self._yes))]
        begin = _minute(facts.time)
        self._yes[facts.run] = _Yes(self._read(facts), begin, begin + _MINUTE, said, policy.named(said))


def _together(yes: _Yes, said: Sequence[Decision]) -> Decided:
    """What the others say, and who decided with those whose yes is remembered."""
    if not said or said != yes.others:
        by = policy.named(said)
        yes.others, yes.together = said, (said, f"{yes.by}; {by}" if yes.by and by else yes.by or by)
    return yes.together


def _alike(values: tuple[Any, ...], before: tuple[Any, ...]) -> bool:
    """Whether these are the same: a true is equal to a one, and is something else."""
    if all(map(operator.is_, values, before)):  # of one run nearly always
        return True
    for value, was in zip(values, before, strict=True):
        if value is was:
            continue
        if type(value) is not type(was) or type(value) not in _COMPARED or value != was:
            return False
    return True


def _minute(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)
