"""Policies as they were read: checked against what they can ask about, evaluated, and remembered.

A decision follows from the policies and from the attributes that their conditions name, so only these are handed over,
and equal ones are decided once. What no condition names cannot change what a policy says; were one to find it all the
same, it would not be there, and what cannot be evaluated is a no.

An answer that is remembered takes some microseconds, one that is not some tens of them (``bench/policy.py``).
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hanse.cedar.missing import missing
from hanse.cedar.vocabulary import Vocabulary
from hanse.errors import ConfigError
from hanse.json_writer import writer

log = logging.getLogger(__name__)
_REMEMBERED = 4096
_written = writer(sort_keys=False, ensure_ascii=True)
_NUMBERED = re.compile(r"\bpolicy\d+\b")  # how Cedar calls a policy, by its place in the text
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,79}").fullmatch


@dataclass(frozen=True, slots=True)
class Ruling:
    """What policies say.

    Args:
        allowed: yes or no.
        by: names (``@id``) of the policies that decided it.
        reason: in words, for who asked.
        version: of the policies.
    """

    allowed: bool
    by: tuple[str, ...]
    reason: str
    version: str


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy: its ``@id``, whether it permits, and what its author says of it (``@says``)."""

    name: str
    permits: bool
    says: str


class Policies:
    """Policies of one or several files, for one vocabulary.

    Args:
        texts: the name of each file to its text.
        vocabulary: what can be asked about.

    Raises:
        ConfigError: a text is no Cedar, names what there is not, reads what may be absent without a look, or has a
            policy without a name of its own; or Cedar is not installed.
    """

    def __init__(self, texts: Mapping[str, str], vocabulary: Vocabulary) -> None:
        self._cedar = _library()
        self.texts = dict(texts)
        for name, text in texts.items():
            self._parsed(name, text)
        text = "\n".join(texts[name] for name in sorted(texts))
        told = json.dumps([[name, texts[name]] for name in sorted(texts)])
        self.version = hashlib.sha256(told.encode()).hexdigest()[:12]
        self._set = self._parsed("the policies", text)
        read = json.loads(self._cedar.policies_to_json_str(text))
        self.policies = _named(read)
        if wrong := [
            f"{self.policies[n].name}: {what}"
            for n, p in read["staticPolicies"].items()
            for what in missing(p, vocabulary)
        ]:
            raise _not_there("; ".join(wrong[:5]))
        self.used = vocabulary.naming(frozenset(_attributes(read)))
        self._check(text, vocabulary.schema())
        self._check(text, self.used.schema())
        self._schema = self._cedar.Schema.from_str(self.used.schema())
        self._none = self._cedar.Entities.from_json_str("[]")
        self._sound: set[Hashable] = set()  # shapes of requests that Cedar has found to be of the schema
        self._yes: dict[tuple[str, ...], Ruling] = {}  # by who permitted it: most are the same one
        self._decided: OrderedDict[tuple[str, str, str, str], Ruling] = OrderedDict()  # by the context
        self._quickly: OrderedDict[tuple[str, str, str, Hashable], Ruling] = OrderedDict()  # by the facts themselves

    # ------------------------------------------------------------ reading

    def _parsed(self, name: str, text: str) -> Any:
        try:
            return self._cedar.PolicySet.from_str(text)
        except ValueError as error:
            raise ConfigError(f"{name} cannot be read as Cedar policies: {_line(error)}") from None

    def _check(self, text: str, schema: str) -> None:
        result = self._cedar.validate_policies(text, schema)
        if not result.validation_passed or result.errors:
            said = "; ".join(f"{self._renamed(e.policy_id)}: {self._renamed(e.error)}" for e in result.errors[:5])
            raise _not_there(said)

    def _renamed(self, text: str) -> str:
        return _NUMBERED.sub(lambda found: self.policies[found[0]].name if found[0] in self.policies else "", text)

    # ------------------------------------------------------------ deciding

    def decide(self, action: str, principal: str, run: str, facts: Any) -> Ruling:
        """What the policies say of an action.

        Args:
            principal: who wants it done: the data scientist who proposed the run, or who reads its result.
            run: the run's id.
            facts: of the type that the vocabulary has for the action.

        Raises:
            AttributeError: a fact is not there. TypeError, ValueError, OverflowError: it is not what its type says.
        """
        alike = (action, principal, run, self.used.alike(action, facts))
        try:
            if (known := self._quickly.get(alike)) is not None:
                return known
        except TypeError:  # a fact that has no hash
            alike = (action, principal, run, None)
        context = self.used.context(action, facts)
        key = (action, principal, run, _written(context))
        known = self._decided.get(key)
        if known is None:
            known = self._decided[key] = self._evaluated(*key, self.used.shape(action, context))
            while len(self._decided) > _REMEMBERED:
                self._decided.popitem(last=False)
        if alike[3] is not None:
            self._quickly[alike] = known
            while len(self._quickly) > _REMEMBERED:
                self._quickly.popitem(last=False)
        return known

    def reads(self, action: str) -> frozenset[str]:
        """The names of the facts that the policies' conditions name: what else changes changes no decision.

        >>> from hanse.cedar.vocabulary import Vocabulary
        >>> from hanse.facts import Data
        >>> text = '@id("x") permit (principal, action, resource) when { context.name == "a" };'
        >>> sorted(Policies({"a.cedar": text}, Vocabulary({"look": Data})).reads("look"))
        ['name']
        """
        return frozenset(attribute.fact for attribute in self.used.actions[action])

    def _evaluated(self, action: str, principal: str, run: str, context: str, shape: Hashable) -> Ruling:
        """Cedar checks a request against the schema by which attributes there are, and of which types. The types are
        those of the schema (:meth:`hanse.cedar.vocabulary.Vocabulary.context`), so it is asked once for each shape."""
        request = {
            "principal": {"type": "Person", "id": principal},
            "action": {"type": "Action", "id": action},
            "resource": {"type": "Run", "id": run},
            "context": context,
        }
        schema = None if shape in self._sound else self._schema
        result = self._cedar.is_authorized(request, self._set, self._none, schema=schema)
        decision, diagnostics = result.decision, result.diagnostics
        errors, reasons = diagnostics.errors, diagnostics.reasons
        by = tuple(sorted([self.policies[number].name for number in reasons]))
        if decision is not self._cedar.Decision.NoDecision:
            self._sound.add(shape)
        if errors or decision is self._cedar.Decision.NoDecision:
            failed = sorted({self.policies[n].name for e in errors for n in _NUMBERED.findall(e) if n in self.policies})
            log.warning("policies could not be evaluated (%s): %s", ", ".join(failed) or "the request", errors)
            which = f"policy {', '.join(map(repr, failed))}" if failed else "what is asked"
            return self._no(tuple(failed), f"{which} could not be evaluated, which counts as a no")
        if decision is self._cedar.Decision.Allow:
            if by not in self._yes:
                self._yes[by] = Ruling(True, by, "", self.version)
            return self._yes[by]
        if by:
            said = "; ".join(self._said(number) for number in sorted(reasons))
            return self._no(by, f"forbidden by {said}")
        permits = sorted(policy.name for policy in self.policies.values() if policy.permits)
        return self._no((), f"nothing permits it (there are the permits {', '.join(permits)})")

    def _said(self, number: str) -> str:
        policy = self.policies[number]
        return f"policy {policy.name!r}" + (f" ({policy.says})" if policy.says else "")

    def _no(self, by: tuple[str, ...], reason: str) -> Ruling:
        return Ruling(False, by, reason, self.version)


def _not_there(said: str) -> ConfigError:
    return ConfigError(f"policies ask for what there is not: {_line(said)}")


def _line(text: object) -> str:
    return " ".join(str(text).split())[:1000]


def _library() -> Any:
    try:
        import cedarpy
    except ImportError:
        raise ConfigError("policies in Cedar need the package cedarpy: pip install 'hanse[policy]'") from None
    return cedarpy


def _named(read: Any) -> dict[str, Policy]:
    """Cedar's number of each policy to the policy."""
    if read.get("templates"):
        raise ConfigError("policies with ?principal or ?resource are templates, which nobody fills here")
    found: dict[str, Policy] = {}
    for number, policy in read["staticPolicies"].items():
        annotations = policy.get("annotations") or {}
        name, said = annotations.get("id") or "", annotations.get("says") or ""
        if not _ID(name):
            raise ConfigError(
                f'a policy ({policy["effect"]}) is called {name!r}; give each a name: @id("at-night") before it'
            )
        found[number] = Policy(name, policy["effect"] == "permit", said)
    names = [policy.name for policy in found.values()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two policies are called {', '.join(twice)}; give each an @id of its own")
    if not any(policy.permits for policy in found.values()):
        raise ConfigError("no policy permits anything, so all would be refused; write at least one permit")
    return found


def _attributes(read: Any) -> Iterator[str]:
    """The names of all attributes in the conditions, as Cedar has read them."""
    unread: list[Any] = [policy["conditions"] for policy in read["staticPolicies"].values()]
    while unread:
        one = unread.pop()
        if isinstance(one, dict):
            if isinstance(one.get("attr"), str):
                yield one["attr"]
            unread += one.values()
        elif isinstance(one, list):
            unread += one
