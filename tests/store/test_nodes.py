"""Nodes: enrolled once, by a token that works once, and shut out when revoked."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hanse.errors import ConfigError, Conflict, NotAuthenticated, NotFound
from hanse.store.database import now
from hanse.store.nodes import CertificateOnFile
from hanse.store.store import Store
from tests.waiting import PATIENCE

A, B = CertificateOnFile("01", "aa" * 32), CertificateOnFile("02", "bb" * 32)


def test_enrolment(store: Store) -> None:
    owner, _ = store.accounts.create_account("clinic", "data_owner")
    token, secret = store.nodes.join_tokens.create("op", "clinic-1", owner=owner.id)
    node = store.nodes.enrol(secret, "clinic-1", lambda: A, address="10.0.0.1", capabilities={"cores": 4})
    assert (node.owner, node.status, node.capabilities) == (owner.id, "enrolled", {"cores": 4})
    assert store.nodes.authenticate(A.fingerprint) == node == store.nodes.get("clinic-1")
    used = store.nodes.join_tokens.list()[0]
    assert (used.id, used.used_by) == (token.id, "clinic-1")
    with pytest.raises(NotAuthenticated, match="used"):
        store.nodes.enrol(secret, "clinic-1", lambda: B)
    with pytest.raises(Conflict, match="revoke that node"):
        store.nodes.join_tokens.revoke(token.id, actor="op")


def test_a_failed_enrolment_uses_nothing_up(store: Store) -> None:
    _, secret = store.nodes.join_tokens.create("op")

    def broken() -> CertificateOnFile:
        raise OSError("no key")

    with pytest.raises(OSError, match="no key"):
        store.nodes.enrol(secret, "a", broken)
    store.nodes.register("taken", B)
    with pytest.raises(Conflict, match="another certificate"):
        store.nodes.enrol(secret, "taken", lambda: A)
    assert store.nodes.enrol(secret, "a", lambda: A).id == "a"


def test_join_tokens_that_do_not_fit(store: Store) -> None:
    consume = store.nodes.join_tokens.consume
    _, bound = store.nodes.join_tokens.create("op", "a")
    with pytest.raises(NotAuthenticated, match="another node"):
        consume(bound, "b")
    revoked, secret = store.nodes.join_tokens.create("op")
    store.nodes.join_tokens.revoke(revoked.id, actor="op")
    with pytest.raises(NotAuthenticated, match="expired"):
        consume(secret, "a")
    for wrong in ("", "hanse_" + "a" * 32, "\0", None):
        with pytest.raises(NotAuthenticated, match="not known"):
            consume(wrong, "a")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="live"):
        store.nodes.join_tokens.create("op", lifetime_s=0)
    with pytest.raises(ConfigError, match="data_owner"):
        store.nodes.join_tokens.create("op", owner="acc-none")
    with pytest.raises(NotFound):
        store.nodes.join_tokens.revoke("join-none", actor="op")
    assert consume(bound, "a").used_by == "a"


_CONSUMER = """
import sys
from hanse.errors import NotAuthenticated
from hanse.store.store import Store
url, folder, secret, me = sys.argv[1:]
with Store(url, folder) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        print("won", store.nodes.join_tokens.consume(secret, me).used_by, flush=True)
    except NotAuthenticated as error:
        print("lost", error.message, flush=True)
"""


def test_of_two_processes_with_the_same_join_token_exactly_one_gets_in(store: Store, url: str, tmp_path: Path) -> None:
    _, secret = store.nodes.join_tokens.create("op")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _CONSUMER, url, str(tmp_path / "store"), secret, me],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in ("a", "b")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # both are ready: let both go
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = sorted(process.communicate(timeout=PATIENCE)[0].split()[0] for process in processes)
    assert said == ["lost", "won"]


def test_of_many_threads_with_the_same_join_token_exactly_one_gets_in(store: Store) -> None:
    _, secret = store.nodes.join_tokens.create("op")
    won, lost = [], []
    barrier = threading.Barrier(6)

    def work(me: str) -> None:
        barrier.wait()
        try:
            won.append(store.nodes.join_tokens.consume(secret, me))
        except NotAuthenticated:
            lost.append(me)

    threads = [threading.Thread(target=work, args=(f"n{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 5)
    assert store.nodes.join_tokens.list()[0].used_by == won[0].used_by


def test_what_a_node_says_about_itself(store: Store) -> None:
    store.nodes.register("a", A)
    summary = {"client_id": "a", "num_samples": 10, "class_distribution": {"0": 4, "1": 6}}
    node = store.nodes.describe("a", summary=summary, datasets=[{"name": "d", "tags": ["t"]}], consent_mode="policy")
    assert (node.summary, node.datasets, node.consent_mode) == (summary, [{"name": "d", "tags": ["t"]}], "policy")
    assert node.last_heartbeat is not None
    assert store.nodes.describe("a", address="x").summary == summary
    at = store.nodes.heartbeat("a")
    assert abs(at - now()) < 5
    assert store.nodes.get("a").last_heartbeat == at
    assert store.nodes.heartbeat("a", 12.5) == 12.5


def test_revocation(store: Store) -> None:
    store.nodes.register("a", A)
    assert store.nodes.revoke("a", actor="op", reason="lost laptop").status == "revoked"
    store.nodes.revoke("a", actor="op")
    assert store.nodes.authenticate(A.fingerprint) is None
    with pytest.raises(Conflict, match="reinstate"):
        store.nodes.renew("a", B)
    assert [n.id for n in store.nodes.list("revoked")] == ["a"]
    store.nodes.reinstate("a", actor="op")
    assert store.nodes.renew("a", B).serial == "02"
    assert store.nodes.authenticate(A.fingerprint) is None
    assert store.nodes.authenticate(B.fingerprint) is not None
    kinds = [e.kind for e in store.events.since(node="a")]
    assert kinds == ["node.enrolled", "node.revoked", "node.reinstated", "node.renewed"]


def test_what_is_refused(store: Store) -> None:
    store.nodes.register("a", A)
    assert store.nodes.register("a", A).id == "a"
    with pytest.raises(Conflict, match="another certificate"):
        store.nodes.register("a", B)
    with pytest.raises(Conflict, match="belongs to another node"):
        store.nodes.register("b", A)
    with pytest.raises(ConfigError, match="serial"):
        store.nodes.register("b", CertificateOnFile("", ""))
    for wrong in ("", "../a", "a" * 65, "a b", "\0", "-a"):
        with pytest.raises(ConfigError, match="cannot be the id"):
            store.nodes.register(wrong, B)
        with pytest.raises(NotFound):
            store.nodes.get(wrong)
        with pytest.raises(NotFound):
            store.nodes.heartbeat(wrong)
    assert store.nodes.authenticate("\0") is None


def test_many_heartbeats_are_one_commit(store: Store) -> None:
    for name, certificate in (("a", A), ("b", B)):
        store.nodes.register(name, certificate)
    store.nodes.heartbeats({"a": 100.0, "b": 200.0, "nobody": 300.0})
    assert [store.nodes.get(n).last_heartbeat for n in "ab"] == [100.0, 200.0]
    store.nodes.heartbeats({})
    assert [node.id for node in store.nodes.list()] == ["a", "b"]


def test_a_promised_certificate_counts_beside_the_old_one_until_it_is_shown(store: Store) -> None:
    store.nodes.register("a", A)
    lost, fresh = CertificateOnFile("51", "f51"), CertificateOnFile("52", "f52")
    store.nodes.promise("a", lost, actor="a")
    store.nodes.promise("a", fresh, actor="a")  # the node never got the first one
    assert store.nodes.authenticate("f51") is None
    assert store.nodes.authenticate(A.fingerprint) is not None  # nor perhaps the second
    with pytest.raises(Conflict, match="another node"):
        store.nodes.register("b", fresh)
    shown = store.nodes.authenticate("f52")
    assert shown is not None
    assert (shown.serial, shown.fingerprint, shown.next_serial, shown.next_fingerprint) == ("52", "f52", None, None)
    assert store.nodes.authenticate(A.fingerprint) is None
    assert store.nodes.authenticate("f52") == shown
    kinds = [e.kind for e in store.events.since(0)]
    assert kinds == ["node.enrolled", "node.certificate_issued", "node.certificate_issued", "node.renewed"]


def test_a_revoked_node_is_promised_nothing_and_shows_nothing(store: Store) -> None:
    store.nodes.register("a", A)
    store.nodes.promise("a", CertificateOnFile("51", "f51"), actor="a")
    store.nodes.revoke("a", actor="op")
    assert store.nodes.authenticate("f51") is None
    with pytest.raises(Conflict, match="revoked"):
        store.nodes.promise("a", CertificateOnFile("52", "f52"), actor="a")
    store.nodes.reinstate("a", actor="op")
    store.nodes.renew("a", CertificateOnFile("53", "f53"))  # by a token: nothing older counts
    assert store.nodes.authenticate("f51") is None
