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
from collections.abc import Mapping
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
    for node in situation.eligible:
        said = policies.decide(ACTION, "", "", _candidate(situation, node))
        if said.allowed:
            permitted[node] = f"permitted by {', '.join(said.by)}"
        else:
            refused[node] = said.reason
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


def _candidate(situation: Situation, node: str) -> Candidate:
    rounds = [step for step in situation.past if step.round is not None]
    asked = [place for place, step in enumerate(rounds) if node in step.asked]
    answers = [step.answered[node] for step in situation.past if node in step.answered]
    facts = situation.facts.get(node, {})
    return Candidate(
        node=node,
        cpus=_whole(facts.get("cpus")),
        memory_mb=_whole(facts.get("memory_mb")),
        gpu=facts["gpu"] if isinstance(facts.get("gpu"), bool) else None,
        asked=len(asked),
        answered=sum(node in step.answered for step in rounds),
        failures=sum(node in step.failures for step in rounds),
        rounds_ago=len(rounds) - asked[-1] if asked else None,
        rows=_latest(answers, "weight"),
        loss=situation.latest("loss").get(node),
        accuracy=situation.latest("accuracy").get(node),
        auc=situation.latest("auc").get(node),
        seconds=_latest(answers, "seconds"),
    )


def _whole(value: Json) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _latest(answers: list[Mapping[str, Json]], name: str) -> float | None:
    known = [said[name] for said in answers if isinstance(said.get(name), (int, float))]
    return float(known[-1]) if known else None
