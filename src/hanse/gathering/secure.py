"""A secure sum: the coordinator learns the sum of what the nodes contribute, and nothing of a single one.

Every node adds masks to its numbers, words modulo 2⁶⁴ that look drawn at random, and the coordinator learns of the
masks only what all together add up to. With s_uv the secret of nodes u and v, which only these two know, u sends ::

    y_u = x_u + G(b_u) + Σ_{v beside u, v > u} G(h_uv) - Σ_{v beside u, v < u} G(h_uv),    h_uv = HKDF(s_uv, session)

G is a keystream (:mod:`hanse.privacy.keystream`), b_u a seed of u's own, drawn for each sum. In the sum of all y_u the
masks of pairs cancel. What the exchanges are:

0. *keys*, once in a run: each node draws a key pair and tells the public key, signed with its enrolled identity. Each
   node gets all of them with the next ask, and goes on only where every one is signed by the node whose it is said to
   be, of those that the approved bundle names.
1. *answer*: each node answers what is asked, and sends y_u. Beside it stand b_u and all h_uv in Shamir's shares, one
   for each neighbour, sealed so that only that one reads it, and hashes that they can be held against.
2. *unmask*: where everybody who was asked has answered, each node tells the shares of b that it has, one of its
   own among them, and no b as a whole. The coordinator joins them, takes the masks off the sum, and is done.

So a round takes two exchanges. Where a node was lost, it takes three, and 2. is instead:

2. *agree*: the coordinator says whose y came (the survivors), and each of them signs that list, in each sum one.
3. *unmask*: with the signatures of enough nodes under one list, each node tells its b, of every other survivor the
   share of b, and of every pair of a survivor with a node that is gone the seed h or its share. It tells b *or* the
   pairs of a node, never both. The coordinator takes the masks off the sum, of nodes lost in the meantime with the help
   of the shares.

Why the first way needs no signatures: a node goes one of the two ways in each sum, and never the other. With t the
threshold, b opens on the first with the shares of t nodes, and pairs on the second with the signatures of t others,
neither of which a coordinator with fewer than 2 t - n nodes on its side can have both of n: two sets of t share 2 t - n
nodes. (Of more than 100 nodes shares are with neighbours, of whom t are no such set, so all rounds go the second way.
Where b is in no shares, a sum that lacked a node would be one of too few, there is one list, and b is told as it is.)

Where a sum is of all who are asked or none, the y_u have no G(b_u), and one exchange is all: the masks of pairs cancel
in the sum of all, and of none other. No node tells a secret of such a sum, so it is this one or none, and a node writes
down that it is before its y_u leaves, as it does otherwise before it tells a secret; or, of a step that the algorithm
can leave behind, that it may be, once for several steps (:attr:`hanse.gather.Party.passing`). From then on it must
contribute the same numbers where the step is asked again, of the same nodes. So a sum is made so only of whole numbers,
and where no other nodes can be asked for it: it needs all of the run (``min_completed`` or ``secure_threshold`` is
their number), or the algorithm leaves the step behind where one is lost (:attr:`hanse.kinds.Ask.whole`). (b_u is there
for the case that a node is said to be lost, and its pairs are told.)

Where fewer nodes than ``secure_threshold`` are left in any exchange, there is no sum: the step has failed, what came
is useless, and the next attempt begins with fresh keys. So it does where a node has lost its keys (a restarted
worker). What a node is asked is part of the session's name, so nodes that are asked different things have masks that
do not cancel.

Weights are in the sum: Σ w_u a_u and Σ w_u are known, no single w_u, and no metrics of single nodes. What a
contribution says beside its arrays (``Contribution.record.data``) is not hidden. :mod:`hanse.privacy.fixed_point` says
how numbers become words; the step's record says how far off the sum may be. ``docs/privacy.md`` says against whom all
of this holds.

What is told of a node that is lost is h_uv of this sum, never s_uv; HKDF makes h_uv of another session as unpredictable
to who knows it as if s_uv had been drawn anew. So a lost node needs no new set-up when it comes back.

References: Bonawitz et al. 2017, "Practical secure aggregation for privacy-preserving machine learning", figure 4 with
the consistency check of the malicious setting; here keys are told once for many sums, as in Ma et al. 2023, "Flamingo:
multi-round single-server secure aggregation", so what is told of a pair that is lost is the seed of one sum and never a
key. Bell et al. 2020 (:mod:`hanse.privacy.neighbours`). Pasquini, Francati and Ateniese 2022, "Eluding secure
aggregation in federated learning via model inconsistency", for why the session binds what is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np

from hanse import spans
from hanse.config import RunConfig
from hanse.errors import NodeFailed, RunFailed
from hanse.gather import Exchange, Party
from hanse.gathering import _groups
from hanse.gathering._bound import TOLD, told_until
from hanse.gathering._came import Blame, Came, Shares, body, came
from hanse.gathering._claims import Claims
from hanse.gathering._keys import LOST
from hanse.gathering._masked_sum import Running, add
from hanse.gathering._session import PART, UNIT, Member, least, pair_sign
from hanse.gathering._total import SOUND, UNCHECKED, Total, nothing
from hanse.kinds import Ask, Combine, Contribution, Gathered, Shapes
from hanse.large_arrays import empty
from hanse.messages import Array, Json, Record, dumps
from hanse.privacy import keystream, neighbours
from hanse.privacy.fixed_point import MOST_NODES, places, word
from hanse.settings import Setting, either, number, one_of, whole

COMBINES = frozenset({Combine.SUM})
HIDES = True
WITHOUT_ROWS = frozenset({"keys", "agree", "unmask"})  # operations that compute nothing of a node's rows
SETTINGS = {
    "secure_threshold": Setting(
        0,
        "fewest nodes that a sum is of, and that must be left to make it; 0: more than half of the run's, and two",
        either(one_of(0), whole(2, MOST_NODES)),
    ),
    "secure_group": Setting(
        1,
        "two secure sums of the run differ by so many nodes at least, where they differ: nodes are in groups of so "
        "many, by name, each in a sum wholly or not at all. A node that is lost takes its group with it",
        whole(1, MOST_NODES),
    ),
    "secure_bits": Setting(
        64, "of each number of a large array in a secure sum; 32 is half the bytes and coarser", one_of(64, 32)
    ),
    "secure_range": Setting(
        2.0**20,
        "the largest number of a large array in a secure sum of means; of a sum over rows, for each row. What is "
        "larger is refused; the smaller it is, the finer the numbers are",
        number(2.0**-40, 2.0**60),
    ),
}


def fewest(settings: Mapping[str, Json], nodes: int) -> int:
    """How many nodes a sum of this run may be of, at least."""
    return least(int(settings["secure_threshold"]), nodes)


def apart(settings: Mapping[str, Json], nodes: int) -> int:
    """How many nodes two sums of this run differ by, at least, where they differ."""
    return _groups.smallest(nodes, int(settings["secure_group"]))


def unfit(config: RunConfig, nodes: int) -> str:
    """Why a run cannot be gathered so; "" where it can."""
    if config.max_weight_share < 1:
        return "no weight of a single node is known that max_weight_share could lower"
    if config.plan is not None:
        return "the code of a training plan runs where it cannot sign in its node's name"
    known = {"secure_threshold": 0, "secure_group": 1, **config.to_json()}
    if known["secure_group"] > 1 and config.fraction < 1:
        return "a round asks some nodes, and groups of them that are in a sum together (secure_group) need all"
    asked = min(nodes, max(config.min_fit_nodes, int(nodes * config.fraction)))
    wanted = fewest(known, nodes)
    if nodes and asked < wanted:
        return (
            f"{asked} of {nodes} nodes are asked in a round, and a sum is of at least {wanted}; ask more of them, or "
            "set secure_threshold (2 or more: the fewer, the fewer nodes hide each other)"
        )
    return ""


WITHOUT = f"{TOLD} without it, and is told of no others"


class Secure:
    """
    Args:
        secure_threshold, secure_group, secure_bits, secure_range: the settings of the run.
    """

    def __init__(
        self, secure_threshold: int = 0, secure_group: int = 1, secure_bits: int = 64, secure_range: float = 2.0**20
    ) -> None:
        self._threshold, self._group = secure_threshold, secure_group
        self._how: dict[str, Any] = {"bits": secure_bits, "range": float(secure_range)}
        self._keys: dict[str, list[str]] = {}  # node to its name, key, certificate and signature
        self._least = self._sessions = self._of = 0  # fewest of a sum; sums so far; the run's nodes
        self._told: set[str] = set()  # nodes that have the list of keys as it is
        self._claims, self._step = Claims(), 0  # the step that is asked, as replies name it

    # ------------------------------------------------------------ the node half

    def reply(self, op: str, ask: Record, answer: Callable[[Record], Contribution], party: Party) -> Record:
        member = Member(self._threshold, self._group, self._how["bits"], self._how["range"], party)
        if op == "keys":
            return member.keys()
        if op == "answer":
            return member.answer(ask, answer)
        if op == "agree":
            return member.agree(ask.data)
        if op == "unmask":
            return member.unmask(ask)
        raise NodeFailed(f"secure sums have no operation {op!r}")

    # ------------------------------------------------------------ the coordinator's half

    async def collect(self, ask: Ask, asks: Mapping[str, Record], exchange: Exchange) -> Gathered:
        if ask.late != "drop":
            raise RunFailed("late answers cannot be added to a secure sum: their masks are those of an earlier one")
        everyone, failures = asks, {node: why for node, why in self._claims.out.items() if node in asks}
        asks = {node: record for node, record in asks.items() if node not in failures}
        first, whole, among, answered = not self._keys, False, list[str](), dict[str, Came]()
        try:
            await self._set_up(asks, exchange, failures)
            among = sorted(node for node in asks if node in self._keys)
            whole = self._whole(ask, among)
            answered, before, running = await self._answers(ask, asks, among, whole, exchange, failures)
            if ask.whole and told_until(failures.values()) is not None:
                raise _NoSum("no sum was made: a node has lost what it told of this step, which is left behind")
            if before and before != tuple(among):
                for node in {*among} - {*before}:
                    failures[node] = WITHOUT
                among = list(before)
                answered, before, running = await self._answers(ask, asks, among, whole, exchange, failures)
            left = self._grouped(self._again(self._alike(answered, failures), failures), failures)
            self._enough(left, among, ask.fewest)
            survivors, signatures, masks = sorted(left), None, list[tuple[bytes, int]]()
            if whole and survivors != among:
                raise _NoSum(f"no sum was made: {len(left)} of {len(among)} nodes were left, and it is of all or none")
            if not whole:
                if survivors != among or len(among) > neighbours.COMPLETE:
                    signatures = await self._agreed(survivors, exchange, failures)
                    self._enough(signatures, among)
                shown = await self._shown(left, survivors, signatures, exchange, failures)
                masks = self._masks(left, survivors, shown, failures)
            self._claims.summed(survivors, fresh=not any(left[node].bound for node in survivors))
            if first and len(survivors) < len(asks):  # too few for the run, perhaps: nodes forget a step that failed
                self._keys = {}
            words = running.taken(survivors)
            if words is not None and not masks:  # what is left is less than a change of threads
                return self._summed(left, survivors, words, masks, among, failures, ask)
            return await asyncio.to_thread(self._summed, left, survivors, words, masks, among, failures, ask)
        except _NoSum as error:
            self._keys, self._told = {}, set()  # the next attempt begins with fresh ones
            answered = {**answered, **error.came}
            told_of = {node: max(self._step, found.last) for node, found in answered.items()}
            over = self._claims.last(failures, told_of, self._step) if ask.whole else told_until(failures.values())
            there = [n for n in among if (why := failures.get(n, LOST)) == LOST or told_until([why]) is not None]
            there = there if len(there) >= max(self._least, ask.fewest) else []
            # where nodes have told of this step before this coordinator was there, so they may have of others after it
            known = any(TOLD in why for why in (error.reason, *failures.values())) or any(
                c.bound for c in answered.values()
            )
            anew = whole and bool(there) and not known and not self._needed(ask, among)
            told: dict[str, Json] = {} if over is None and not anew else {"over": over or 0, "left": there}
            return nothing({node: failures.get(node, error.reason) for node in everyone}, told)

    def _enough(self, left: Mapping[str, Any], among: Sequence[str], fewest: int = 0) -> None:
        for needed, setting in ((self._least, "secure_threshold"), (fewest, "min_completed")):
            if len(left) < needed:
                raise _NoSum(
                    f"no sum was made: {len(left)} of {len(among)} nodes were left, and a secure sum of this run is of "
                    f"at least {needed} ({setting})"
                )

    @staticmethod
    def _again(came: dict[str, Came], failures: dict[str, str]) -> dict[str, Came]:
        """Those of whom the sum of this step was told before, where it was: nodes let no other one be known. Who was
        not in it then is not in it now."""
        told = sorted({found.bound for found in came.values() if found.bound})
        if not told:
            return came
        if len(told) > 1 or not {*told[0]} <= came.keys():
            raise _NoSum(
                f"no sum was made: {TOLD}, of {' and of '.join(map(', '.join, told))}, and "
                "can only be made again of the same nodes, when all of them are there"
            )
        for node in came.keys() - {*told[0]}:
            failures[node] = WITHOUT
        return {node: came[node] for node in told[0]}

    @staticmethod
    def _grouped(came: dict[str, Came], failures: dict[str, str]) -> dict[str, Came]:
        """Those whose whole group is here."""
        out = _groups.whole(came, {node: found.group for node, found in came.items()})
        for node, others in out.items():
            failures[node] = f"it is in sums only together with {', '.join(others)} (secure_group)"
        return {node: found for node, found in came.items() if node not in out}

    async def _set_up(self, asks: Mapping[str, Record], exchange: Exchange, failures: dict[str, str]) -> None:
        """The keys of those who have told none yet."""
        fresh = [node for node in asks if node not in self._keys]
        if not fresh:
            return
        question, of = Record(), 0
        async for reply in exchange(dict.fromkeys(fresh, question), op="keys"):
            with Blame(reply, failures):
                said = body(reply).data
                told = [reply.node, *(said[name] for name in ("key", "certificate", "signature"))]
                if not all(isinstance(part, str) for part in told) or len(bytes.fromhex(told[1])) != 32:
                    raise ValueError("it told no key")
                self._keys[reply.node], of = told, int(said["of"])
        self._of = of or len(self._keys)
        self._least, self._told = least(self._threshold, self._of), set()

    def _whole(self, ask: Ask, among: Sequence[str]) -> bool:
        """Whether the sum is of all who are asked or none. Each of them stands by it and by its numbers from its answer
        on. So they are all that the run has, as in each attempt, or there is no other attempt where one is lost; and
        the numbers are whole ones, which are the same where they are made again."""
        if ask.arrays is None or ask.sums is None or len(among) > neighbours.COMPLETE:
            return False
        dtypes = [np.dtype(dtype) for dtype, _ in (*ask.arrays.values(), *ask.sums.values())]
        wanted = ask.whole and self._group == 1  # a node that is lost would take its group with it
        return (wanted or self._needed(ask, among)) and all(dtype.kind in "iub" for dtype in dtypes)

    def _needed(self, ask: Ask, among: Sequence[str]) -> bool:
        """Whether these are all nodes of the run, and a sum of fewer is none."""
        return self._of <= len(among) <= max(self._least, ask.fewest)

    async def _answers(
        self,
        ask: Ask,
        asks: Mapping[str, Record],
        among: list[str],
        whole: bool,
        exchange: Exchange,
        failures: dict[str, str],
    ) -> tuple[dict[str, Came], tuple[str, ...], Running]:
        """What came; where a sum of all or none was told of others before, of whom; and the sum of what came."""
        self._enough(dict.fromkeys(among), among, ask.fewest)
        told, most = [self._keys[node] for node in sorted(self._keys)], _most(ask)
        common: dict[str, Json] = {
            "session": self._sessions,
            "among": among,
            "listed": hashlib.sha256(dumps([[node, key] for node, key, *_ in told]).encode()).hexdigest(),
            "form": {"a.": _plain(ask.arrays), "s.": _plain(ask.sums), "counts": dict(ask.counts), "most": most},
            "whole": whole,
            "passing": ask.whole,
        }
        self._sessions += 1
        if not {*among} <= self._told:
            common["keys"] = told
        wrapped: dict[int, Record] = {}  # by ask: what goes to many is put together once
        for node in among:
            wrapped.setdefault(id(asks[node]), Record({**common, "ask": asks[node].data}, asks[node].arrays))
        answered, running = dict[str, Came](), Running()
        before: tuple[str, ...] = ()
        lost = False
        replies = exchange({n: wrapped[id(asks[n])] for n in among}, op="answer", need=ask.need)
        # Of a sum of all or none nobody is cancelled: it would forget what it has to contribute again.
        async with aclosing(replies) as coming:  # type: ignore[type-var]
            async for reply in coming:
                self._step = reply.asked
                with Blame(reply, failures):
                    said = body(reply)
                    if whole and [*said.data] == ["bound"]:
                        before = tuple(sorted(str(node) for node in said.data["bound"]))
                    else:
                        found = came(reply.node, reply.asked, said, self._how, most, whole)
                        running.enter(found)
                        answered[reply.node] = found
                lost = lost or reply.error == LOST
                if lost and not whole:
                    break  # the others' answers would have masks that never come off
        if lost:
            raise _NoSum("no sum was made: a node had lost its keys; all have them told anew", answered)
        self._told |= answered.keys()
        if not {*before} <= {*among}:
            raise _NoSum(f"no sum was made: {TOLD}, of {', '.join(before)}, and is told of no others")
        return answered, before, running

    @staticmethod
    def _alike(came: dict[str, Came], failures: dict[str, str]) -> dict[str, Came]:
        """Those of one session with arrays of one layout: as most have it."""
        kinds = [found.kind for found in came.values()]
        if not kinds:
            return came
        most = max(kinds, key=kinds.count)
        for node, found in came.items():
            if found.kind != most:
                failures[node] = "its arrays, or what it was asked, are others than those of the other nodes"
        return {node: found for node, found in came.items() if found.kind == most}

    async def _agreed(self, survivors: list[str], exchange: Exchange, failures: dict[str, str]) -> dict[str, str]:
        question = Record({"session": self._sessions - 1, "survivors": survivors})
        signatures: dict[str, str] = {}
        async for reply in exchange(dict.fromkeys(survivors, question), op="agree"):
            with Blame(reply, failures):
                signatures[reply.node] = str(body(reply).data["signature"])
        return signatures

    async def _shown(
        self,
        came: Mapping[str, Came],
        survivors: list[str],
        signatures: Mapping[str, str] | None,
        exchange: Exchange,
        failures: dict[str, str],
    ) -> dict[str, Record]:
        """What the nodes that are still there tell of the masks; of a sum of all, without ``signatures``."""
        said: dict[str, Json] = {"session": self._sessions - 1, "survivors": survivors}
        if signatures is not None:
            said["signatures"] = dict(signatures)
        asks = {}
        for node in survivors if signatures is None else signatures:
            around = [other for other in came[node].beside if other in came]
            rows = [came[other].share_for(node) for other in around]
            asks[node] = Record(said, {"shares": np.stack(rows)} if rows and len(rows[0]) else {})
        shown: dict[str, Record] = {}
        async for reply in exchange(asks, op="unmask"):
            with Blame(reply, failures):
                shown[reply.node] = body(reply)
        return shown

    # ------------------------------------------------------------ the masks of a sum

    def _masks(
        self, came: Mapping[str, Came], survivors: list[str], shown: Mapping[str, Record], failures: dict[str, str]
    ) -> list[tuple[bytes, int]]:
        """The seeds of all masks that are left in the sum, with their signs: as a survivor tells them itself, or from
        the shares that others have of it."""
        shares, left = Shares(came, survivors, shown), frozenset(survivors)
        found: list[tuple[bytes, int]] = []
        for node in survivors:
            gone = came[node].gone(left)
            seeds = came[node].own(shown.get(node), gone)
            if seeds is None:
                if node in shown and "own" in shown[node].arrays:
                    failures[node] = "the secrets that it told are not those of its masks"
                seeds = shares.joined(node, gone, self._least)
            if seeds is None:
                raise _NoSum(
                    f"no sum was made: nodes were lost after {node} had masked its numbers, and fewer than "
                    f"{neighbours.threshold(len(came[node].among), self._least) or self._least} nodes that have shares "
                    "of its secrets were left (secure_threshold)"
                )
            found.append((seeds[0], 1))
            found += [(seed, pair_sign(node, other)) for other, seed in zip(gone, seeds[1:], strict=True)]
        return found

    def _summed(
        self,
        came: Mapping[str, Came],
        survivors: list[str],
        words: Mapping[int, Array] | None,
        masks: Sequence[tuple[bytes, int]],
        among: list[str],
        failures: Mapping[str, str],
        ask: Ask,
    ) -> Gathered:
        first = came[survivors[0]]
        records = [came[node].record for node in survivors]
        codes = first.how.codes
        if words is None:
            words = {bits: empty(size, word(bits)) for bits, size in first.how.sizes.items()}
            self._unmasked(words, records, masks)
        elif masks:
            self._unmasked(words, (), masks)
        told = {
            "by": __name__.rpartition(".")[2],
            "of": len(survivors),
            "asked": len(among),
            "threshold": self._least if masks else len(among),
        }
        arrays = {name: (codes[name], found) for name, found in places(codes, words).items()}
        nodes = [(node, came[node].asked, came[node].data, came[node].weighs) for node in survivors]
        lost = (*UNCHECKED, SOUND) if ask.fault is not None else UNCHECKED
        return Total.of(nodes, dict(failures), arrays, told, lost)

    @staticmethod
    def _unmasked(total: Mapping[int, Array], records: Sequence[Record], masks: Sequence[tuple[bytes, int]]) -> None:
        """Puts Σ y less all masks, modulo 2 to their width, in ``total``; where there are no records, Σ y is there."""
        taken = keystream.expanded([(seed, -sign) for seed, sign in masks])

        def span(low: int, high: int) -> bool:
            room = keystream.room((high - low) * UNIT)
            for part in range(low // PART, -(-high // PART)):
                found = keystream.within(total, part)
                for bits, start, stop in found if records else ():
                    add(total[bits], records, bits, start, stop)
                keystream.mask([total[bits][start:stop] for bits, start, stop in found], taken, part, room)
            return True

        spans.over(span, sum([vector.nbytes for vector in total.values()]) // UNIT + 1)


GATHER = Secure


class _NoSum(Exception):
    """There is no sum in this attempt; nothing of what ``came`` can be used, by anybody."""

    def __init__(self, reason: str, came: Mapping[str, Came] | None = None) -> None:
        super().__init__(reason)
        self.reason, self.came = reason, came or {}


def _most(ask: Ask) -> dict[str, int]:
    """How large a number of an array can be, by the array's name in a sum."""
    return {f"{prefix}{name}": most for name, most in ask.most.items() for prefix in ("a.", "s.")}


def _plain(shapes: Shapes | None) -> Json:
    return None if shapes is None else {name: [dtype, list(shape)] for name, (dtype, shape) in shapes.items()}
