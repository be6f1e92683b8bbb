"""A Flower app: its ServerApp, where the data scientist is, says what to ask; its ClientApp answers where the data is.

What a ServerApp sends and a ClientApp replies is bytes to the coordinator (:mod:`hanse.flower.parcels`): it carries
them, counts them and writes down who answered what, so the run's strategy is the app's own. **Each reply reaches the
data scientist by itself**, as in Flower: nothing is summed or noised between. What Hanse gives is what surrounds it:
owners agree to the app's very files, the ClientApp runs in the cage of training plans, and rules, budgets, limits and
audit are those of every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hanse.codec import decode, encode
from hanse.config import RunConfig
from hanse.errors import ConfigError, NotAllowed, WireError
from hanse.flower import client_side
from hanse.flower.folder import FlowerApp
from hanse.flower.sending import FlowerMessage, FlowerReplies, Sending
from hanse.kinds import Ask, Awaited, Combine, Contribution, Done, Gathered, Site
from hanse.messages import Json, Record
from hanse.settings import Setting, whole
from hanse.typed import Typed

WHOLE = True
SETTINGS = {
    "most_messages": Setting(
        100,
        "so many times at most a Flower app sends messages to the nodes; a round of its strategies is two: train, "
        "evaluate",
        whole(1, 100_000),
    ),
}


@dataclass(frozen=True, slots=True)
class State:
    """So many times messages were sent, of at most so many, and what came back the last time."""

    sent: int
    most: int
    last: FlowerReplies


class FlowerMessages:
    """Carries the messages of a Flower app."""

    combines = frozenset({Combine.EACH})

    def init(self, config: Mapping[str, Json], previous: Record | None) -> State:
        return State(0, config["most_messages"], FlowerReplies({}, {}))

    def ask(self, state: State) -> Ask | Done | Awaited:
        return Awaited(lambda said: self._asked(state, decode(Sending, said)))

    def _asked(self, state: State, sending: Sending) -> Ask | Done:
        if sending.over:
            return Done(f"the ServerApp has ended; it sent messages {state.sent} times")
        if state.sent >= state.most:
            raise ConfigError(
                f"the owners agreed to messages at most {state.most} times; propose the app with a larger most_messages"
            )
        places = set(sending.to.values())
        if not places or places != set(range(len(sending.messages))):
            raise WireError("what a ServerApp sends names a node for each message, and a message for each node")
        records = [encode(message) for message in sending.messages]
        label = sending.messages[0].kind.partition(".")[0][:40]
        each = {node: records[place] for node, place in sending.to.items()}
        layout = {"content": ("uint8", (None,))}
        return Ask(Record(), Combine.EACH, label, sending.round, each=each, to=sorted(each), arrays=layout)

    def answer(self, site: Site, ask: FlowerMessage) -> Contribution:
        if site.owner.get("transforms"):
            raise NotAllowed(
                "this node's owner changes what leaves (transforms), which a Flower app's messages cannot be"
            )
        plan = site.config["plan"]
        node = client_side.number(list(site.nodes), site.node)
        content, numbers, kept = client_side.answered(
            plan, ask.kind, ask.group, ask.content, node, site.place(), site.memory.get("state"), site.progress
        )
        site.memory["state"] = kept
        return Contribution(Record({}, {"content": content}), metrics=numbers, combine=Combine.EACH)

    def tell(self, state: State, gathered: Gathered) -> State:
        replies = {answer.node: np.array(record.arrays["content"]) for answer, record in gathered.each()}
        return State(state.sent + 1, state.most, FlowerReplies(replies, dict(gathered.failures)))

    def result(self, state: State) -> Record:
        return Record({"messages": state.sent})

    def metrics(self, state: State) -> Mapping[str, Json]:
        return {}


def returned(state: Record) -> Record:
    """Of the state of a run after a step: what came back in it (:class:`hanse.flower.sending.FlowerReplies`)."""
    found = decode(State, Record(state.data["of"], state.arrays))
    return encode(found.last)


def unfit(config: RunConfig) -> str:
    """What is wrong with the app, and what does not go with one."""
    if config.plan is None:
        return "flower_app runs the app in plan, and there is none; hanse flower propose FOLDER makes it"
    FlowerApp.of(config.plan)
    if config.privacy is not None:
        return "what a Flower app sends is its own, so no noise can be promised; leave privacy out"
    if config.transforms:
        return "the messages of a Flower app are its own, and no transforms fit them; leave transforms out"
    if config.features is not None:
        return "a Flower app reads the data set itself, with all its columns; leave features out"
    return ""


def most_steps(config: RunConfig) -> int:
    """Each sending is a step."""
    found = config.ingredient_settings.get("most_messages", SETTINGS["most_messages"].default)
    return int(found) if isinstance(found, int) else 0


ALGORITHM = Typed(FlowerMessages(), State, FlowerMessage)
