"""Every exception that Hanse raises, as one tree.

::

    HanseError
    ├── ConfigError          a setting or a proposal is wrong (also a ValueError)
    ├── DataError            a file, table or column is wrong (also a ValueError)
    ├── NotPooled            a number of some of the rows is taken for one of all (also a TypeError)
    ├── WireError            bytes that came in are not what they should be (also a ValueError)
    │   ├── TooLarge         more bytes than the receiver allows
    │   └── Tampered         a checksum or a hash does not fit
    ├── Refused              the gate said no; nothing was computed
    │   ├── NotAuthenticated the sender is not who it says it is
    │   ├── NotAllowed       the sender is known but may not do this
    │   ├── NotApproved      the owner has not approved this hash
    │   └── TooMany          too many attempts; wait and try again
    ├── Unreachable          nobody answers at a coordinator's address, or its certificate is not trusted
    ├── NotFound             no such node, run, dataset, model, ...
    ├── Conflict             it exists already, or is in a state that forbids this
    │   └── IllegalTransition  a run cannot go from this state to that one
    ├── NodeFailed           a node was asked and did not give a usable answer
    │   ├── NodeLost         the connection is gone or silent
    │   ├── WorkerDied       the node's worker ended, hung or hit a limit
    │   └── Unusable         some contributions cannot be combined; names the nodes
    ├── NotNow               it cannot be done now; the same may be asked again later, and succeed
    │   ├── OtherRelease     made for another release of Hanse than the one that is here
    │   └── StorageFailed    a disk is full, or a database cannot be reached
    └── RunFailed            a run ended without a result

An error says what was found, what was expected and what to do next. What crosses the wire is
``code`` and ``message`` only: never a traceback, never a path.
"""

from __future__ import annotations


class HanseError(Exception):
    """Base of all errors of Hanse.

    Args:
        message: one or two sentences: what was found, what was expected, what to do next.

    ``code`` is a short, stable name for programs; ``status`` is the HTTP status it maps to. ``final`` says
    that asking the same again is no use: the answer would be the same no.
    """

    code = "error"
    status = 500
    final = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigError(HanseError, ValueError):
    """A setting, an option or a proposal is wrong; says which names or values there are."""

    code, status = "config", 422


class DataError(HanseError, ValueError):
    """A file, a table or a column is not what was declared or is needed."""

    code, status = "data", 422


class NotPooled(HanseError, TypeError):
    """A number of some of the rows is compared or computed with as if it were one of all; says which rows it is of."""

    code, status = "not_pooled", 422


class WireError(HanseError, ValueError):
    """Bytes that came in are not what the format says: refused before anything is made of them."""

    code, status = "wire", 400


class TooLarge(WireError):
    """More bytes than the receiver allows; smaller messages, or its limit, are the way out."""

    code, status = "too_large", 413


class Tampered(WireError):
    """A checksum or a hash does not fit what it was made of: damaged, or changed on purpose."""

    code = "tampered"


class Refused(HanseError):
    """The gate said no, before anything was computed. Asking the same again is no use."""

    code, status, final = "refused", 403, True


class NotAuthenticated(Refused):
    """The sender is not who it says it is: no certificate or token, or one that is not known."""

    code, status = "not_authenticated", 401


class NotAllowed(Refused):
    """The sender is known and may not do this: a role, or a rule of the owner, says no."""

    code = "not_allowed"


class NotApproved(Refused):
    """The owner has not approved this very hash, or has taken the approval back."""

    code = "not_approved"


class TooMany(Refused):
    """Too many attempts in a while; the same may be tried again later."""

    code, status, final = "too_many", 429, False


class Unreachable(HanseError):
    """Nobody answers at a coordinator's address, or its certificate is not trusted."""

    code, status = "unreachable", 502


class NotFound(HanseError):
    """There is no node, run, dataset or model of this name here."""

    code, status = "not_found", 404


class Conflict(HanseError):
    """It exists already, or is in a state that forbids this."""

    code, status = "conflict", 409


class IllegalTransition(Conflict):
    """A run cannot go from the state that it is in to that one (:mod:`hanse.store.states`)."""

    code = "illegal_transition"


class NodeFailed(HanseError):
    """A node was asked and gave no usable answer; the step goes on without it where enough others are left."""

    code, status = "node_failed", 502


class NodeLost(NodeFailed):
    """The connection to a node is gone, or it has been silent for too long."""

    code = "node_lost"


class WorkerDied(NodeFailed):
    """The node's worker process ended, hung, or hit a limit of time or memory."""

    code = "worker_died"


class Unusable(NodeFailed):
    """Contributions that cannot be combined with the others. The loop leaves these nodes out of the
    step, with the reason, and tells the algorithm the rest.

    Args:
        nodes: node id to the reason.
    """

    code = "unusable"

    def __init__(self, nodes: dict[str, str] | str) -> None:
        self.nodes = nodes if isinstance(nodes, dict) else {}
        super().__init__("; ".join(f"{n}: {r}" for n, r in sorted(self.nodes.items())) or str(nodes))


class NotNow(HanseError):
    """It cannot be done now, for a reason that passes without whoever asks changing anything: a run that meets it is
    paused with the reason, and tried again."""

    code, status = "not_now", 503


class OtherRelease(NotNow):
    """Made for another release of Hanse than the one here; it is answered when both are of one line again."""

    code, status = "other_release", 409


class StorageFailed(NotNow):
    """A disk is full or a database cannot be reached."""

    code, status = "storage_failed", 503


class RunFailed(HanseError):
    """A run ended without a result; says why."""

    code, status = "run_failed", 500


def _tree(root: type[HanseError]) -> dict[str, type[HanseError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        for code, kind in _tree(child).items():
            found.setdefault(code, kind)  # a code means the class that introduced it, not one that inherits it
    return found


def from_code(code: str, message: str) -> HanseError:
    """The exception for a code that came over the wire; an unknown code gives a ``HanseError``."""
    return _tree(HanseError).get(code, HanseError)(message)


def is_passing(code: str) -> bool:
    """Whether who says so may answer later, though nobody does anything about what was asked.

    >>> is_passing("other_release"), is_passing("worker_died")
    (True, False)
    """
    return issubclass(_tree(HanseError).get(code, HanseError), NotNow)


def is_final(code: str) -> bool:
    """Whether who says so would say it again, however often it is asked.

    >>> is_final("not_approved"), is_final("too_many"), is_final("worker_died")
    (True, False, False)
    """
    return _tree(HanseError).get(code, HanseError).final
