"""What a node keeps for the secure sums of a run (a pair of keys, the sum that is under way), and whose keys it
believes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hanse.errors import NodeFailed, NotAllowed, NotAuthenticated
from hanse.gather import Identity, Party
from hanse.gathering._bound import Bound, fresh_seed
from hanse.messages import Array, Json, dumps
from hanse.privacy import neighbours
from hanse.privacy.agreement import PUBLIC_BYTES, KeyPair, extract

LOST = "it does not have the keys of this sum any more"  # the coordinator has keys told anew then
PURPOSE = b"hanse secure sum v1"


@dataclass(slots=True)
class MaskedSum:
    """One sum.

    Args:
        seeds: the secrets of its masks: this node's own under its name, those of pairs under the other's. Where none is
            ever told, they are keys at once (:func:`hanse.privacy.keystream.expanded`).
        whole: whether it is of all who were asked or none, so that no secret of it is ever told; ``passing``: whether
            the run leaves the step behind where it cannot be made.
        group: those that are in sums together with this node, or not at all.
        bound: what the sum is of, as far as it is known; ``told``: whether one of this step was told before.
        sealed: what was sealed for the neighbours; ``kept``: this node's share of its own seed, where it has one.
        signed: the list of survivors that this node has signed, or told of without.
    """

    number: int
    id: bytes
    among: tuple[str, ...]
    ring: tuple[str, ...]
    beside: tuple[str, ...]
    least: int
    seeds: Mapping[str, bytes]
    bound: Bound
    whole: bool = False
    passing: bool = False
    told: bool = False
    group: tuple[str, ...] = ()
    sealed: Mapping[str, Array] | None = None
    kept: bytes = b""
    signed: tuple[str, ...] = ()

    @property
    def close(self) -> bool:
        """Whether everybody masks with everybody."""
        return len(self.among) <= neighbours.COMPLETE


@dataclass(slots=True)
class Keys:
    """What a node keeps for the secure sums of one run. It is shared by all that is remembered of the run, so that
    a step that is asked again cannot bring back a session that was used.

    Args:
        pair: of this node, for this run.
        public, certificates: of the nodes that were believed, by name.
        listed: names the list of all keys.
        last: the latest session that was answered.
        seed: of the hashes of one's own numbers.
        session: the one that is under way.
    """

    pair: KeyPair
    public: dict[str, bytes] = field(default_factory=dict)
    certificates: dict[str, str] = field(default_factory=dict)
    listed: str = ""
    last: int = -1
    seed: int = field(default_factory=fresh_seed)
    session: MaskedSum | None = None
    _secrets: dict[str, bytes] = field(default_factory=dict)

    def secret(self, node: str) -> bytes:
        """What only ``node`` and this one know, to be expanded (:func:`hanse.privacy.agreement.expand`)."""
        if node not in self._secrets:
            self._secrets[node] = extract(self.pair.secret(self.public[node]))
        return self._secrets[node]


def text(purpose: str, *parts: Json) -> bytes:
    """What is signed: no two purposes or parts give the same bytes."""
    return PURPOSE + dumps([purpose, *parts]).encode()


def key_text(party: Party, node: str, key: str) -> bytes:
    """What ``node`` signs of its key for this run."""
    return text("key", party.run, party.bundle, node, key)


def believe(mine: Keys, told: Sequence[Sequence[str]], party: Party, identity: Identity | None) -> None:
    """Takes the keys of all nodes, if each is signed by the node whose it is said to be. Those that were believed
    before stay as they were."""
    public: dict[str, bytes] = {}
    certificates: dict[str, str] = {}
    for node, key, certificate, signature in told:
        raw = bytes.fromhex(key)
        if len(raw) != PUBLIC_BYTES or node in public or raw in public.values():
            raise NotAuthenticated("the list of keys names a node twice, a key twice, or what is no key")
        if party.rows and node not in party.rows:
            raise NotAllowed(f"the list of keys has {node!r}, which the approved bundle does not name")
        if node in mine.public and mine.public[node] != raw:
            raise NotAuthenticated(f"the key of {node!r} is another one than before")
        if identity is not None and node != party.node and mine.certificates.get(node) != certificate:
            if why := identity.vouched(node, certificate):
                raise NotAuthenticated(why)
            if not identity.verify(certificate, key_text(party, node, key), bytes.fromhex(signature)):
                raise NotAuthenticated(f"the key that was shown for {node!r} is not signed by it for this run")
        public[node], certificates[node] = raw, certificate
    if public.get(party.node) != mine.pair.public:
        raise NodeFailed(LOST)
    mine.public, mine.certificates = public, certificates
    mine.listed = hashlib.sha256(dumps([[node, key] for node, key, *_ in told]).encode()).hexdigest()
