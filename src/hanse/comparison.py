"""Whether sites mean the same by the labels of one column: what people should hear of before they train.

Sites code alike what they mean alike, or a model learns which site a row came from. What is found here is said where a
run is proposed, when the sites have settled what they learn, and in the result; a target that cannot work is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from hanse.errors import ConfigError

CODINGS = (  # sets of labels that say the same thing; the order within a line is that of meaning
    (
        ("no", "yes"),
        ("n", "y"),
        ("0", "1"),
        ("false", "true"),
        ("f", "t"),
        ("negative", "positive"),
        ("neg", "pos"),
        ("-", "+"),
        ("absent", "present"),
        ("control", "case"),
        ("nein", "ja"),
        ("non", "oui"),
        ("1", "2"),
    ),
    (("female", "male"), ("f", "m"), ("w", "m"), ("woman", "man"), ("0", "1"), ("1", "2"), ("2", "1")),
)
_MOST = 6  # labels that a sentence names


def labels(found: Mapping[str, Iterable[str]], column: str) -> list[str]:
    """What is odd about the labels that sites have in ``column``, a sentence each.

    Args:
        found: site to its labels, as far as they are known; a site without any says nothing.

    >>> labels({"ulm": ["no", "yes"], "bonn": ["No", "yes"]}, "sick")[0]
    "'sick': 'No' at bonn and 'no' at ulm differ in case, blanks or signs alone; they count as 2 labels"
    >>> labels({"ulm": ["no", "yes"], "bonn": ["0", "1"]}, "sick")[0]
    "'sick' is coded in 2 ways: 0, 1 at bonn; no, yes at ulm; recode it at one side, or these count as 4 labels"
    """
    said = spellings(found, column)
    sites = _told(found)
    if coded := _coded(sites, column):
        said += coded
    elif not said and _several(sites) and (alone := _alone(sites)):
        shown = [f"{_some(own)} only at {site}" for site, own in alone.items()]
        more = f"; and at {len(shown) - _MOST} more sites" if len(shown) > _MOST else ""
        said.append(f"{column!r} has labels that no other site has: {'; '.join(shown[:_MOST])}{more}")
    return said


def categories(found: Mapping[str, Iterable[str]], column: str) -> list[str]:
    """What is odd about the labels of a column that something is learned from, a sentence each; arguments as of
    :func:`labels`. That a site has labels of its own beside others' is nothing odd in such a column, but that it has
    no other is.

    >>> categories({"ulm": ["f", "m"], "bonn": ["female", "male"]}, "sex")[0]
    "'sex' is coded in 2 ways: f, m at ulm; female, male at bonn; recode it at one side, or these count as 4 labels"
    >>> categories({"ulm": ["never", "often"], "bonn": ["nie", "oft"], "kiel": ["never"]}, "smoker")
    ["no other site has a label of 'smoker' at bonn: nie, oft; if they mean what others call otherwise, recode them"]
    """
    said = spellings(found, column)
    sites = _told(found)
    if said or (coded := _coded(sites, column)):
        return said or coded
    at: dict[str, int] = {}
    for own in sites.values():
        for label in {plain(label) for label in own}:
            at[label] = at.get(label, 0) + 1
    strangers = {site: own for site, own in sites.items() if all(at[plain(label)] == 1 for label in own)}
    if len(sites) < 2 or not strangers:
        return []
    shown = [f"{site}: {_some(own)}" for site, own in strangers.items()]
    return [
        f"no other site has a label of {column!r} at {'; at '.join(shown[:_MOST])}"
        + (f"; nor at {len(shown) - _MOST} more sites" if len(shown) > _MOST else "")
        + "; if they mean what others call otherwise, recode them"
    ]


def spellings(found: Mapping[str, Iterable[str]], column: str) -> list[str]:
    """The labels that differ in case, blanks or signs alone, a sentence each; arguments as of :func:`labels`."""
    sites = _told(found)
    said: list[str] = []
    alike: dict[str, dict[str, list[str]]] = {}
    for site, own in sites.items():
        for label in own:
            alike.setdefault(plain(label), {}).setdefault(label, []).append(site)
    for each_way in alike.values():
        if len(each_way) > 1:
            shown = [f"{label!r} at {_some(at)}" for label, at in sorted(each_way.items())]
            each = " and ".join([*shown[:_MOST], *([f"{len(shown) - _MOST} more"] if len(shown) > _MOST else [])])
            said.append(
                f"{column!r}: {each} differ in case, blanks or signs alone; they count as {len(each_way)} labels"
            )
    return said


def shared(found: Mapping[str, Iterable[str]], column: str) -> None:
    """Raises ``ConfigError`` where no two sites share a label of the target although two of them tell several apart:
    such a model would tell sites apart and not rows. (A site of one label may be one that treats one group.)

    >>> shared({"ulm": ["no", "yes"], "bonn": ["0", "1"]}, "sick")
    Traceback (most recent call last):
    ...
    hanse.errors.ConfigError: no two sites share a label of 'sick': 0, 1 at bonn; no, yes at ulm; code it alike first
    """
    sites = _told(found)
    seen: set[str] = set()
    for own in sites.values():
        if not seen.isdisjoint(own):
            return
        seen.update(own)
    if sum(len(own) > 1 for own in sites.values()) > 1:
        shown = [f"{_some(own)} at {site}" for site, own in sites.items()]
        more = f"; and others at {len(shown) - _MOST} more sites" if len(shown) > _MOST else ""
        raise ConfigError(
            f"no two sites share a label of {column!r}: {'; '.join(shown[:_MOST])}{more}; code it alike first"
        )


def plain(label: str) -> str:
    """A label without what often differs by accident: case, blanks, a decimal .0, quotes and full stops.

    >>> plain(" Yes. "), plain("1.0"), plain("NON-SMOKER"), plain("non smoker"), plain("-")
    ('yes', '1', 'non smoker', 'non smoker', '-')
    """
    text = re.sub(r"^(-?\d+)\.0+$", r"\1", label.strip().casefold())
    bare = " ".join(re.sub(r"[\s_./'\"-]+", " ", text).split())
    return bare if bare and not re.fullmatch(r"-?\d+([.,]\d+)?", text) else text


def _told(found: Mapping[str, Iterable[str]]) -> dict[str, Sequence[str]]:
    """The sites that tell any labels, in order, and the labels of each in order; one object for all that tell the same,
    of whom there may be thousands."""
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    sites: dict[str, Sequence[str]] = {}
    for site in sorted(found):
        if own := tuple(sorted(set(found[site]))):
            sites[site] = known.setdefault(own, own)
    return sites


def _coded(sites: Mapping[str, Sequence[str]], column: str) -> list[str]:
    """A sentence, where sites say the same by different words."""
    ways: dict[tuple[str, ...], list[str]] = {}
    for site, own in sites.items():
        ways.setdefault(tuple(sorted({plain(label) for label in own})), []).append(site)
    if not (coded := _codings(list(ways))):
        return []
    each = "; ".join(f"{', '.join(way)} at {_some(ways[way])}" for way in coded)
    total = len({label for way in coded for label in way})
    return [
        f"{column!r} is coded in {len(coded)} ways: {each}; recode it at one side, or these count as {total} labels"
    ]


def _codings(ways: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Those of the ways to label that say the same by different words; empty unless there are two."""
    for family in CODINGS:
        known = {tuple(sorted(pair)) for pair in family}
        found = [way for way in ways if any(set(way) <= set(pair) and len(way) > 1 for pair in known)]
        if len({frozenset(way) for way in found}) > 1:
            return sorted(found)
    return []


def _several(sites: Mapping[str, Sequence[str]]) -> bool:
    """Whether several sites tell more than two labels."""
    return len(sites) > 1 and len({label for own in sites.values() for label in own}) > 2


def _alone(sites: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The labels that one site has and no other, of sites that share some."""
    held = Counter(label for own in sites.values() for label in own)
    alone = {site: [label for label in own if held[label] == 1] for site, own in sites.items()}
    return {site: own for site, own in alone.items() if own}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more
