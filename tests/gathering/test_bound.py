"""The coordinator that asks one step twice, with a node fewer, to take the difference of two sums: it gets one."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gathering.nodes import ASK, Nodes, exact, whole
from hanse.errors import ConfigError, DataError, NodeFailed, NotAllowed
from hanse.gather import Party
from hanse.gathering._bound import Bound, told_until
from hanse.gathering.secure import Secure
from hanse.kinds import Contribution
from hanse.memories import Memories
from hanse.messages import Json, Record, dumps
from hanse.node.promises import BLOCK, FILE, Promises

N = 5  # the threshold is 3
NAMES = [f"n{k:03}" for k in range(N)]
ROWS = dict.fromkeys(NAMES, 100.0)


class Liar:
    """A coordinator by hand that makes whole sums, of one step, of whom it likes."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes, self.session = nodes, 0
        self.keys: dict[str, list[str]] = {}

    def fresh_keys(self) -> None:
        said = {node: self.nodes.ask(node, "keys", Record(), exchange=0).data for node in self.nodes.contributions}
        self.keys = {n: [n, d["key"], d["certificate"], d["signature"]] for n, d in said.items()}
        self.session = 0

    def masked(
        self,
        among: list[str],
        ask: dict[str, Json] | None = None,
        of: list[str] | None = None,
        at_once: bool = False,
        passing: bool = False,
    ) -> dict[str, Record]:
        told = [self.keys[node] for node in sorted(self.keys)]
        asked = Record(
            {
                "session": self.session,
                "among": among,
                "listed": hashlib.sha256(dumps([[n, key] for n, key, *_ in told]).encode()).hexdigest(),
                "form": {"a.": None, "s.": None, "counts": {}},
                "keys": told,
                "ask": ask or {"q": 1},
                "whole": at_once,
                "passing": passing,
            }
        )
        self.session += 1
        return {node: self.nodes.ask(node, "answer", asked, exchange=1) for node in of or among}

    def unmasked(self, came: dict[str, Record], survivors: list[str]) -> dict[str, Record]:
        question = Record({"session": self.session - 1, "survivors": survivors})
        signed = {n: self.nodes.ask(n, "agree", question, exchange=2).data["signature"] for n in survivors}
        shown = {}
        for node in survivors:
            beside = [other for other in came[node].data["beside"] if other in survivors]
            rows = [came[o].arrays["shares"][came[o].data["beside"].index(node)] for o in beside]
            said: dict[str, Json] = {**question.data, "signatures": signed}
            shown[node] = self.nodes.ask(node, "unmask", Record(said, {"shares": np.stack(rows)}), exchange=3)
        return shown

    def sum(self, among: list[str], survivors: list[str] | None = None, ask: dict[str, Json] | None = None) -> None:
        self.unmasked(self.masked(among, ask), survivors or among)


def federation(folder: Path, **more: object) -> Nodes:
    """What nodes have told is in files."""
    folders = {node: folder / node for node in NAMES}
    for place in folders.values():
        place.mkdir(exist_ok=True)
    nodes = Nodes.signed(whole(N), rows=ROWS, **more)
    nodes.promises = {node: Promises(place) for node, place in folders.items()}
    return nodes


def restarted(nodes: Nodes, folder: Path) -> None:
    """Every node's process is another one."""
    nodes.memories = {}
    nodes.promises = {node: Promises(folder / node) for node in NAMES}


Between = Callable[[Liar, Path], None]


def nothing(liar: Liar, folder: Path) -> None: ...


def new_keys(liar: Liar, folder: Path) -> None:
    liar.fresh_keys()


def restart(liar: Liar, folder: Path) -> None:
    restarted(liar.nodes, folder)
    liar.fresh_keys()


@pytest.mark.parametrize("between", [nothing, new_keys, restart])
def test_a_second_sum_of_a_step_without_one_node_is_refused_by_everybody(tmp_path: Path, between: Between) -> None:
    liar = Liar(federation(tmp_path))
    liar.fresh_keys()
    liar.sum(NAMES)
    between(liar, tmp_path)
    for node in NAMES[1:]:
        with pytest.raises(NodeFailed, match=r"told before, of n000, n001, n002, n003, n004, and is told of no others"):
            liar.masked(NAMES[1:], of=[node])
    came = liar.masked(NAMES)  # all are asked, and one is said to be lost
    with pytest.raises(NotAllowed, match="told before, of n000, n001, n002, n003, n004, and no other one is"):
        liar.unmasked(came, NAMES[1:])


@pytest.mark.parametrize("between", [nothing, new_keys, restart])
def test_nor_after_one_that_needed_no_second_exchange(tmp_path: Path, between: Between) -> None:
    liar = Liar(federation(tmp_path))
    liar.fresh_keys()
    first = liar.masked(NAMES, at_once=True)
    between(liar, tmp_path)
    for node in NAMES[1:]:
        for at_once in (True, False):
            with pytest.raises(NodeFailed, match=r"n004, and is told of no others"):
                liar.masked(NAMES[1:], of=[node], at_once=at_once)
    with pytest.raises(NotAllowed, match="a node is asked one thing"):
        liar.masked(NAMES, {"q": 2}, at_once=True)
    again = liar.masked(NAMES, at_once=True)  # the very same may be made again, under other masks
    words = [np.array([came[node].arrays["64"] for node in NAMES]) for came in (first, again)]
    np.testing.assert_array_equal(words[0].sum(0), words[1].sum(0))
    assert not np.isin(words[0], words[1]).any()
    liar.nodes.contributions = {**liar.nodes.contributions, "n002": whole(N, seed=1)["n002"]}
    restart(liar, tmp_path)
    with pytest.raises(NodeFailed, match="other numbers to this very sum before"):
        liar.masked(NAMES, of=["n002"], at_once=True)


@pytest.mark.parametrize("between", [nothing, new_keys])
def test_nor_of_a_step_that_the_run_can_leave_behind(tmp_path: Path, between: Between) -> None:
    """What was told of it is in the memory of the process."""
    liar = Liar(federation(tmp_path))
    liar.fresh_keys()
    asked = {"at_once": True, "passing": True}
    first = liar.masked(NAMES, **asked)  # type: ignore[arg-type]
    between(liar, tmp_path)
    for node in NAMES[1:]:
        for other in (asked, {"at_once": True}, {}):
            with pytest.raises(NodeFailed, match=r"n004, and is told of no others"):
                liar.masked(NAMES[1:], of=[node], **other)  # type: ignore[arg-type]
    with pytest.raises(NotAllowed, match="a node is asked one thing"):
        liar.masked(NAMES, {"q": 2}, at_once=True)
    with pytest.raises(
        NodeFailed, match="a node is asked one thing"
    ) as said:  # which no coordinator has to give up for
        liar.masked(NAMES, {"q": 2}, **asked)  # type: ignore[arg-type]
    assert told_until([said.value.message]) == 0
    again = liar.masked(NAMES, **asked)  # type: ignore[arg-type]
    words = [np.array([came[node].arrays["64"] for node in NAMES]) for came in (first, again)]
    np.testing.assert_array_equal(words[0].sum(0), words[1].sum(0))
    assert not np.isin(words[0], words[1]).any()
    liar.nodes.contributions = {**liar.nodes.contributions, "n002": whole(N, seed=1)["n002"]}
    with pytest.raises(NodeFailed, match="other numbers to this very sum before"):
        liar.masked(NAMES, of=["n002"], **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [{"at_once": True, "passing": True}, {"at_once": True}, {}])
def test_of_such_a_step_a_process_that_comes_after_tells_nothing(tmp_path: Path, asked: dict[str, bool]) -> None:
    """Nor of the steps after it, of which the one before may have told something as well."""
    liar = Liar(federation(tmp_path))
    liar.fresh_keys()
    liar.masked(NAMES, at_once=True, passing=True)
    restart(liar, tmp_path)
    for step in (0, 1, BLOCK - 1):
        liar.nodes.step = step
        for among in (NAMES, NAMES[1:]):
            with pytest.raises(NodeFailed, match=f"may have contributed .* told a sum is {BLOCK - 1}$") as said:
                liar.masked(among, of=["n001"], **asked)  # type: ignore[arg-type]
            assert told_until([said.value.message]) == BLOCK - 1
    liar.nodes.step = BLOCK
    assert len(liar.masked(NAMES, **asked)) == N  # type: ignore[arg-type]


def test_what_could_not_be_kept_of_a_step_is_told_to_nobody(tmp_path: Path) -> None:
    """The disk is full: nothing has left, so another sum may be made."""
    liar = Liar(federation(tmp_path))
    liar.fresh_keys()
    for promises in liar.nodes.promises.values():
        promises._db.execute("PRAGMA query_only = ON")  # type: ignore[attr-defined]
    with pytest.raises(sqlite3.OperationalError):
        liar.masked(NAMES, of=["n001"], at_once=True, passing=True)
    restart(liar, tmp_path)
    assert len(liar.masked(NAMES[1:], at_once=True, passing=True)) == N - 1


@pytest.mark.parametrize("between", [nothing, new_keys, restart])
def test_nor_with_one_more_or_in_other_words(tmp_path: Path, between: Between) -> None:
    liar = Liar(federation(tmp_path))
    liar.fresh_keys()
    liar.sum(NAMES, NAMES[:-1])
    between(liar, tmp_path)
    came = liar.masked(NAMES)
    with pytest.raises(NotAllowed, match="no other one is"):
        liar.unmasked(came, NAMES)
    with pytest.raises(NotAllowed, match="a node is asked one thing"):
        liar.masked(NAMES, {"q": 2})


@pytest.mark.parametrize("between", [new_keys, restart])
def test_what_was_masked_and_not_told_may_be_asked_of_others(tmp_path: Path, between: Between) -> None:
    liar = Liar(federation(tmp_path))
    liar.fresh_keys()
    came = liar.masked(NAMES)
    old = liar.session
    between(liar, tmp_path)
    liar.session = old
    liar.sum(NAMES[1:])
    liar.session = old
    with pytest.raises(NodeFailed):  # and of the first nobody tells anything any more
        liar.unmasked(came, NAMES)


def test_signatures_under_one_list_do_not_open_two_sums(tmp_path: Path) -> None:
    """Each node tells of one sum; for two of them two times the threshold would have to."""
    liar = Liar(federation(tmp_path))
    liar.fresh_keys()
    came = liar.masked(NAMES)
    for node in NAMES[:3]:
        question = Record({"session": 0, "survivors": NAMES})
        signed = {n: liar.nodes.ask(n, "agree", question, exchange=2).data["signature"] for n in NAMES}
        rows = [came[o].arrays["shares"][came[o].data["beside"].index(node)] for o in came[node].data["beside"]]
        said: dict[str, Json] = {**question.data, "signatures": signed}
        liar.nodes.ask(node, "unmask", Record(said, {"shares": np.stack(rows)}), exchange=3)
    restart(liar, tmp_path)
    for few in (NAMES[2:], NAMES[:3], NAMES[1:4]):
        with pytest.raises(NodeFailed, match="is told of no others"):
            liar.masked(few)
        liar.session += 1


@pytest.mark.parametrize("between", [nothing, new_keys, restart])
def test_the_very_same_sum_may_be_made_again(tmp_path: Path, between: Between) -> None:
    """As a coordinator has to that was killed; who was not in it is left out again."""
    nodes = federation(tmp_path)
    nodes.before["n003", "answer"] = NodeFailed("lost")
    first = nodes.sum()
    nodes.step = 0
    if between is restart:
        restarted(nodes, tmp_path)
    del nodes.before["n003", "answer"]
    again = nodes.sum(Secure())
    assert [a.node for a in first.answers] == [a.node for a in again.answers] == [n for n in NAMES if n != "n003"]
    assert again.failures == {"n003": "the sum of this step was told before without it, and is told of no others"}
    for name, array in first.sum().items():
        assert again.sum()[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("first_asked", [True, False])
def test_the_very_same_sum_may_be_made_again_whoever_else_is_asked(tmp_path: Path, first_asked: bool) -> None:
    """One that was lost then is not there now, or one that was away is back: it is in neither. What a node contributed
    was told apart by who else was asked, so nobody could make the sum again, attempt after attempt."""
    nodes, some = federation(tmp_path), [n for n in NAMES if n != "n003"]
    nodes.before["n003", "answer"] = NodeFailed("lost")
    first = nodes.sum(only=None if first_asked else some)
    nodes.step = 0
    del nodes.before["n003", "answer"]
    again = nodes.sum(Secure(), only=some if first_asked else None)
    assert [a.node for a in first.answers] == [a.node for a in again.answers] == some, again.failures
    for name, array in first.sum().items():
        assert again.sum()[name].tobytes() == array.tobytes()


def test_a_step_waits_for_the_nodes_of_whom_its_sum_was_told(tmp_path: Path) -> None:
    nodes = federation(tmp_path)
    nodes.sum()
    nodes.step = 0
    nodes.before["n003", "answer"] = NodeFailed("lost")
    found = nodes.sum(Secure())
    assert not found.answers
    assert "can only be made again of the same nodes" in found.failures["n000"]
    del nodes.before["n003", "answer"]
    nodes.step = 0
    assert len(nodes.sum(Secure()).answers) == N


def test_a_node_that_has_lost_what_it_remembered_contributes_no_other_numbers(tmp_path: Path) -> None:
    nodes = federation(tmp_path)
    liar = Liar(nodes)
    liar.fresh_keys()
    liar.sum(NAMES)
    restart(liar, tmp_path)
    zeros = Contribution(Record({}, {"x": np.zeros(5), "i": np.zeros(5, np.int64)}), sums={"loss": np.zeros(2)})
    nodes.contributions = {**nodes.contributions, "n002": zeros}
    with pytest.raises(NodeFailed, match="other numbers to this very sum before"):
        liar.masked(NAMES)


@pytest.mark.parametrize("whole_numbers", [True, False])
def test_a_step_that_a_node_may_have_told_before_it_was_restarted_is_left_behind(
    tmp_path: Path, whole_numbers: bool
) -> None:
    """With all that it may have told; the next one is asked of all, this node among them."""
    nodes, (contributions, asks) = federation(tmp_path), exact(N, whole=True, fewest=0)
    halves = {n: replace(c, sums={"rows": c.sums["rows"] / 2}) for n, c in contributions.items()}
    nodes.contributions, gather = contributions, Secure()
    assert len(nodes.sum(gather, asks).answers) == N
    if not whole_numbers:
        nodes.contributions, asks = halves, replace(asks, sums={"rows": ("float64", (2,))})
    nodes.memories["n003"], nodes.promises["n003"] = Memories(), Promises(tmp_path / "n003")
    for _ in range(2):  # its keys are lost, too
        found = nodes.sum(gather, asks)
        assert not found.answers
    assert found.told == {"over": BLOCK - 1, "left": NAMES}
    nodes.step = BLOCK
    for _ in range(2):
        found = nodes.sum(gather, asks)
    assert len(found.answers) == N


def test_other_steps_and_other_runs_are_sums_of_their_own(tmp_path: Path) -> None:
    nodes = federation(tmp_path)
    gather = Secure()
    assert len(nodes.sum(gather).answers) == N
    assert len(nodes.sum(gather, only=NAMES[1:]).answers) == N - 1  # the next step
    nodes.step, nodes.run = 0, "another"
    assert len(nodes.sum(Secure(), only=NAMES[1:]).answers) == N - 1


def test_a_sum_of_fewer_than_the_run_needs_is_not_told_so_it_can_still_be_made(tmp_path: Path) -> None:
    nodes, gather, needs = federation(tmp_path), Secure(), replace(ASK, fewest=N)
    nodes.before["n001", "answer"] = NodeFailed("lost")
    found = nodes.sum(gather, needs)
    assert not found.answers
    assert "at least 5 (min_completed)" in found.failures["n000"]
    del nodes.before["n001", "answer"]
    nodes.step = 0
    assert len(nodes.sum(gather, needs).answers) == N


# ---------------------------------------------------------------- the file


def test_what_was_told_cannot_be_changed_or_taken_back_and_a_damaged_file_answers_nothing(tmp_path: Path) -> None:
    told = Promises(tmp_path)
    told["run a 0"] = {"a": 1}
    assert told.setdefault("run a 0", {"a": 2}) == {"a": 1}
    told["run a 0"] = {"a": 1}
    with pytest.raises(DataError, match="cannot be changed"):
        told["run a 0"] = {"a": 2}
    with pytest.raises(DataError, match="cannot be taken back"):
        del told["run a 0"]
    assert dict(Promises(tmp_path)) == {"run a 0": {"a": 1}}
    assert oct((tmp_path / FILE).stat().st_mode)[-3:] == "600"
    for file in tmp_path.glob(f"{FILE}*"):
        file.write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigError, match="damaged"):
        Promises(tmp_path).get("run a 0")


CHILD = """
import sys
from pathlib import Path
from hanse.gather import Party
from hanse.gathering._bound import Bound
from hanse.node.promises import Promises

told = Promises(Path(sys.argv[1]))
for step in range(int(sys.argv[2]), 10**9):
    Bound("asked", ("a", "b"), step, "own").promise(Party("a", step, promises=told))
    print(step, flush=True)
"""


def test_no_kill_makes_a_node_forget_what_it_told(tmp_path: Path) -> None:
    step, rng = 0, random.Random(5)
    for _ in range(5):
        command = [sys.executable, "-c", CHILD, str(tmp_path), str(step)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            first = child.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            os.kill(child.pid, signal.SIGKILL)
            last = [line for line in [first, *child.stdout.read().split("\n")] if line.strip()][-1:]
        step = int(last[0]) + 1 if last else step + 1
        told = Promises(tmp_path)
        assert {f"  {k}" for k in range(step)} <= set(told)
        assert told[f"  {step - 1}"] == {
            "asked": "asked",
            "survivors": ["a", "b"],
            "seed": step - 1,
            "contributed": "own",
        }
    with pytest.raises(NotAllowed, match="told before, of a, b"):
        Bound("asked", ("a",), 0, "own").promise(Party("a", 0, promises=Promises(tmp_path)))
