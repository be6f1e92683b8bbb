"""By policy: of the nodes that policies in Cedar permit, some at random.

``selection_policy`` is the text of the policies, which owners read with the run. They are asked of each eligible node
before each round, as ``Action::"choose"``, with what is known of it (:class:`Candidate`): its machine, as it measured
it, how it took part so far, and what it measured last. What decides is as everywhere (:mod:`hanse.cedar`): a ``forbid``
that fits is a no, no ``permit`` that fits is a no, and what cannot be evaluated is a no. Among those that are permitted
all are as likely. Nothing of the clock is known, so a run that is resumed chooses alike.

It chooses for whoever proposes the run; what an operator or an owner allows is asked besides, and has the last word.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from hanse.cedar.policies import Policies
from hanse.cedar.vocabulary import Vocabulary
from hanse.choice import Choice, Situation
from hanse.config import RunConfig
from hanse.errors import ConfigError
from hanse.messages import Json
from hanse.settings import Setting, text

SETTINGS = {
    "selection_policy": Setting(
        "",
        "policies in Cedar that a node must be permitted by to be asked",
        text(100_000, empty=True),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What policies can ask of a node that may be chosen. What is not known is absent.

    Args:
        node: its id.
        cpus, memory_mb, gpu: of its machine, as it measured them.
        asked, answered, failures: training rounds that it was asked in, and gave something and nothing usable in.
        rounds_ago: so many training rounds ago it was asked last; absent before the first time.
        rows: what it last counted for.
        loss, accuracy, auc: of its own held-out rows, of the last model that it measured; nobody knows them in secure
            sums.
        seconds: of its last answer.
    """

    node: str
    cpus: int | None
    memory_mb: int | None
    gpu: bool | None
    asked: int
    answered: int
    failures: int
    rounds_ago: int | None
    rows: float | None
    loss: float | None
    accuracy: float | None
    auc: float | None
    seconds: float | None


ACTION = "choose"
VOCABULARY = Vocabulary({ACTION: Candidate})


def unfit(config: RunConfig) -> str:
    """Why a run cannot be proposed: its policies are none, or cannot be read."""
    written = str(config.ingredient_settings["selection_policy"])
    if not written.strip():
        return 'selection_policy is empty; write policies, such as @id("small") permit(principal, action, resource);'
    try:
        _policies(written)
    except ConfigError as error:
        return error.message
    return ""


def choose(situation: Situation) -> Choice:
    """``count`` of those that are permitted, without replacement."""
    policies, permitted, refused = _policies(str(situation.settings["selection_policy"])), dict[str, str](), {}
    for candidate in _candidates(situation):
        said = policies.decide(ACTION, "", "", candidate)
        if said.allowed:
            permitted[candidate.node] = f"permitted by {', '.join(said.by)}"
        else:
            refused[candidate.node] = said.reason
    able = list(permitted)
    count = min(situation.count, len(able))
    drawn = sorted(able[i] for i in situation.rng.choice(len(able), count, replace=False)) if able else []
    reason = (
        f"{count} at random of the {len(able)} of {len(situation.eligible)} that policies of version "
        f"{policies.version} permit"
    )
    return Choice(drawn, reason, {node: permitted[node] for node in drawn}, refused)


@functools.lru_cache(16)
def _policies(written: str) -> Policies:
    return Policies({"selection_policy": written}, VOCABULARY)


def _candidates(situation: Situation) -> Iterator[Candidate]:
    """The eligible nodes. The past is read once for all of them, not once for each."""
    asked, answered, failures = Counter[str](), Counter[str](), Counter[str]()
    rounds, last = 0, dict[str, int]()
    for step in situation.past:
        if step.round is None:
            continue
        rounds += 1
        asked.update(step.asked)
        answered.update(list(step.answered))
        failures.update(list(step.failures))
        last.update(dict.fromkeys(step.asked, rounds))
    latest = {name: situation.latest(name) for name in ("weight", "loss", "accuracy", "auc", "seconds")}
    for node in situation.eligible:
        facts = situation.facts.get(node, {})
        yield Candidate(
            node=node,
            cpus=_whole(facts.get("cpus")),
            memory_mb=_whole(facts.get("memory_mb")),
            gpu=facts["gpu"] if isinstance(facts.get("gpu"), bool) else None,
            asked=asked[node],
            answered=answered[node],
            failures=failures[node],
            rounds_ago=rounds + 1 - last[node] if node in last else None,
            rows=latest["weight"].get(node),
            loss=latest["loss"].get(node),
            accuracy=latest["accuracy"].get(node),
            auc=latest["auc"].get(node),
            seconds=latest["seconds"].get(node),
        )


def _whole(value: Json) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
