"""The node half of secure sums: what one node keeps secret, and what it must see before it says anything.

:mod:`hanse.gathering.secure` tells the whole protocol. Here stand the refusals on which privacy rests: a key that
nobody vouches for, a second answer under the same masks, a sum of too few, a second list of survivors, a secret
without the signatures of enough nodes under one list.
"""

from __future__ import annotations

import functools
import hashlib
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hanse import spans
from hanse.errors import DataError, NodeFailed, NotAllowed
from hanse.gather import Identity, Party
from hanse.gathering import _checks, _groups
from hanse.gathering._bound import Bound, hashed, last_told
from hanse.gathering._keys import LOST, PURPOSE, Keys, MaskedSum, believe, key_text, text
from hanse.gathering._wording import Wording, named, wording
from hanse.kinds import Answer, Contribution
from hanse.large_arrays import empty
from hanse.messages import Array, Json, Record, bound
from hanse.privacy import keystream, neighbours, sealing, shamir
from hanse.privacy.agreement import KeyPair, expand
from hanse.privacy.fixed_point import Code, cut, encode, places, sent, word

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.algorithms import AES

UNIT = 8  # bytes of what threads share out among themselves; a part of a keystream has so many of them:
PART = keystream.PART_BYTES // UNIT
_LARGE_BYTES = 1 << 20  # of words whose memory is used again in the next step: nothing else lies beside them here


def least(threshold: int, nodes: int) -> int:
    """Fewest nodes of a sum: as the run says, else more than half of its nodes, and two.

    >>> least(0, 10), least(0, 2), least(3, 10)
    (6, 2, 3)
    """
    return threshold or max(2, nodes // 2 + 1)


def pair_sign(node: str, other: str) -> int:
    """The mask of a pair is added by one of them and taken off by the other."""
    return 1 if node < other else -1


def commitment(session: bytes, seed: bytes) -> bytes:
    """What a seed that is told later is held against."""
    return hashlib.sha256(PURPOSE + b" seed" + session + seed).digest()[:16]


@functools.lru_cache(64)
def _weighs(weight: float, how: Code) -> Array:
    """The words of a weight, which is nearly always the same."""
    into = np.zeros(how.words * how.size, word(how.bits))
    encode(np.array(weight, np.float64), 1.0, how, into)
    return into


@functools.lru_cache(256)  # those of a run, of each node where several are in one process
def _around(node: str, among: tuple[str, ...], listed: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ring of these nodes, and the neighbours of one of them."""
    ring = tuple(neighbours.order(among, bytes.fromhex(listed)))
    return ring, tuple(neighbours.of(node, ring))


class Member:
    """A node in the secure sums of a run.

    Args:
        threshold: fewest nodes of a sum; 0: more than half of the run's, and two.
        group: so many nodes, at least, are in sums together or not at all.
        bits, range: how large arrays are written (:func:`hanse.privacy.fixed_point.code`).
        party: what this node may touch.
    """

    def __init__(self, threshold: int, group: int, bits: int, range: float, party: Party) -> None:
        self._threshold, self._group = threshold, group
        self._how, self._party = {"bits": bits, "range": range}, party

    @functools.cached_property
    def _identity(self) -> Identity | None:
        return self._party.identity()

    # ------------------------------------------------------------ keys

    def keys(self) -> Record:
        """A fresh key pair for this run, signed. All that was kept under the last one is forgotten."""
        party = self._party
        mine = party.memory["keys"] = Keys(KeyPair())
        key, identity = mine.pair.public.hex(), self._identity
        signature = identity.sign(key_text(party, party.node, key)).hex() if identity else ""
        certificate = identity.certificate if identity else ""
        return Record({"key": key, "certificate": certificate, "signature": signature, "of": len(party.rows)})

    def _kept(self) -> Keys:
        mine = self._party.memory.get("keys")
        if not isinstance(mine, Keys):
            raise NodeFailed(LOST)
        return mine

    # ------------------------------------------------------------ the masked contribution

    def answer(self, ask: Record, answer: Callable[[Record], Contribution]) -> Record:
        """This node's numbers under masks, and the secrets of the masks in shares that only others can read."""
        mine, party, asked = self._kept(), self._party, ask.data
        if "keys" in asked:
            believe(mine, asked["keys"], party, self._identity)
        if mine.listed != asked["listed"]:
            raise NodeFailed(LOST)
        inner = Record(asked["ask"], ask.arrays)
        session = self._begin(mine, asked, inner)
        if session.whole and session.signed != session.among:
            return Record({"bound": list(session.bound.survivors)})  # and the sum of these can be made again
        contribution = answer(inner)
        party.progress()
        arrays = {f"a.{name}": array for name, array in contribution.record.arrays.items()}
        if contribution.sums:
            arrays.update((f"s.{name}", array) for name, array in contribution.sums.items())
        rows = {node: max(1.0, party.rows.get(node, 0)) for node in session.among}
        everything, own = sum(rows.values()), rows.get(party.node, 1.0)
        most = asked["form"].get("most", {})
        how = wording(named(arrays), len(session.among), own, everything, most, self._how)
        self._check(contribution.weight, Record({}, arrays), how, asked["form"])
        words = self._words(arrays, contribution.weight, how)
        self._settle(session, hashed(arrays, contribution.weight, how.text, session.bound.seed))
        masks = keystream.expanded(
            [(seed, 1 if node == party.node else pair_sign(party.node, node)) for node, seed in session.seeds.items()]
        )
        found = sent(words)
        spans.over(functools.partial(_masked, words, masks, found), sum([v.nbytes for v in words.values()]) // UNIT + 1)
        party.progress()
        data: dict[str, Json] = {
            "data": contribution.record.data,
            "layout": how.names,
            "rows": everything,
            "session": session.id.hex(),
            "among": list(session.among),
            "beside": list(session.beside),
            "weighs": contribution.weight > 0,
            "bound": list(session.bound.survivors) if session.told else [],
            "last": last_told(party) if session.told else 0,
            "group": list(session.group),
        }
        if session.whole:
            replace(session.bound, survivors=session.among).leave(party, session.passing)
            return Record(data, found)
        commitments = [commitment(session.id, session.seeds[node]) for node in (party.node, *session.beside)]
        if session.sealed is None:
            session.sealed = self._shares(mine, session)
        return Record(data, {**found, "commitments": _stacked(commitments), **session.sealed})

    def _begin(self, mine: Keys, asked: Mapping[str, Json], inner: Record) -> MaskedSum:
        """The session of an ask, whose masks are used for nothing else. Its name binds all that is asked, so nodes that
        are asked different things have masks that do not cancel, and the coordinator learns nothing. The very same ask
        gets the very same answer."""
        party, number, among = self._party, asked["session"], tuple(asked["among"])
        whole, passing = (bool(asked.get(name, False)) for name in ("whole", "passing"))
        place = [party.run, party.bundle, mine.listed, number, party.step, party.exchange, list(among), whole, passing]
        question = bound(text("question", asked["form"]), inner)
        id = hashlib.sha256(text("session", *place, question)).digest()
        if mine.session is not None and mine.session.id == id:
            return mine.session
        if not isinstance(number, int) or number <= mine.last:
            raise NodeFailed("this sum was asked before, and the same masks are not used twice")
        if list(among) != sorted(set(among)) or party.node not in among or not {*among} <= mine.public.keys():
            raise NotAllowed("a secure sum is among nodes whose keys were told, each once, this one among them")
        fewest = least(self._threshold, len(party.rows) or len(mine.public))
        if len(among) < fewest:
            raise NodeFailed(
                f"a secure sum among {len(among)} nodes was asked for; this run's are of at least {fewest}"
            )
        before = Bound.of(party)
        if before is not None:
            before.check(question, among, party, passing)
        mine.last, mine.session = number, None
        ring, beside = _around(party.node, among, mine.listed)
        purpose = text("mask", id.hex())
        size = keystream.KEY_BYTES if whole else keystream.SEED_BYTES
        seeds = {other: expand(mine.secret(other), purpose, size) for other in beside}
        if not whole:
            seeds[party.node] = secrets.token_bytes(keystream.SEED_BYTES)
        group = _groups.beside(party.node, party.rows or mine.public, self._group) if self._group > 1 else (party.node,)
        told, bound_to = before is not None, before or Bound(question, seed=mine.seed)
        session = MaskedSum(number, id, among, ring, beside, fewest, seeds, bound_to, whole, passing, told, group)
        if whole and (before is None or before.survivors == among):
            self._take(session, among)
        mine.session = session
        return session

    def _settle(self, session: MaskedSum, contributed: str) -> None:
        """What this node contributes to the sum, and contributed to it before."""
        if session.bound.contributed:
            try:
                session.bound.check_own(contributed, self._party)
            except NodeFailed:
                self._kept().session = None  # other numbers under the same masks would lay both bare
                raise
        session.bound = replace(session.bound, contributed=contributed)

    def _check(self, weight: float, record: Record, how: Wording, form: Mapping[str, Json]) -> None:
        """What the coordinator cannot check of a contribution that it does not see."""
        node, rows = self._party.node, self._party.rows.get(self._party.node, 0)
        if not math.isfinite(weight) or weight < 0:
            raise DataError(f"the weight is {weight}; expected a finite number of at least 0")
        if rows and weight > rows:
            raise DataError("its weight is more than the rows that this node declared for this run")
        own = Answer(node, weight, {}, {}, self._party.step)
        for prefix in ("a.", "s."):
            wanted = form[prefix]
            if wanted is not None and wanted != how.shapes[prefix]:  # nearly never: it says what is wrong, if anything
                _checks.layout([(own, record)], prefix, {n: (d, tuple(s)) for n, (d, s) in wanted.items()})
        if rows and (wrong := _checks.beyond([(own, record)], form["counts"], {node: rows})):
            raise DataError(wrong[node])

    @staticmethod
    def _words(arrays: Mapping[str, Array], weight: float, how: Wording) -> dict[int, Array]:
        words = {bits: empty(size, word(bits), _LARGE_BYTES) for bits, size in how.sizes.items()}
        for name, into in places(how.codes, words).items():
            try:
                if name == "w":
                    into[:] = _weighs(weight, how.codes[name])
                    continue
                encode(arrays[name], weight if name.startswith("a.") else 1.0, how.codes[name], into)
            except DataError as error:
                raise DataError(
                    f"{name[2:]!r} cannot be part of a secure sum: {error.message}; secure_range of the run says how "
                    "large numbers may be"
                ) from None
        return words

    def _shares(self, mine: Keys, session: MaskedSum) -> dict[str, Array]:
        """For each neighbour a sealed message: its share of this node's own seed, and of the seed of each pair. A share
        of its own seed it keeps for itself."""
        needed = neighbours.threshold(len(session.among), session.least)
        if not needed:
            return {}
        points = range(1, len(session.beside) + 1 + session.close)
        seeds = [session.seeds[node] for node in (self._party.node, *session.beside)]
        given = shamir.split(seeds, needed, points)
        session.kept = given[-1][: shamir.SHARE_BYTES] if session.close else b""
        sealed = []
        for other, shares in zip(session.beside, given, strict=False):
            key = _share_key(mine, other, session, self._party.node, other)
            sealed.append(sealing.seal(key, shares, session.id))
        return {"shares": _stacked(sealed)}

    # ------------------------------------------------------------ the end of a sum

    def agree(self, asked: Mapping[str, Json]) -> Record:
        """Signs the list of those whose numbers are in the sum; in each session one list, and never a second."""
        session = self._of(self._kept(), asked)
        self._take(session, tuple(asked["survivors"]))
        identity = self._identity
        return Record({"signature": identity.sign(_survivors_text(session)).hex() if identity else ""})

    def _take(self, session: MaskedSum, survivors: tuple[str, ...]) -> None:
        """The list of those in the sum is this one, for good. Raises where it cannot be, or is another already."""
        alive = {*survivors}
        if list(survivors) != sorted(alive) or not alive <= {*session.among}:
            raise NotAllowed("the survivors of a secure sum are some of those who were asked, each once")
        if self._party.node not in survivors:
            raise NotAllowed("a node says nothing about a sum that it is not part of")
        if len(survivors) < session.least:
            raise NodeFailed(f"a secure sum of {len(survivors)} nodes is one of fewer than {session.least}")
        everybody = self._party.rows or self._kept().public
        for group in _groups.groups(everybody, self._group) if self._group > 1 else ():
            if 0 < len({*group} & alive) < len(group):
                raise NotAllowed(f"{', '.join(group)} are in a sum together or not at all (secure_group)")
        close = len(alive.intersection(session.beside))
        if not session.close and close < neighbours.threshold(len(session.among), session.least):
            raise NodeFailed(f"{close} of the {len(session.beside)} neighbours of this node are left, which is too few")
        if session.signed not in ((), survivors):
            raise NotAllowed("this node has signed another list of survivors of this sum, and signs no second one")
        if session.told and survivors != session.bound.survivors:
            raise NotAllowed(
                f"the sum of this step was told before, of {', '.join(session.bound.survivors)}, and no other one is"
            )
        session.signed = survivors

    def unmask(self, ask: Record) -> Record:
        """What takes the masks off the sum: in one of all who were asked, its shares of their own seeds; else, when
        enough nodes have signed the list of survivors that this one has signed too, of each survivor its own seed, of
        each pair that only one survived the pair's; never both of one node."""
        mine, asked, party = self._kept(), ask.data, self._party
        session, survivors = self._of(mine, asked), tuple(asked["survivors"])
        of_all = "signatures" not in asked
        if of_all:
            if survivors != session.among or not session.close:
                raise NotAllowed(
                    "a list of survivors that are not all who were asked has to be signed by enough of them"
                )
            self._take(session, survivors)
        elif not session.signed or survivors != session.signed:
            raise NotAllowed("this node has signed another list of survivors, and tells no secrets for this one")
        elif self._identity is not None:
            self._enough(mine, session, asked["signatures"])
        replace(session.bound, survivors=session.signed).promise(party)
        gone = [other for other in session.beside if other not in session.signed]
        own = [session.seeds[node] for node in (party.node, *gone)]
        parts, missing = [], []
        for place, other in enumerate(node for node in session.beside if node in session.signed):
            opened = (
                self._opened(mine, session, other, np.asarray(ask.arrays["shares"])[place].tobytes())
                if "shares" in ask.arrays
                else None
            )
            if opened is None:
                missing.append(other)
            parts += opened or []
        told = {"kept": _stacked([session.kept])} if of_all and session.kept else {"own": _stacked(own)}
        return Record({"missing": missing}, {**told, "shares": _stacked(parts, shamir.SHARE_BYTES)})

    def _of(self, mine: Keys, asked: Mapping[str, Json]) -> MaskedSum:
        if mine.session is None or mine.session.number != asked["session"]:
            raise NodeFailed(LOST)
        if mine.session.whole:
            raise NotAllowed("this sum is of all who were asked or none, and no secret of its masks is told")
        if mine.session.sealed is None:
            raise NodeFailed("this node has contributed nothing to this sum")
        return mine.session

    def _enough(self, mine: Keys, session: MaskedSum, signatures: Mapping[str, str]) -> None:
        identity, said = self._identity, _survivors_text(session)
        assert identity is not None
        fine = 1  # this node's own
        for node, signature in signatures.items():
            if fine >= session.least:
                break
            if node != self._party.node and node in session.signed:
                fine += identity.verify(mine.certificates[node], said, bytes.fromhex(signature))
        if fine < session.least:
            raise NotAllowed(
                f"{fine} nodes have signed this list of survivors, and {session.least} must before a secret is told"
            )

    def _opened(self, mine: Keys, session: MaskedSum, other: str, sealed: bytes) -> list[bytes] | None:
        """Of what ``other`` has sealed for this node, the shares of its own seed and of its pairs with those that are
        gone; None where it was changed on its way."""
        key = _share_key(mine, other, session, other, self._party.node)
        shares = sealing.unseal(key, sealed, session.id)
        of = (other, *neighbours.of(other, session.ring))
        if shares is None or len(shares) != shamir.SHARE_BYTES * len(of):
            return None
        alive = {*session.signed}
        told = [place for place, node in enumerate(of) if node == other or node not in alive]
        return [shares[shamir.SHARE_BYTES * place : shamir.SHARE_BYTES * (place + 1)] for place in told]


def _share_key(mine: Keys, other: str, session: MaskedSum, sender: str, receiver: str) -> bytes:
    return expand(mine.secret(other), text("share", session.id.hex(), sender, receiver))


def _survivors_text(session: MaskedSum) -> bytes:
    return text("survivors", session.id.hex(), list(session.signed))


def _masked(
    words: Mapping[int, Array], masks: Sequence[tuple[AES, int]], into: Mapping[str, Array], low: int, high: int
) -> bool:
    room = keystream.room((high - low) * UNIT)
    for part in range(low // PART, -(-high // PART)):
        found = keystream.within(words, part)
        keystream.mask([words[bits][start:stop] for bits, start, stop in found], masks, part, room)
        for bits, start, stop in found:  # cut while they are in a core's cache
            cut(words[bits], bits, into, start, stop)
    return True


def _stacked(parts: Sequence[bytes], width: int = 0) -> Array:
    """Byte strings of one length as the rows of an array."""
    width = len(parts[0]) if parts else width
    return np.frombuffer(b"".join(parts), np.uint8).reshape(len(parts), width)
