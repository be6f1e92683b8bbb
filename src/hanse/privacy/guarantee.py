"""What a differentially private run promises: for whom, how much, by which noise, and who is trusted with what.

A run proposes it in one object, ``privacy`` of its configuration, which the hash that owners accept binds. From that
and the number of its nodes all else follows, the same at the coordinator and at each node: nobody says how much noise
is enough, everybody computes it.

With ρ of :mod:`hanse.privacy.concentrated`, the (ε, δ) of the run is a total ρ, of which each of its T releases has a
T-th; one release has noise of σ = Δ / √(2 ρ/T) in the whole, with Δ the most that one unit changes it by.

Where an algorithm adds the noise itself, in each of several steps inside a release, T counts the steps; and where each
step takes a secret sample of the rows, σ is the smaller one that follows from it (:mod:`hanse.privacy.sampled`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hanse.errors import ConfigError
from hanse.messages import Json
from hanse.privacy import concentrated, sampled
from hanse.settings import Check, Setting, checked, is_span, number, one_of, whole

LOCAL, DISTRIBUTED, CENTRAL = "local", "distributed", "central"
ROW, SITE = "row", "site"


def _is_ranges(value: Json) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) and is_span(span) for name, span in value.items())


SETTINGS = {
    "mode": Setting(
        LOCAL,
        "local: each node's answer is private by itself; distributed: only the secure sum of all is, with less noise "
        "in it, and nobody sees anything else; central: the coordinator adds the noise, and is trusted to",
        one_of(LOCAL, DISTRIBUTED, CENTRAL),
    ),
    "epsilon": Setting(1.0, "of the whole run", number(0, 1000, above=True)),
    "delta": Setting(1e-5, "of the whole run", number(0, 0.1, above=True)),
    "clip": Setting(
        1.0, "the most that one unit changes a release by: L2 norm over all arrays together", number(0, 1e9, above=True)
    ),
    "ranges": Setting(
        {},
        "column to [lowest, highest], known beforehand; * for all others. Means and scales of numbers are taken from "
        "them, not from rows",
        Check("an object of column to [lowest, highest]", _is_ranges, {"type": "object"}),
    ),
    "colluding": Setting(
        1, "distributed: so many nodes may know their own noise, and the rest is still enough", whole(0)
    ),
}


def settled(given: Json) -> dict[str, Json]:
    """The object with its defaults; a mode alone is one. Raises ``ConfigError``.

    >>> settled("local")["epsilon"], settled({"epsilon": 2})["delta"]
    (1.0, 1e-05)
    """
    return checked({"mode": given} if isinstance(given, str) else given, SETTINGS, of="privacy")


@dataclass(frozen=True, slots=True)
class Guarantee:
    """
    Args:
        mode, epsilon, delta, clip: as proposed, of the whole run.
        unit: whose part nobody can tell: ``row`` or ``site``.
        releases: T, how many noised answers a node gives at most.
        sharing: of how many nodes the noise makes up that of a sum, 1 where each node's own is enough.
        rho: of the whole run; of sampled steps, what they would cost without being sampled.
        steps: noised steps inside each release that one row is in; 0: the release is noised as a whole.
        sampling: q, by which each row is in a step.
    """

    mode: str
    epsilon: float
    delta: float
    clip: float
    unit: str
    releases: int
    sharing: int
    rho: float
    steps: int = 0
    sampling: float = 1.0

    @property
    def each(self) -> float:
        """ρ of one release, or of one step inside it."""
        return self.rho / (self.releases * max(1, self.steps))

    @property
    def stepwise(self) -> bool:
        """Whether the algorithm adds the noise itself, inside what it computes (:mod:`hanse.privacy.steps`)."""
        return self.steps > 0

    @property
    def multiplier(self) -> float:
        """σ of one release over its Δ, in what leaves all trusted hands: the sum, or in local mode one answer."""
        return concentrated.sigma_of(self.each)

    def deviation(self, sensitivity: float) -> float:
        """The standard deviation of the noise that one node adds."""
        return float(concentrated.sigma_of(self.each, sensitivity) / self.sharing**0.5)

    def to_json(self) -> dict[str, Json]:
        """For records, results and pages; ``words`` among it."""
        return {
            "mode": self.mode,
            "epsilon": self.epsilon,
            "delta": self.delta,
            "unit": self.unit,
            "clip": self.clip,
            "releases": self.releases,
            "rho": self.rho,
            "noise_multiplier": self.multiplier,
            "mechanism": "discrete Gaussian",
            "words": self.words(),
            **({"steps": self.steps, "sampling": self.sampling} if self.stepwise else {}),
        }

    def words(self) -> str:
        """What it means, in sentences."""
        person = "" if self.stepwise else " (one person with all rows, where a node says whose they are)"
        whose = {
            ROW: f"one row more or less in a node's data{person}",
            SITE: "whether a site's rows were there or none at all (a whole site, not single rows)",
        }[self.unit]
        who = {
            LOCAL: "Each node adds the noise itself, so this holds against everybody who sees its answers.",
            CENTRAL: "The coordinator sees the sums and adds the noise; it holds against all others, if it does.",
            DISTRIBUTED: f"The noises of any {self.sharing} nodes add up to enough in the secure sum, which is all "
            "that anybody sees; it holds as long as secure sums do.",
        }[self.mode]
        inside = ""
        if self.stepwise:
            inside = (
                f", in each of {self.steps} steps inside a release, of which each takes every row with a probability "
                f"of {self.sampling:g} that nobody sees"
                if self.sampling < 1
                else f", in each of the {self.steps} sums inside a release that one row is in at most"
            )
        return (
            f"Differentially private with epsilon {self.epsilon:g} and delta {self.delta:g} over all {self.releases} "
            f"releases together: {whose} makes no outcome more than e^{self.epsilon:g} times as likely, but for a "
            f"probability of {self.delta:g}. Discrete Gaussian noise of {self.multiplier:.3g} times the bound of one "
            f"{self.unit} ({self.clip:g}){inside}. {who} Not covered: names of columns, classes and categories, of "
            "which those are told that enough rows of a site have."
        )


def of(
    privacy: Mapping[str, Json], unit: str, releases: int, fewest: int, steps: int = 0, sampling: float = 1.0
) -> Guarantee:
    """What a run promises.

    Args:
        privacy: :func:`settled`.
        releases: noised answers of one node, at most.
        fewest: nodes that a secure sum of the run is of at least; not read where each node adds its noise alone.
        steps, sampling: of :class:`Guarantee`.

    Raises:
        ConfigError: so few nodes may be left that none is honest; no noise is known to be enough.
    """
    sharing = 1
    if privacy["mode"] == DISTRIBUTED:
        sharing = fewest - privacy["colluding"]
        if sharing < 1:
            raise ConfigError(
                f"privacy: a secure sum of this run may be of {fewest} nodes, of which {privacy['colluding']} may be "
                "colluding, so nobody's noise would hide the others; ask more nodes, or set secure_threshold higher"
            )
    rho = concentrated.rho_of(privacy["epsilon"], privacy["delta"])
    if steps:
        each = sampled.multiplier_of(float(privacy["epsilon"]), float(privacy["delta"]), releases * steps, sampling)
        rho = releases * steps * concentrated.rho_of_noise(1.0, each)
    return Guarantee(
        mode=privacy["mode"],
        epsilon=float(privacy["epsilon"]),
        delta=float(privacy["delta"]),
        clip=float(privacy["clip"]),
        unit=unit,
        releases=releases,
        sharing=sharing,
        rho=rho,
        steps=steps,
        sampling=sampling,
    )


def range_of(privacy: Mapping[str, Json], column: str) -> tuple[float, float]:
    """The range that was proposed for a column. Raises ``ConfigError`` where there is none."""
    ranges = privacy["ranges"]
    found = ranges.get(column, ranges.get("*"))
    if found is None:
        raise ConfigError(
            f"privacy: {column!r} has no range, and its mean and scale cannot be told without one; give "
            f"ranges={{{column!r}: [lowest, highest]}}, or one for all others as '*'"
        )
    return float(found[0]), float(found[1])
