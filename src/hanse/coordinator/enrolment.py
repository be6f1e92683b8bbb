"""How a node gets in: a one-time secret against a certificate for the key that the node made."""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict, deque

from hanse.coordinator.registry import enrolled
from hanse.errors import Conflict, NotFound, TooMany
from hanse.identity import Authority, check_node_id, read_certificate
from hanse.store import Store
from hanse.store.nodes import ENROLLED, CertificateOnFile, Node

_ADDRESSES = 10_000


class FailedAttempts:
    """So many failed attempts a minute per address; the secrets are long, this keeps the log readable."""

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Raises ``TooMany`` where too many have failed."""
        now, times = time.monotonic(), self._times.get(address, deque())
        while times and now - times[0] > 60:
            times.popleft()
        if len(times) >= self._limit:
            raise TooMany(f"more than {self._limit} failed attempts in a minute from here; wait a minute")

    def count(self, address: str) -> int:
        """Counts one more; how many that makes in this minute (no more than one over the limit)."""
        with contextlib.suppress(TooMany):
            self.check(address)
            self.failed(address)
            return len(self._times[address])
        return self._limit + 1

    def failed(self, address: str) -> None:
        """Counts one."""
        times = self._times.setdefault(address, deque())
        self._times.move_to_end(address)
        while len(self._times) > _ADDRESSES:
            self._times.popitem(last=False)
        times.append(time.monotonic())


def enrol(store: Store, authority: Authority, secret: str, node_id: str, csr: str, address: str) -> tuple[Node, str]:
    """The registered node and its certificate (PEM). Blocks.

    A token that names the node may also give it a new certificate (a lost key); a token for anybody
    may not, or whoever has one could become any node.

    Raises:
        NotAuthenticated: the secret is unknown, used, expired or for another node.
        Conflict: the id is taken, or revoked.
    """
    check_node_id(node_id)
    pem = authority.issue_node(csr.encode(), node_id)
    read = read_certificate(pem)
    certificate = CertificateOnFile(read.serial, read.fingerprint)
    try:
        return store.nodes.enrol(secret, node_id, lambda: certificate, address=address), pem.decode()
    except Conflict:
        known = store.nodes.get(node_id)
    with store.database.write() as tx:
        token = store.nodes.join_tokens.consume_in(tx, secret, node_id)
        if token.node != node_id and enrolled(known):
            raise Conflict(f"there is a node {node_id} already; choose another id, or ask for a token for this one")
        if known.status != ENROLLED:
            raise Conflict(f"node {node_id} is revoked; ask the operator to reinstate it")
    node = store.nodes.renew(node_id, certificate, actor=f"token {token.id}")
    if token.owner is not None:
        store.accounts.link(token.owner, node_id, actor=f"token {token.id}")
        node = store.nodes.get(node_id)
    return node, pem.decode()


def renew(store: Store, authority: Authority, node_id: str, csr: str) -> str:
    """The next certificate (PEM) of a node that is connected. The one that it has counts until the next is shown, so a
    node that never gets the answer is not shut out. Blocks.

    Raises:
        NotAuthenticated: the request is none.
        Conflict: the node is revoked.
    """
    pem = authority.issue_node(csr.encode(), node_id)
    read = read_certificate(pem)
    store.nodes.promise(node_id, CertificateOnFile(read.serial, read.fingerprint), actor=node_id)
    return pem.decode()


def owner_id(store: Store, owner: str | None) -> str | None:
    """An account's id from its id or name."""
    if owner is None:
        return None
    found = store.accounts.find(owner)
    if found is not None:
        return found.id
    try:
        return store.accounts.get(owner).id
    except NotFound:
        raise NotFound(f"there is no account {owner!r}") from None
