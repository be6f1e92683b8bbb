"""What answering uses up, and how much of it there is (:mod:`hanse.ledgers`)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from hanse.facts import Facts
from hanse.messages import Json
from hanse.rule import Decision


class Account(NamedTuple):
    """What answers are booked on: the name, and the run with which the account ends (none: it never does)."""

    name: str
    run: str = ""


class Ledger(Protocol):
    """What answering uses up, and how much of it there is. The node keeps the book (:mod:`hanse.node.spending`):
    an answer is reserved before anything is computed, and on disk as spent before it leaves.

    The law: ``add`` is associative and commutative, so that the order in which answers were booked does not
    matter. Amounts are plain JSON. A ledger that raises counts as a no.

    Most ledgers know before the work what an answer uses up, and refuse then. One with ``late = True`` knows when the
    answer is there; one with ``by_release = True`` counts what was released (:mod:`hanse.privacy.release`), the same
    release once in whatever words it was asked for. Both refuse between the work and the reply. One that has
    ``whole(facts)``, the most that a whole run uses up, is asked at the proposal too.
    """

    name: str

    def account(self, facts: Facts) -> Account | None:
        """What an answer to this task is booked on; None where it uses nothing up."""
        ...

    def most(self, facts: Facts) -> Json:
        """The most that answering may use up."""
        ...

    def add(self, spent: Json, more: Json) -> Json:
        """Both together."""
        ...

    def refuses(self, spent: Json, facts: Facts) -> Decision:
        """Whether an account may hold so much, with the answer to this task among it."""
        ...

    def describe(self, spent: Json, dataset: str = "") -> str:
        """What was spent and how much there is of this account (of a data set, its name), for the owner."""
        ...
