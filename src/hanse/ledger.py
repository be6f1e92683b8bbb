"""What answering uses up, and how much of it there is (:mod:`hanse.ledgers`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hanse.facts import Facts
from hanse.messages import Json
from hanse.rule import Decision


@dataclass(frozen=True, slots=True)
class Account:
    """What answers are booked on: the name, and the run with which the account ends (none: it never does)."""

    name: str
    run: str = ""


class Ledger(Protocol):
    """What answering uses up, and how much of it there is. The node keeps the book (:mod:`hanse.node.spending`):
    an answer is reserved before anything is computed, and on disk as spent before it leaves.

    The law: ``add`` is associative and commutative, so that the order in which answers were booked does not
    matter. Amounts are plain JSON. A ledger that raises counts as a no.
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

    def describe(self, spent: Json) -> str:
        """What was spent and how much there is, for the owner."""
        ...
