"""What a coordinator that lies gets from secure sums: nothing. Each test is one lie, told to real node halves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from gathering.nodes import ASK, Nodes, whole
from hanse.errors import DataError, NodeFailed, NotAllowed, NotAuthenticated
from hanse.gathering._keys import text
from hanse.gathering._session import commitment
from hanse.identity import Authority, csr
from hanse.kinds import Contribution
from hanse.messages import Array, Json, Record, dumps
from hanse.privacy import keystream, shamir
from hanse.privacy.agreement import KeyPair
from hanse.privacy.fixed_point import code, decode
from hanse.signing import Signer, fingerprint, pins
from tests.transports.grpc_federation import identity

N = 7  # the threshold is 4
NAMES = [f"n{k:03}" for k in range(N)]
ROWS = dict.fromkeys(NAMES, 100.0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path)


def federation(authority: Authority, pinned: Mapping[str, str] | None = None, n: int = N) -> Nodes:
    signers = {node: Signer(identity(authority, node), pinned) for node in NAMES[:n]}
    return Nodes(whole(n), rows=ROWS, identities=signers)


class Liar:
    """A coordinator by hand: it asks what it likes of whom it likes."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes, self.at = nodes, 0
        said = {node: nodes.ask(node, "keys", Record(), exchange=self._next()).data for node in nodes.contributions}
        self.keys = {n: [n, d["key"], d["certificate"], d["signature"]] for n, d in said.items()}
        self.listed = ""

    def _next(self) -> int:
        self.at += 1
        return self.at

    def asked(
        self,
        ask: Mapping[str, Json] | None = None,
        among: list[str] | None = None,
        session: int = 0,
        whole: bool = False,
    ) -> Record:
        told = [self.keys[node] for node in sorted(self.keys)]
        return Record(
            {
                "session": session,
                "among": sorted(among or self.nodes.contributions),
                "listed": hashlib.sha256(dumps([[n, key] for n, key, *_ in told]).encode()).hexdigest(),
                "form": {"a.": None, "s.": None, "counts": {}},
                "keys": told,
                "ask": dict(ask or {"q": 1}),
                "whole": whole,
            }
        )

    def ask(self, node: str, op: str, record: Record) -> Record:
        return self.nodes.ask(node, op, record, exchange={"answer": 50, "agree": 60, "unmask": 70}[op])

    def answers(self, **how: object) -> dict[str, Record]:
        return {node: self.ask(node, "answer", self.asked(**how)) for node in how.get("among") or NAMES}  # type: ignore[arg-type, attr-defined]

    def signed(self, survivors: list[str], of: list[str] | None = None, session: int = 0) -> dict[str, str]:
        question = Record({"session": session, "survivors": sorted(survivors)})
        return {node: self.ask(node, "agree", question).data["signature"] for node in of or survivors}

    def unmasked(
        self,
        node: str,
        came: Mapping[str, Record],
        survivors: list[str],
        signatures: Mapping[str, str] | None,
        session: int = 0,
    ) -> Record:
        """With ``signatures`` None as in a sum of all who were asked."""
        rows = [
            came[other].arrays["shares"][came[other].data["beside"].index(node)]
            for other in came[node].data["beside"]
            if other in survivors
        ]
        said: dict[str, Json] = {"session": session, "survivors": sorted(survivors)}
        if signatures is not None:
            said["signatures"] = dict(signatures)
        return self.ask(node, "unmask", Record(said, {"shares": np.stack(rows)}))


# ---------------------------------------------------------------- in the middle of keys


def test_a_key_that_the_coordinator_put_in_is_refused_by_everybody(authority: Authority) -> None:
    liar = Liar(federation(authority))
    liar.keys["n003"][1] = KeyPair().public.hex()  # its own; the signature is that of n003
    for node in NAMES:
        with pytest.raises((NotAuthenticated, NodeFailed), match="'n003' is not signed|does not have the keys"):
            liar.ask(node, "answer", liar.asked())


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (lambda keys: keys["n003"].__setitem__(3, keys["n004"][3]), "not signed by it"),
        (lambda keys: keys["n003"].__setitem__(3, ""), "not signed by it"),
        (lambda keys: keys["n003"].__setitem__(2, keys["n004"][2]), "certificate of 'n004'"),
        (lambda keys: keys["n003"].__setitem__(2, ""), "no certificate of the authority"),
        (lambda keys: keys["n003"].__setitem__(1, keys["n004"][1]), "not signed by it|a key twice"),
        (lambda keys: keys["n003"].__setitem__(1, "ab"), "what is no key"),
        (lambda keys: keys.__setitem__("n0031", list(keys["n003"])), "a node twice"),
        (lambda keys: keys.__setitem__("sybil", ["sybil", KeyPair().public.hex(), "", ""]), "does not name"),
    ],
)
def test_lists_of_keys_that_are_none(
    authority: Authority, lie: Callable[[dict[str, list[str]]], None], said: str
) -> None:
    liar = Liar(federation(authority))
    lie(liar.keys)
    with pytest.raises((NotAuthenticated, NotAllowed), match=said):
        liar.ask("n000", "answer", liar.asked())


def test_a_certificate_of_another_authority_or_another_run_is_no_use(authority: Authority, tmp_path: Path) -> None:
    liar = Liar(federation(authority))
    other = Signer(identity(Authority.open(tmp_path / "other"), "n003"))
    pair = KeyPair()
    liar.keys["n003"] = ["n003", pair.public.hex(), other.certificate, other.sign(b"x").hex()]
    with pytest.raises(NotAuthenticated, match="no certificate of the authority"):
        liar.ask("n000", "answer", liar.asked())
    # what n003 has signed for another run
    nodes = federation(authority)
    liar = Liar(nodes)
    nodes.run = "another"
    replayed = nodes.ask("n003", "keys", Record(), exchange=40).data
    nodes.run = "run"
    liar.keys["n003"] = ["n003", replayed["key"], replayed["certificate"], replayed["signature"]]
    with pytest.raises(NotAuthenticated, match="not signed by it for this run"):
        liar.ask("n000", "answer", liar.asked())


def test_a_certificate_that_the_coordinators_authority_made_up_is_believed_unless_owners_pin_keys(
    authority: Authority,
) -> None:
    """The honest limit: who runs the authority can name anybody, so owners pin."""
    pinned: dict[str, str] = {}
    for pins_are_set in (False, True):
        nodes = federation(authority, pinned if pins_are_set else None)
        if not pins_are_set:
            for node, signer in nodes.identities.items():
                pinned[node] = fingerprint(signer.certificate.encode())
        liar = Liar(nodes)
        forged, pair = Signer(identity(authority, "n003")), KeyPair()
        signature = forged.sign(text("key", "run", "b" * 64, "n003", pair.public.hex())).hex()
        liar.keys["n003"] = ["n003", pair.public.hex(), forged.certificate, signature]
        if pins_are_set:
            with pytest.raises(NotAuthenticated, match="not one that this node's owner has pinned"):
                liar.ask("n000", "answer", liar.asked())
        else:
            liar.ask("n000", "answer", liar.asked())


def test_pinned_keys_are_believed_and_written_as_owners_write_them(authority: Authority) -> None:
    certificates = {node: identity(authority, node) for node in NAMES}
    texts = [f"{node}={fingerprint(i.cert_pem)}" for node, i in certificates.items()]
    signers = {node: Signer(i, pins(texts)) for node, i in certificates.items()}
    assert len(Nodes(whole(N), rows=ROWS, identities=signers).sum().answers) == N


def test_a_key_that_was_believed_is_not_exchanged_for_another_one(authority: Authority) -> None:
    nodes = federation(authority)
    liar = Liar(nodes)
    liar.answers()
    fresh = nodes.ask("n003", "keys", Record(), exchange=80).data
    liar.keys["n003"] = ["n003", fresh["key"], fresh["certificate"], fresh["signature"]]
    with pytest.raises(NotAuthenticated, match="another one than before"):
        liar.ask("n000", "answer", liar.asked(session=1))


# ---------------------------------------------------------------- who is in the sum


@pytest.mark.parametrize("among", [["n000"], ["n000", "n001"], ["n000", "n001", "n002"]])
def test_a_sum_of_too_few_is_not_masked_at_all(authority: Authority, among: list[str]) -> None:
    liar = Liar(federation(authority))
    with pytest.raises(NodeFailed, match="at least 4"):
        liar.ask("n000", "answer", liar.asked(among=among))


def test_a_sum_among_strangers_or_without_oneself_is_refused(authority: Authority) -> None:
    liar = Liar(federation(authority))
    for among in ([*NAMES, "n999"], NAMES[1:], [*NAMES, "n000"]):
        with pytest.raises(NotAllowed, match="whose keys were told"):
            liar.ask("n000", "answer", liar.asked(among=among))


def test_two_lists_of_survivors_get_no_secret_of_anybody(authority: Authority) -> None:
    """n006 would be unmasked by those who think it is in the sum (its own seed) and those who think it is not (the
    seeds of its pairs)."""
    liar = Liar(federation(authority))
    came = liar.answers()
    with_it, without = NAMES, NAMES[:-1]
    signatures = liar.signed(with_it, ["n000", "n001", "n006"]) | liar.signed(without, ["n002", "n003", "n004", "n005"])
    for node in NAMES:
        for survivors in (with_it, without):
            own = [n for n in signatures if (n in ("n000", "n001", "n006")) == (survivors is with_it)]
            if len(own) >= 4 and node in own:
                continue  # one list has the signatures of enough, and its sum is the one that is made
            with pytest.raises((NotAllowed, NodeFailed)):
                liar.unmasked(node, came, survivors, signatures)
    # those of the one list tell the seeds of pairs with n006, and nobody tells n006's own
    shown = [liar.unmasked(node, came, without, signatures) for node in ("n002", "n003", "n004", "n005")]
    n006 = came["n006"]
    id = bytes.fromhex(n006.data["session"])
    told = [row.tobytes() for record in shown for row in record.arrays["own"]]
    assert all(commitment(id, seed) != n006.arrays["commitments"][0].tobytes() for seed in told)
    # two of its six pairs stay hidden
    pairs = {commitment(id, seed) for seed in told} & {row.tobytes() for row in n006.arrays["commitments"][1:]}
    assert len(pairs) == 4


def opens(liar: Liar, came: Mapping[str, Record], node: str, shown: Mapping[str, Record]) -> bool:
    """Whether what was shown gives the seed of ``node``'s own."""
    holders = came[node].data["beside"]
    shares: dict[int, bytes] = {}
    for holder, record in shown.items():
        around = [other for other in came[holder].data["beside"] if other in record.data["of"]]
        if holder == node:
            shares |= {len(holders) + 1: row.tobytes() for row in record.arrays.get("kept", ())}
        elif node in around:
            per = len(record.arrays["shares"]) // len(around)
            shares[1 + holders.index(holder)] = record.arrays["shares"][per * around.index(node)].tobytes()
        for seed in record.arrays.get("own", ()):
            if commitment(bytes.fromhex(came[node].data["session"]), seed.tobytes()) == own_hash(came[node]):
                return True
    if len(shares) < 4:
        return False
    seed = shamir.join(dict(list(shares.items())[:4]))
    return seed is not None and commitment(bytes.fromhex(came[node].data["session"]), seed) == own_hash(came[node])


def own_hash(record: Record) -> bytes:
    return record.arrays["commitments"][0].tobytes()


def of(record: Record, survivors: list[str]) -> Record:
    return Record({**record.data, "of": survivors}, record.arrays)


@pytest.mark.parametrize("told_first", [True, False])
@pytest.mark.parametrize("fast", range(N + 1))
def test_no_node_is_in_the_sum_of_all_and_missing_in_another(authority: Authority, fast: int, told_first: bool) -> None:
    """Some are told that all are in the sum, and asked for shares without a signature; the others, that n006 was lost,
    which they sign. With either the own seed of n006 opens or its pairs do, however many are told what, and in whatever
    order."""
    liar = Liar(federation(authority))
    came, without = liar.answers(), NAMES[:-1]
    some = ["n006", *without][:fast]
    rest = [node for node in without if node not in some]
    shown: dict[str, Record] = {}

    def of_all() -> None:
        for node in some:
            shown[node] = of(liar.unmasked(node, came, NAMES, None), NAMES)

    def without_one() -> None:
        signatures = liar.signed(without, rest) if rest else {}
        for node in rest:
            if len(rest) >= 4:
                shown[node] = of(liar.unmasked(node, came, without, signatures), without)
            else:
                with pytest.raises(NotAllowed, match="must before a secret is told"):
                    liar.unmasked(node, came, without, signatures)

    for step in (of_all, without_one) if told_first else (without_one, of_all):
        step()
    for node in rest:
        with pytest.raises(NotAllowed, match="another list of survivors"):
            liar.unmasked(node, came, NAMES, None)
    for node in some:
        with pytest.raises(NotAllowed):
            liar.signed(without, [node])
    id = bytes.fromhex(came["n006"].data["session"])
    seeds = {commitment(id, row.tobytes()) for record in shown.values() for row in record.arrays.get("own", ())}
    pairs = seeds & {row.tobytes() for row in came["n006"].arrays["commitments"][1:]}
    assert not (opens(liar, came, "n006", shown) and pairs)
    assert opens(liar, came, "n006", shown) == (fast >= 4)
    assert bool(pairs) == (len(rest) >= 4)


def test_shares_without_signatures_are_told_of_all_who_were_asked_and_by_those_who_answered(
    authority: Authority,
) -> None:
    liar = Liar(federation(authority))
    came = liar.answers()
    for survivors in (NAMES[:-1], NAMES[:4]):
        with pytest.raises(NotAllowed, match="has to be signed by enough"):
            liar.unmasked("n000", came, survivors, None)
    shown = liar.unmasked("n000", came, NAMES, None)
    assert set(shown.arrays) == {"kept", "shares"}  # no seed, of its own or of a pair
    with pytest.raises(NotAllowed, match="another list of survivors"):
        liar.signed(NAMES[:-1], ["n000"])
    # one that has not answered has no shares, and its seed is not told in their place
    liar = Liar(federation(authority))
    liar.nodes.contributions = {**liar.nodes.contributions, "n000": Contribution(Record({}, {"x": np.full(5, 1e99)}))}
    came = {node: liar.ask(node, "answer", liar.asked()) for node in NAMES[1:]}
    with pytest.raises(DataError):
        liar.ask("n000", "answer", liar.asked())
    for op in ("agree", "unmask"):
        with pytest.raises(NodeFailed, match="has contributed nothing"):
            liar.ask("n000", op, Record({"session": 0, "survivors": NAMES}))


def test_a_sum_without_one_of_a_group_is_signed_by_nobody(authority: Authority) -> None:
    """In two steps of the same question, the liar leaves one node out: it gets the difference of whole groups alone."""
    nodes = federation(authority)
    nodes.settings = {"secure_group": 3}  # n000 to n003, and n004 to n006
    liar = Liar(nodes)
    liar.answers()
    for survivors in (NAMES[:-1], NAMES[1:], NAMES[:6], ["n000", *NAMES[3:]]):
        for node in survivors:
            with pytest.raises(NotAllowed, match=r"n00\d are in a sum together or not at all"):
                liar.signed(survivors, [node])
    assert liar.signed(NAMES[:4])
    liar = Liar(nodes)
    among = NAMES[:-1]  # nor where only they were asked
    came = liar.answers(among=among)
    with pytest.raises(NotAllowed, match="together or not at all"):
        liar.unmasked("n000", came, among, None)


def test_nobody_signs_a_second_list_or_one_without_itself_or_of_too_few(authority: Authority) -> None:
    liar = Liar(federation(authority))
    liar.answers()
    liar.signed(NAMES, ["n000"])
    with pytest.raises(NotAllowed, match="another list of survivors"):
        liar.signed(NAMES[:-1], ["n000"])
    assert liar.signed(NAMES, ["n000"])
    with pytest.raises(NotAllowed, match="not part of"):
        liar.signed(NAMES[1:], ["n000"])
    with pytest.raises(NodeFailed, match="fewer than 4"):
        liar.signed(NAMES[1:4], ["n001"])
    with pytest.raises(NotAllowed, match="each once"):
        liar.signed([*NAMES, "n999"], ["n001"])


@pytest.mark.parametrize(
    "lie",
    [
        lambda signatures: {},
        lambda signatures: dict(list(signatures.items())[:2]),
        lambda signatures: dict.fromkeys(signatures, signatures["n001"]),
        lambda signatures: {n: s[:-2] + "00" for n, s in signatures.items()},
        lambda signatures: dict.fromkeys(signatures, ""),
    ],
)
def test_no_secret_without_the_signatures_of_enough_under_this_list(
    authority: Authority, lie: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    liar = Liar(federation(authority))
    came, signatures = liar.answers(), liar.signed(NAMES)
    with pytest.raises(NotAllowed, match=r"\d nodes? (has|have) signed this list"):
        liar.unmasked("n000", came, NAMES, lie(signatures))
    assert liar.unmasked("n000", came, NAMES, signatures).arrays["own"].shape == (1, 16)


def test_both_secrets_of_one_node_are_never_told(authority: Authority) -> None:
    liar = Liar(federation(authority))
    came = liar.answers()
    signatures = liar.signed(NAMES)
    shown = {node: liar.unmasked(node, came, NAMES, signatures) for node in NAMES}
    for node, record in shown.items():
        assert len(record.arrays["own"]) == 1  # its own seed, of no pair
        assert len(record.arrays["shares"]) == N - 1  # of each other's own seed
        for survivors in (NAMES[:-1], NAMES[1:]):
            with pytest.raises((NotAllowed, NodeFailed)):
                liar.unmasked(node, came, survivors, signatures)


# ---------------------------------------------------------------- of all or none


def added(came: Mapping[str, Record], nodes: list[str]) -> Array:
    return np.sum([came[node].arrays["64"] for node in nodes], 0, dtype=np.uint64).view(np.int64)


def of_own(liar: Liar, nodes: list[str]) -> Array:
    contributions = liar.nodes.contributions
    return np.sum([c.record.arrays["i"] for n in nodes if isinstance(c := contributions[n], Contribution)], 0)


def test_no_secret_of_a_sum_of_all_or_none_is_told(authority: Authority) -> None:
    """Who has all answers but one asks the others for what takes the masks of this one off."""
    liar = Liar(federation(authority))
    came = liar.answers(whole=True)
    for survivors in (NAMES[:-1], NAMES):
        for op, more in (("agree", {}), ("unmask", {}), ("unmask", {"signatures": dict.fromkeys(NAMES, "")})):
            with pytest.raises(NotAllowed, match="no secret of its masks is told"):
                liar.ask("n000", op, Record({"session": 0, "survivors": survivors, **more}))
    assert not np.isin(of_own(liar, NAMES[:-1]), added(came, NAMES[:-1])).any()
    assert np.isin(of_own(liar, NAMES), added(came, NAMES)).all()


@pytest.mark.parametrize("whole_first", [True, False])
def test_after_a_sum_of_all_or_none_no_other_one_of_the_step_is_told(authority: Authority, whole_first: bool) -> None:
    """Of two sums, one in which n006 is missing, the second is refused by everybody, whichever it is."""
    liar, without = Liar(federation(authority)), NAMES[:-1]
    if whole_first:
        liar.answers(whole=True)
        for node in without:
            for all_or_none in (True, False):
                with pytest.raises(NodeFailed, match="is told of no others"):
                    liar.ask(node, "answer", liar.asked(among=without, session=1, whole=all_or_none))
        liar.answers(session=2)  # of all, and one of them is said to be lost
        for node in without:
            with pytest.raises(NotAllowed, match="no other one is"):
                liar.signed(without, [node], session=2)
        return
    liar.answers(among=without, whole=True)
    for node in without:
        said = liar.ask(node, "answer", liar.asked(session=1, whole=True))
        assert (said.data, dict(said.arrays)) == ({"bound": without}, {})  # and nothing of its numbers
        with pytest.raises(NotAllowed, match="no secret of its masks is told"):
            liar.signed(NAMES, [node], session=1)
    came = liar.answers(session=2)  # all are asked again; it is the sum of before or none
    signatures = liar.signed(without, session=2)
    for node in without:
        for survivors in (NAMES, NAMES[:5]):
            with pytest.raises(NotAllowed, match=r"no other one is|no second one|not part of"):
                liar.signed(survivors, [node], session=2)
            with pytest.raises(NotAllowed, match="tells no secrets for this one"):
                liar.unmasked(node, came, survivors, signatures, session=2)


def test_a_sum_that_was_masked_before_one_of_all_or_none_stays_masked(authority: Authority) -> None:
    liar = Liar(federation(authority))
    liar.answers()
    liar.answers(session=1, whole=True)
    for node in NAMES[:-1]:
        with pytest.raises(NodeFailed, match="keys of this sum"):
            liar.signed(NAMES[:-1], [node])


def test_who_is_told_that_a_sum_needs_all_and_who_is_not_have_masks_that_do_not_cancel(authority: Authority) -> None:
    liar = Liar(federation(authority))
    came = {node: liar.ask(node, "answer", liar.asked(whole=node != "n000")) for node in NAMES}
    assert len({record.data["session"] for record in came.values()}) == 2
    assert not np.isin(of_own(liar, NAMES), added(came, NAMES)).any()


def test_a_sum_of_all_or_none_is_of_whole_groups_and_of_enough(authority: Authority) -> None:
    nodes = federation(authority)
    nodes.settings = {"secure_group": 3}  # n000 to n003, and n004 to n006
    liar = Liar(nodes)
    for node in NAMES[:-1]:
        with pytest.raises(NotAllowed, match="together or not at all"):
            liar.ask(node, "answer", liar.asked(among=NAMES[:-1], whole=True))
    with pytest.raises(NodeFailed, match="at least 4"):
        liar.ask("n000", "answer", liar.asked(among=NAMES[:3], whole=True, session=1))
    assert len(liar.answers(among=NAMES[:4], whole=True, session=2)) == 4


# ---------------------------------------------------------------- the same masks twice


def test_a_sum_that_was_asked_before_is_answered_with_the_same_bytes_or_not_at_all(authority: Authority) -> None:
    liar = Liar(federation(authority))
    liar.answers()
    first = liar.answers(session=3)["n000"]
    again = liar.ask("n000", "answer", liar.asked(session=3))
    assert again.data == first.data
    assert {name: a.tobytes() for name, a in again.arrays.items()} == {n: a.tobytes() for n, a in first.arrays.items()}
    for session, ask in ((0, {"q": 1}), (0, {"q": 2}), (2, {"q": 1}), (3, {"q": 2})):
        with pytest.raises(NodeFailed, match="same masks are not used twice"):
            liar.ask("n000", "answer", liar.asked(ask, session=session))
    with pytest.raises(NodeFailed, match="keys of this sum"):  # what belongs to an old one is gone
        liar.signed(NAMES, ["n000"], session=0)


def test_neither_is_it_where_the_step_is_gone_back_to(authority: Authority) -> None:
    """A node's memory is kept as it was before each exchange; which sums it answered is not forgotten with it."""
    nodes = federation(authority)
    liar = Liar(nodes)
    question = liar.asked(session=5)
    nodes.ask("n000", "answer", question, step=7, exchange=0)
    for step, exchange in ((7, 1), (6, 0), (0, 60)):
        with pytest.raises(NodeFailed, match="same masks are not used twice"):
            nodes.ask("n000", "answer", question, step=step, exchange=exchange)


def test_other_numbers_are_not_put_under_the_masks_of_the_first(authority: Authority) -> None:
    nodes = federation(authority)
    liar = Liar(nodes)
    liar.answers()
    nodes.contributions = {**nodes.contributions, "n000": whole(N, seed=1)["n000"]}
    with pytest.raises(NodeFailed, match="has contributed other numbers"):
        liar.ask("n000", "answer", liar.asked())
    with pytest.raises(NodeFailed, match="same masks are not used twice"):
        liar.ask("n000", "answer", liar.asked())


def test_fresh_keys_forget_all_that_was_masked_before(authority: Authority) -> None:
    nodes = federation(authority)
    liar = Liar(nodes)
    came = liar.answers()
    signatures = liar.signed(NAMES)
    nodes.ask("n000", "keys", Record(), exchange=65)
    with pytest.raises(NodeFailed, match="keys of this sum"):
        liar.unmasked("n000", came, NAMES, signatures)


# ---------------------------------------------------------------- asking different things


def test_who_asks_one_node_something_else_gets_no_sum_of_it(authority: Authority) -> None:
    """Parameters at which all others answer with what the coordinator knows would lay the last one bare (Pasquini et
    al. 2022). The masks follow from what is asked, so they do not come off."""
    nodes = federation(authority)
    secret = np.arange(5.0)
    nodes.contributions = {
        n: (lambda ask: Contribution(Record({}, {"x": secret if ask.data["q"] == 1 else np.zeros(5)}))) for n in NAMES
    }
    liar = Liar(nodes)
    came = {n: liar.ask(n, "answer", liar.asked({"q": 1 if n == "n000" else 2})) for n in NAMES}
    assert len({record.data["session"] for record in came.values()}) == 2
    signatures = liar.signed(NAMES)
    honest = nodes.identities
    nodes.identities = {}  # even if no signature were looked at
    shown = {node: liar.unmasked(node, came, NAMES, signatures) for node in NAMES}
    nodes.identities = honest
    total = sum((came[n].arrays["64"].copy() for n in NAMES), np.zeros_like(came["n000"].arrays["64"]))
    seeds = [(record.arrays["own"][0].tobytes(), -1) for record in shown.values()]
    keystream.mask([total], keystream.expanded(seeds))
    how = code(np.dtype("float64"), (5,), N, 1, N)
    found = decode(total[: 5 * how.words].copy(), how)  # the weight stands behind it
    assert not np.isclose(found, secret).any()
    # the same by the book gives the sum
    nodes = federation(authority)
    nodes.contributions = {n: Contribution(Record({}, {"x": secret})) for n in NAMES}
    np.testing.assert_allclose(nodes.sum(ask=ASK).sum()["x"], N * secret)


def test_the_coordinators_own_half_leaves_out_who_was_asked_something_else(authority: Authority) -> None:
    nodes = federation(authority)
    nodes.before["n002", "answer"] = lambda record: Record({**record.data, "ask": {"q": 9}}, record.arrays)
    found = nodes.sum()
    assert [a.node for a in found.answers] == [n for n in NAMES if n != "n002"]
    assert "what it was asked" in found.failures["n002"]


# ---------------------------------------------------------------- shares


def test_shares_that_were_changed_or_exchanged_on_their_way_open_for_nobody(authority: Authority) -> None:
    liar = Liar(federation(authority))
    came, signatures = liar.answers(), liar.signed(NAMES)
    for node in NAMES[1:]:
        shares = came[node].arrays["shares"].copy()
        came[node] = Record(came[node].data, {**came[node].arrays, "shares": shares[::-1].copy()})  # another's
    shown = liar.unmasked("n000", came, NAMES, signatures)
    assert set(shown.data["missing"]) >= set(NAMES[1:]) - {"n004"}  # the one in the middle stays where it was
    assert len(shown.arrays["shares"]) <= 1


def test_so_many_that_collude_with_the_coordinator_know_no_secret_of_another() -> None:
    """Three of seven put their shares of n000's seed together; four are needed, and three fit every seed."""
    nodes = Nodes(whole(N), rows=ROWS)
    liar = Liar(nodes)
    came = liar.answers()
    liar.signed(NAMES)
    shown = {node: liar.unmasked(node, came, NAMES, {}) for node in NAMES}
    n000 = came["n000"]
    id = bytes.fromhex(n000.data["session"])
    shares = {1 + n000.data["beside"].index(n): shown[n].arrays["shares"][0].tobytes() for n in NAMES[1:]}
    own = n000.arrays["commitments"][0].tobytes()
    for few in ([1, 2, 3], [2, 4, 6], [1, 5, 6]):
        guess = shamir.join({p: shares[p] for p in few})
        assert guess is None or commitment(id, guess) != own
    seed = shamir.join({p: shares[p] for p in (1, 3, 4, 6)})
    assert seed is not None
    assert commitment(id, seed) == own


def test_errors_hold_nothing_of_what_was_contributed(authority: Authority) -> None:
    nodes = federation(authority)
    nodes.contributions = {**nodes.contributions, "n001": Contribution(Record({}, {"x": np.full(5, 123456e60)}))}
    said = nodes.sum().failures["n001"]
    assert "123456" not in said
    assert "beyond" in said


def test_identities_are_not_believed_beyond_their_certificates(authority: Authority) -> None:
    signer, other = Signer(identity(authority, "n000")), Signer(identity(authority, "n001"))
    assert signer.verify(other.certificate, b"text", other.sign(b"text"))
    assert not signer.verify(other.certificate, b"texts", other.sign(b"text"))
    assert not signer.verify(signer.certificate, b"text", other.sign(b"text"))
    assert signer.vouched("n001", other.certificate) == ""
    assert "certificate of 'n001'" in signer.vouched("n002", other.certificate)
    expired = authority.issue_node(csr(identity(authority, "n001").key_pem, "n001"), "n001", -1).decode()
    assert "expired" in signer.vouched("n001", expired)
