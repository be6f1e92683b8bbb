"""What happens to a contribution between the algorithm's answer and the reply that leaves the node: one file
each, applied in the order in which they stand in the bundle (:class:`hanse.gather.Transform`).

The run's own come first (``transforms`` of its configuration, ``[{"name": "clip", "norm": 1.0}]``), then those
that the node's owner demands beside (``transforms`` of the policy, ``["clip norm=0.5"]``). So an owner can
only ask for more. A file has ``TRANSFORM``, its class, ``SETTINGS``, what it is made with, and
``UPDATES_ONLY = True`` where it changes nothing but updates.

Each link of the list is a pair of pure functions, as in optax: ``init`` gives a state, ``apply`` takes a
contribution and a state and gives both anew. The state is plain values, kept at the node for each run as it was
after each exchange, so an exchange that is asked again is transformed in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from hanse.errors import ConfigError
from hanse.gather import Party, Transform
from hanse.kinds import Contribution
from hanse.messages import Json
from hanse.registry import find, settings
from hanse.settings import checked as checked_values


class Chain:
    """Transforms in their order.

    Args:
        links: name and settings of each, as a bundle has them.

    Raises:
        ConfigError: there is no such transform, or a setting of it is wrong.
    """

    def __init__(self, links: Sequence[Mapping[str, Json]]) -> None:
        self._links: list[tuple[str, Transform]] = []
        for place, link in enumerate(checked(links)):
            name = link.pop("name")
            self._links.append((f"{place} {name}", find("transforms", name).TRANSFORM(**link)))

    @property
    def empty(self) -> bool:
        """Whether each contribution leaves as it is."""
        return not self._links

    def apply(
        self, contribution: Contribution, memory: MutableMapping[str, dict[str, Any]], party: Party
    ) -> Contribution:
        """The contribution as it leaves; ``memory`` holds the states, by place and name."""
        for key, transform in self._links:
            state = memory[key] if key in memory else transform.init()
            contribution, memory[key] = transform.apply(contribution, state, party)
        return contribution


def checked(links: Iterable[Mapping[str, Json]]) -> list[dict[str, Json]]:
    """The links with all their settings, defaults included. Raises ``ConfigError``.

    >>> checked([{"name": "clip", "norm": 2}])
    [{'name': 'clip', 'norm': 2}]
    """
    found = []
    for link in links:
        if not isinstance(link, Mapping) or not isinstance(link.get("name"), str):
            raise ConfigError(f"a transform is an object with its name and settings, not {link!r}")
        given = {key: value for key, value in link.items() if key != "name"}
        known = settings("transforms", link["name"])
        found.append({"name": link["name"], **checked_values(given, known, of=f"the transform {link['name']!r}")})
    return found


def needs_updates(links: Iterable[Mapping[str, Json]]) -> list[str]:
    """The names of those that change nothing but updates (:attr:`hanse.kinds.Contribution.update`)."""
    return [link["name"] for link in links if getattr(find("transforms", link["name"]), "UPDATES_ONLY", False)]


def parse(text: str) -> dict[str, Json]:
    """A link as an owner writes it.

    >>> parse("clip norm=0.5")
    {'name': 'clip', 'norm': 0.5}
    """
    name, *rest = text.split()
    link: dict[str, Json] = {"name": name}
    for part in rest:
        key, equals, value = part.partition("=")
        try:
            link[key] = json.loads(value)
        except ValueError:
            link[key] = value
        if not equals:
            raise ConfigError(f"{text!r} is no transform; expected its name and settings, as in 'clip norm=0.5'")
    return link


def report(links: Iterable[str], metrics: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """What the transforms did in a step, for its record, from the metrics of the nodes."""
    said: dict[str, Json] = {}
    for name in dict.fromkeys(links):
        said |= find("transforms", name).TRANSFORM.report(metrics)
    return said


__all__ = ["Chain", "checked", "needs_updates", "parse", "report"]
