"""What nodes do in the tests of transports, by name, so that a site in another process can do the same."""

from __future__ import annotations

import os
from collections.abc import Mapping

from hanse.errors import HanseError, NotApproved
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site
from hanse.messages import Json, Record

NEEDS_DATA = False
_SEEN: dict[Json, list[Json]] = {}


def echo(body: Record) -> Record:
    return body


def tells_what_came(body: Record) -> Record:
    """All that was asked in the test ``of``, so far."""
    seen = _SEEN.setdefault(body.data["of"], [])
    seen.append(body.data["i"])
    return Record({"seen": list(seen)})


def refuses(body: Record) -> Record:
    raise NotApproved("the owner has not approved this; ask again")


def fails(body: Record) -> Record:
    raise HanseError("plain")


def waits(body: Record) -> Record:
    """Where a pipe is named (``until``), until somebody has written into it; else an echo at once."""
    if "until" not in body.data:
        return body
    with open(str(body.data["until"])) as pipe:
        return Record({"heard": pipe.read()})


def ends(body: Record) -> Record:
    """Ends its process."""
    os._exit(1)


class Answering:
    """Asked for what ``do`` names, of ``body``; it asks nothing by itself."""

    combines = frozenset({Combine.EACH})

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> Record:
        return Record({})

    def ask(self, state: Record) -> Ask | Done:
        return Done("nothing is asked")

    def answer(self, site: Site, ask: Record) -> Contribution:
        reply = globals()[str(ask.data["do"])](Record(ask.data["body"], ask.arrays))  # type: ignore[arg-type]
        return Contribution(Record({"body": reply.data}, reply.arrays))

    def tell(self, state: Record, gathered: Gathered) -> Record:
        return state

    def result(self, state: Record) -> Record:
        return state

    def metrics(self, state: Record) -> Mapping[str, Json]:
        return {}


ALGORITHM = Answering()
