"""By the network: of the nodes whose lines are good enough, some at random.

What counts is what the coordinator measured in earlier rounds: how fast the last large payload came up and went down,
the round trip of the connection, and the share of segments that had to be sent again. A node of which one of these was
not measured is not held back by it: it is as likely to be drawn as one whose line is good, until it was. Where fewer
than are to be asked have good lines, those with the fastest way up of the others fill the places, so no run stops for
its lines. Among good lines all are as likely, so no site counts for more because its line is faster.
"""

from __future__ import annotations

from hanse.choice import Choice, Situation
from hanse.settings import Setting, number

SETTINGS = {
    "minimum_mbit_s": Setting(0.0, "megabits per second that a node's line carries at least, each way", number(0)),
    "maximum_latency_ms": Setting(1000.0, "milliseconds that a round trip to it takes at most", number(0, above=True)),
    "maximum_loss": Setting(0.05, "share of segments that may have to be sent to it again", number(0, 1)),
}
_SPEEDS = ("up_mbit_s", "down_mbit_s")


def choose(situation: Situation) -> Choice:
    """``count`` of the good ones without replacement, then the fastest others.

    >>> import numpy as np
    >>> from hanse.choice import Past
    >>> lines = {"a": {"up_mbit_s": 90.0}, "b": {"up_mbit_s": 2.0}, "c": {}}
    >>> past = [Past(0, 1, "train", ["a", "b", "c"], {}, {}, lines)]
    >>> told = {"minimum_mbit_s": 10.0, "maximum_latency_ms": 500.0, "maximum_loss": 0.1}
    >>> choose(Situation(["a", "b", "c"], 2, np.random.default_rng(0), {}, past, told)).reasons
    {'a': 'up 90 Mbit/s', 'c': 'its line was not measured yet'}
    """
    known = {what: situation.latest_of_line(what) for what in (*_SPEEDS, "latency_ms", "packet_loss")}
    least, settings = float(situation.settings["minimum_mbit_s"]), situation.settings

    def good(node: str) -> bool:
        return (
            all(known[way].get(node, least) >= least for way in _SPEEDS)
            and known["latency_ms"].get(node, 0.0) <= settings["maximum_latency_ms"]
            and known["packet_loss"].get(node, 0.0) <= settings["maximum_loss"]
        )

    fit = [node for node in situation.eligible if good(node)]
    count = min(situation.count, len(fit))
    drawn = [fit[i] for i in situation.rng.choice(len(fit), count, replace=False)] if fit else []
    others = sorted(set(situation.eligible) - set(fit), key=lambda node: (-known["up_mbit_s"].get(node, 0.0), node))
    filled = others[: situation.count - count]
    nodes = sorted([*drawn, *filled])
    reason = f"{count} at random of the {len(fit)} of {len(situation.eligible)} whose lines are good enough"
    if filled:
        reason += f", and the {len(filled)} fastest of the others"
    return Choice(nodes, reason, {node: _line(node, known) for node in nodes})


def _line(node: str, known: dict[str, dict[str, float]]) -> str:
    said = [
        f"{words} {known[what][node]:g}{unit}"
        for what, words, unit in (
            ("up_mbit_s", "up", " Mbit/s"),
            ("down_mbit_s", "down", " Mbit/s"),
            ("latency_ms", "round trip", " ms"),
            ("packet_loss", "loss", ""),
        )
        if node in known[what]
    ]
    return ", ".join(said) or "its line was not measured yet"
