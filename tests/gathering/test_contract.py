"""The contract of gathering, with a gather of several exchanges that is one file (``masked.py``)."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hanse.gathering
from hanse import algorithms, gathering
from hanse.answers import Answerer
from hanse.bundle import Bundle, freeze
from hanse.config import RunConfig
from hanse.errors import ConfigError, NodeFailed, NotAllowed, NotApproved
from hanse.kinds import Combine, Contribution, Site, State
from hanse.messages import Message, Record, digest
from hanse.policy import secure_aggregation
from hanse.rounds import Forgetful, Loop, Step, go
from hanse.transport import Handler, Progress
from hanse.transports.local import LocalTransport

from .summing import Summing

N = 4


@pytest.fixture(autouse=True)
def masked(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The folder is the registry: with the file in it, the gather is there."""
    here = str(Path(__file__).parent)
    monkeypatch.setattr(hanse.gathering, "__path__", [*hanse.gathering.__path__, here])
    yield importlib.import_module("hanse.gathering.masked")
    sys.modules.pop("hanse.gathering.masked", None)


class Federation:
    """Real node halves, with faults: ``(node, step, op)`` to what is raised there, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gather: str = "masked") -> None:
        monkeypatch.setattr(algorithms, "build", lambda config, start=None: Summing(4))
        self.config = RunConfig.parse({"federated_strategy": "probe", "gathering": gather})
        self.bundle: Bundle = freeze(self.config, {"features": [], "kinds": {}}, {})
        self.seen: list[tuple[str, int, int, str]] = []
        self.said: dict[tuple[str, int, int], Record] = {}
        self.faults: dict[tuple[str, int, str], Exception] = {}
        self.nodes = {f"n{k}": self._handler(f"n{k}") for k in range(N)}

    def _handler(self, node: str) -> Handler:
        answerer = Answerer(node, lambda bundle: None)  # type: ignore[arg-type, return-value]

        async def handle(peer: str, message: Message, progress: Progress) -> Message:
            task = message.body.data
            fault = self.faults.pop((node, task["step"], task["op"]), None)
            if fault is not None:
                raise fault
            self.seen.append((node, task["step"], task["exchange"], task["op"]))
            body = answerer.answer(message.body, self.bundle.content, progress)
            self.said[node, task["step"], task["exchange"]] = body
            return Message("reply", message.id, node, body)

        return handle

    def run(self, journal: Forgetful | None = None, **config: object) -> Loop:
        settings = RunConfig.parse({**self.config.to_json(), **config})
        gathers = gathering.build(self.bundle.content["gathering"], settings.to_json())
        transport = LocalTransport(self.nodes, "exact")
        return Loop(Summing(4), settings, sorted(self.nodes), transport, journal or Forgetful(), gathers=gathers)


def test_two_exchanges_give_the_plain_sum_and_show_nobody_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = Federation(monkeypatch)
    found, plain = go(hidden.run()), go(Federation(monkeypatch, "plain").run())
    assert digest(found) == digest(plain)
    assert [s for s in hidden.seen if s[0] == "n2"][:3] == [
        ("n2", 0, 0, "keys"),
        ("n2", 0, 1, "masked"),
        ("n2", 1, 0, "keys"),
    ]
    for k in range(N):
        alone = hidden.said[f"n{k}", 0, 1].arrays["x"].view(np.int64) / 2**20
        assert not np.isclose(alone, np.array([0.5, -3, k])).any()


@pytest.mark.parametrize("op", ["keys", "masked"])
def test_a_node_that_is_lost_in_an_exchange_is_left_out_of_the_sum(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    federation, journal = Federation(monkeypatch), Forgetful()
    federation.faults[("n1", 0, op)] = NodeFailed("the worker ran out of memory")
    go(federation.run(journal))
    assert journal.steps[0].failures == {"n1": "the worker ran out of memory"}
    assert ("reveal" in {s[3] for s in federation.seen}) == (op == "masked")
    plain = Federation(monkeypatch, "plain")
    plain.faults[("n1", 0, "answer")] = NodeFailed("the worker ran out of memory")
    first: list[State] = []
    go(plain.run(Forgetful(look=first.append)))
    states: list[State] = []
    again = Federation(monkeypatch)
    again.faults[("n1", 0, op)] = NodeFailed("x")
    go(again.run(Forgetful(look=states.append)))
    np.testing.assert_array_equal(states[0].arrays["x"], first[0].arrays["x"])


def test_a_step_that_fails_in_its_last_exchange_is_done_again_with_the_memory_of_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    federation, journal = Federation(monkeypatch), Forgetful()
    federation.faults = {(f"n{k}", 2, "masked"): NodeFailed("x") for k in range(1, N)}
    whole = digest(go(Federation(monkeypatch).run()))
    assert digest(go(federation.run(journal, min_completed=N, min_fit_nodes=N))) == whole
    assert [s.status for s in journal.steps] == ["ok", "ok", "failed", "ok", "ok"]


@pytest.mark.parametrize("killed", [(s, e) for s in range(4) for e in range(2)])
def test_a_run_that_was_killed_in_any_exchange_ends_with_the_same_bytes(
    killed: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    whole = digest(go(Federation(monkeypatch).run()))
    federation, states = Federation(monkeypatch), list[tuple[int, State]]()

    class Keeping(Forgetful):
        async def step(self, record: Step, state: State, keep: bool) -> None:
            states.append((record.step + 1, state))

    inner = federation.nodes["n3"]

    async def dying(peer: str, message: Message, progress: Progress) -> Message:
        reply = await inner(peer, message, progress)  # computed, kept by the node, and never heard of
        if (message.body.data["step"], message.body.data["exchange"]) == killed:
            raise Killed
        return reply

    federation.nodes["n3"] = dying
    with pytest.raises(Killed):
        asyncio.run(federation.run(Keeping()).go())
    federation.nodes["n3"] = inner
    assert digest(go(federation.run(), states[-1] if states else None)) == whole


def test_what_does_not_add_is_refused_at_the_proposal_or_stands_in_the_bundle() -> None:
    trees = {"model_name": "xgboost_bagging", "gathering": "masked"}
    for asked in (trees, {**trees, "gathering_fallback": ""}):
        with pytest.raises(ConfigError, match="combine by each, and 'masked' gathers only sum"):
            freeze(RunConfig.parse(asked), {"features": [], "kinds": {}}, {})
    found = freeze(RunConfig.parse({**trees, "gathering_fallback": "plain"}), {"features": [], "kinds": {}}, {})
    assert found.content["gathering"]["each"] == "plain"
    assert "hanse.gathering.masked" in found.content["code"]
    assert "# gathering: agree by plain, each by plain" in found.preview()
    with pytest.raises(ConfigError, match="there is no 'mask' in gathering"):
        freeze(RunConfig.parse({**trees, "gathering": "mask"}), {"features": [], "kinds": {}}, {})


def facts(threshold: int = 0, nodes: int = 5, group: int = 1, **ways: str) -> Any:
    settings = {"secure_threshold": threshold, "secure_group": group}
    return SimpleNamespace(gathering=ways, settings=settings, nodes=nodes)


OWNER = {"require_secure_aggregation": True, "secure_aggregation_nodes": 3, "secure_aggregation_group": 1}


def test_an_owner_who_wants_only_hidden_sums() -> None:
    rule = secure_aggregation.RULE(OWNER)
    assert rule.decide(facts(sum="secure", agree="plain")).allowed
    for ways in ({"merge": "plain"}, {"each": "plain"}):
        said = rule.decide(facts(sum="secure", **ways))
        assert not said.allowed
        assert f"alone contributes by {next(iter(ways))}," in said.reason
    assert "sums of this run may be of 2 nodes" in rule.decide(facts(2, sum="secure")).reason
    assert "sums of this run may be of 2 nodes" in rule.decide(facts(nodes=3, sum="secure")).reason
    assert not rule.decide(facts(sum="masked")).allowed
    free = secure_aggregation.RULE({**OWNER, "require_secure_aggregation": False})
    assert free.decide(facts(sum="plain")).allowed
    apart = secure_aggregation.RULE({**OWNER, "secure_aggregation_group": 2})
    for few in (facts(sum="secure"), facts(nodes=5, group=1, sum="secure")):
        said = apart.decide(few)
        assert not said.allowed
        assert "may differ by 1 of its nodes" in said.reason
    assert apart.decide(facts(group=2, sum="secure")).allowed


@pytest.mark.parametrize("said", [None, Combine.SUM])
def test_what_the_coordinator_asks_for_does_not_decide_what_it_sees(
    said: Combine | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sum that is asked for as if it were to be merged would be gathered plainly."""

    class Sum(Summing):
        combines = frozenset({Combine.SUM, Combine.MERGE})

        def answer(self, site: Site, ask: Record) -> Contribution:
            return Contribution(Record({}, {"x": np.ones(3)}), combine=said)

    federation = Federation(monkeypatch)
    monkeypatch.setattr(algorithms, "build", lambda config, start=None: Sum(4))
    content = {**federation.bundle.content, "gathering": {"sum": "masked", "merge": "plain"}}
    task = {"run": "r", "step": 0, "exchange": 0, "op": "answer", "combine": "merge", "ask": {}}
    with pytest.raises(NotAllowed, match="asked for to be combined by merge"):
        Answerer("n0", lambda bundle: None).answer(Record(task), content)  # type: ignore[arg-type, return-value]
    with pytest.raises(NotApproved, match="combines by 'each'"):
        Answerer("n0", lambda bundle: None).answer(Record({**task, "combine": "each"}), content)  # type: ignore[arg-type, return-value]
