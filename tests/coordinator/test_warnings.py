"""What an operator has to do something about is said before it is too late."""

from __future__ import annotations

import asyncio
import datetime
from collections import Counter
from pathlib import Path

from hanse import validity
from hanse.identity import Authority, csr, read_certificate
from tests.transports.grpc_federation import new_key

from .federation import Federation


def test_a_certificate_that_ends_soon_and_a_clock_that_is_wrong(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b", "c")
            for name in "abc":
                await f.node(name)
            now = validity.now()
            await f.nodes["a"].hello(certificate_ends=(now + datetime.timedelta(days=20, hours=1)).isoformat())
            await f.nodes["b"].hello(certificate_ends=(now + datetime.timedelta(days=90)).isoformat())
            welcome = await f.nodes["c"].hello(
                time=(now - datetime.timedelta(hours=3)).isoformat(),
                certificate_ends=(now + datetime.timedelta(days=6, hours=1)).isoformat(),
            )
            assert abs(validity.time(welcome.body.data["time"]) - now) < datetime.timedelta(minutes=1)  # type: ignore[operator]
            shown = {n["id"]: n["warnings"] for n in (await f.ok("op", "GET", "/api/nodes"))["nodes"]}
            assert len(shown["a"]) == 1
            assert shown["a"][0].startswith("the certificate of a ends on")
            assert "in 20 days" in shown["a"][0]
            assert "hanse node init --join" in shown["a"][0]
            assert shown["b"] == []
            assert shown["c"][0].startswith("urgent: the certificate of c ends on")
            assert "3.0 h apart" in shown["c"][1]
            assert shown["c"][1].count(f"{now:%Y-%m-%d}") + shown["c"][1].count(":") >= 5  # both clocks
            await f.nodes["c"].hello(certificate_ends="tomorrow", time="\x00" * 99)
            assert (await f.ok("op", "GET", "/api/nodes/c"))["warnings"] == []

    asyncio.run(body())


def test_certificates_of_one_day_do_not_end_in_one_week(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    ends = []
    for number in range(40):
        name = f"hospital-{number}"
        ends.append(read_certificate(authority.issue_node(csr(new_key(), name), name)).expires)
    left = [(end - validity.now()).days for end in ends]
    assert min(left) >= 364
    assert max(left) <= 425
    weeks = Counter(days // 7 for days in left)
    assert len(weeks) >= 7
    assert max(weeks.values()) <= 12
