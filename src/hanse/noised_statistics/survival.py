"""Kaplan and Meier's curve at the ends of so many equal ``bins`` of the ``range`` of times; ``event`` names the column
that is 1 where the time ends with an event, and 0 where it is censored.

A row is in one cell, so it changes the counts by 1: events d_j and censorings c_j of each bin, those who stay
beyond the range, and those whose event is neither 0 nor 1, who are in no curve (``uncounted`` says how many, where
noise does not hide that there are any). With n_j at risk at the beginning of bin j, and those censored in it at risk
for half of it (the life table's estimate)::

    S_j = Π_{k ≤ j} (1 - d_k / m_k),    m_k = n_k - c_k / 2,    n_k = Σ_{i ≥ k} (d_i + c_i) + beyond

The interval takes log S_j as linear in the noise, which is independent in each count, with m_k less the deviation of
its own: where noise makes those at risk seem more than they are, it would be too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.messages import Array, Json
from hanse.noised import NUMBERS, RANGE, Noised, Options, Z, bins
from hanse.settings import Setting, text
from hanse.table import Column

SETTINGS = {"range": RANGE, "bins": bins(20), "event": Setting("", "the column of events, 1 or 0", text(empty=True))}

_ENOUGH = 4  # deviations of the noise: what is less may be noise alone


def observe(columns: tuple[Column, Column], of: Array, options: Options) -> Array:
    (low, high), count = options["range"], int(options["bins"])
    times, events = (column.values for column in columns)
    fine = np.isfinite(times) & np.isfinite(events)
    t, event, odd, of = times[fine], events[fine] == 1, ~np.isin(events[fine], (0, 1)), of[fine]
    place = np.clip(np.ceil((np.clip(t, low, high) - low) / (high - low) * count).astype(np.int64) - 1, 0, count - 1)
    cell = np.where(t > high, 2 * count, place + np.where(event, 0, count))
    return np.bincount(np.where(odd, 2 * count + 1, cell), of, minlength=2 * count + 2).astype(np.float64)


def value(sums: Array, deviation: float, options: Options) -> tuple[Json, Json]:
    """Times and survival there, None from where too few are at risk for the noise on."""
    (low, high), count = options["range"], int(options["bins"])
    events, censored, (beyond, odd) = sums[:count], sums[count : 2 * count], sums[2 * count :]
    at_risk = beyond + np.cumsum((events + censored)[::-1])[::-1]
    m = at_risk - censored / 2
    noise = deviation * np.sqrt(2 * np.arange(count, 0, -1) + 1)  # of how many are at risk
    enough = (at_risk > _ENOUGH * noise) & (m - events > _ENOUGH * deviation)
    last = count if enough.all() else int(np.argmin(enough))  # the first bin that has too few
    d, m = events[:last], m[:last]
    raw = np.exp(np.cumsum(np.log(1 - d / m)))
    off = Z * deviation * _length(d, np.maximum(m - noise[:last], d + deviation), count)
    ends = np.clip(np.stack([raw * np.exp(-off), raw * np.exp(off)], 1), 0.0, 1.0)
    falling = (np.minimum.accumulate(raw) + np.maximum.accumulate(raw[::-1])[::-1]) / 2 if last else raw
    told: list[Json] = [float(v) for v in np.clip(falling, 0.0, 1.0)]
    times = [float(t) for t in np.linspace(low, high, count + 1)[1:]]
    spans: list[Json] = [[float(a), float(b)] for a, b in ends]
    lost = count - last
    found: dict[str, Json] = {"times": times, "survival": [*told, *([None] * lost)]}
    if odd > _ENOUGH * deviation:
        found["uncounted"] = float(odd)
    return found, [*spans, *([[0.0, 1.0]] * lost)]


def notes(told: Mapping[str, Json]) -> list[str]:
    """Where there are rows of other codes."""
    if "uncounted" not in told:
        return []
    return [
        f"some {told['uncounted']:.0f} rows are not in it, as their event is neither 1 (it happened) nor 0; recode it"
    ]


def _length(d: Array, m: Array, count: int) -> Array:
    """(j,) the L2 norm of the derivative of log S_j by all counts. More at risk in the bins up to i, as a row in bin i
    is in all of them, adds Σ_{k ≤ i} d_k / (m_k (m_k - d_k)); an event in bin i takes off 1 / (m_i - d_i) besides."""
    own, less = 1 / (m - d), d / (m * (m - d))
    risk = np.cumsum(less)
    by_event, by_censoring = np.cumsum((risk - own) ** 2), np.cumsum((risk - less / 2) ** 2)
    later = 2 * (count - 1 - np.arange(len(d))) + 1  # counts of later bins, and beyond
    return np.asarray(np.sqrt(by_event + by_censoring + later * risk**2))


NOISED = Noised(
    observe=observe,
    value=value,
    size=lambda options: 2 * int(options["bins"]) + 2,
    kinds=NUMBERS,
    beside="event",
    notes=notes,
)
