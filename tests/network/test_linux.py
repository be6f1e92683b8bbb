"""The kernel's own queues: what is preferred is in them, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from hanse.errors import ConfigError
from hanse.registry import find, settings
from hanse.settings import checked
from tests.network.namespaces import Machine, lacking, line, machines

WHY = lacking("tc", "ethtool")
needs_root = pytest.mark.skipif(bool(WHY), reason=WHY)


@pytest.fixture
def router() -> Iterator[Machine]:
    with machines("router", "far") as (here, far):
        line(here, "out", far, "10.1.0.2")
        yield here


def within(machine: Machine, body: str, **told: Any) -> Any:
    """What the lines of a coroutine return in that namespace; ``it`` is the driver, ``P`` makes a preference."""
    code = f"""
import asyncio, json
from hanse.network_driver import Pair, Preference
from hanse.registry import find, settings
from hanse.settings import checked
def P(client, server, port=0, priority=200):
    return Preference(Pair(client, server, port), priority, 60)
async def main():
    told = {{"interfaces": ["out"], **{told!r}}}
    it = find("network", "linux").driver(checked(told, settings("network", "linux")))
    back = []
    await it.start(lambda: back.append(1))
{textwrap.indent(textwrap.dedent(body), "    ")}
print(json.dumps(asyncio.run(main())))
"""
    done = subprocess.run(
        [*machine.prefix, sys.executable, "-c", code], capture_output=True, text=True, timeout=110, env={**os.environ}
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def bytes_at(place: int, address: str) -> dict[int, int]:
    return {place + i: int(part) for i, part in enumerate(address.split("."))}


def matched(machine: Machine) -> list[dict[int, int]]:
    """Of each filter, which byte of a packet has to be what."""
    found: list[dict[int, int]] = []
    for row in machine.run("tc", "filter", "show", "dev", "out").splitlines():
        if "flowid 6861:10" in row:
            found.append({})
        if said := re.search(r"match ([0-9a-f]{8})/([0-9a-f]{8}) at (\d+)", row):
            value, mask = bytes.fromhex(said[1]), bytes.fromhex(said[2])
            assert set(mask) <= {0, 255}
            found[-1].update({int(said[3]) + i: value[i] for i in range(4) if mask[i]})
    return found


def filters(machine: Machine) -> list[str]:
    return [row for row in machine.run("tc", "filter", "show", "dev", "out").splitlines() if "match" in row]


@needs_root
def test_queues_share_the_line_and_lend_it(router: Machine) -> None:
    within(router, "return back", rate_mbit_s=100, share=0.9)
    shown = router.run("tc", "class", "show", "dev", "out")
    first, rest = (next(row for row in shown.splitlines() if f"htb {n} " in row) for n in ("6861:10", "6861:20"))
    assert "rate 90Mbit ceil 100Mbit" in first
    assert "rate 10Mbit ceil 100Mbit" in rest


@needs_root
def test_exactly_what_is_wanted_is_in_the_queues(router: Machine) -> None:
    """Told twice it is there once, and what is wanted no longer is gone; of a port only TCP to it, and back from it."""
    flows = within(
        router,
        """
        await it.apply([P("10.1.0.1", "10.1.0.2", 7443), P("10.1.0.3", "10.1.0.2", 0, 300)])
        await it.apply([P("10.1.0.1", "10.1.0.2", 7443), P("10.1.0.3", "10.1.0.2", 0, 300)])
        both = (await it.seen())["flows"]
        await it.apply([P("10.1.0.1", "10.1.0.2", 7443)])
        return [both, (await it.seen())["flows"]]
        """,
    )
    assert len(flows[0]) == 4
    assert [(f["client"], f["port"], f["direction"]) for f in flows[1]] == [
        ("10.1.0.1", 7443, "to the server"),
        ("10.1.0.1", 7443, "from the server"),
    ]
    assert matched(router) == [
        {9: 6, **bytes_at(12, "10.1.0.1"), **bytes_at(16, "10.1.0.2"), 22: 7443 >> 8, 23: 7443 & 255},
        {9: 6, **bytes_at(12, "10.1.0.2"), **bytes_at(16, "10.1.0.1"), 20: 7443 >> 8, 21: 7443 & 255},
    ]


@needs_root
@pytest.mark.parametrize("fails", [False, True])
def test_one_pair_after_another_is_told_anew(router: Machine, fails: bool) -> None:
    """A number that one pair had looks for the other's packets, also where something went wrong in between."""
    within(
        router,
        f"""
        await it.apply([P("10.1.0.1", "10.1.0.2")])
        whole, count = it._filter, [0]
        def at_times(what, *given, **more):
            count[0] += 1
            if {fails} and count[0] == 2:
                raise OSError(1, "no")
            whole(what, *given, **more)
        it._filter = at_times
        try:
            await it.apply([P("10.1.0.3", "10.1.0.2"), P("10.1.0.4", "10.1.0.2")])
        except Exception as error:
            assert {fails} and "did not take" in error.message
        await it.apply([P("10.1.0.5", "10.1.0.2"), P("10.1.0.6", "10.1.0.2", 0, 300)])
        """,
    )
    there = [{12: m[12], 15: m[15], 19: m[19]} for m in matched(router)]
    assert sorted(m[15] if m[19] == 2 else m[19] for m in there) == [5, 5, 6, 6]


@needs_root
def test_a_queue_that_somebody_set_is_left_alone(router: Machine) -> None:
    """Refused with a sentence before anything changes; also where it came while the driver was there."""
    own = ("tc", "qdisc", "add", "dev", "out", "root", "handle", "1:", "htb", "default", "10")
    router.run(*own)
    router.run("tc", "class", "add", "dev", "out", "parent", "1:", "classid", "1:10", "htb", "rate", "7mbit")
    before = router.run("tc", "class", "show", "dev", "out")
    with pytest.raises(AssertionError, match=r"somebody has set a queue at out already \(htb 1:\)"):
        within(router, "return 1")
    assert router.run("tc", "class", "show", "dev", "out") == before
    router.run("tc", "qdisc", "delete", "dev", "out", "root")
    change = f"""
        import subprocess
        subprocess.run(["tc", "qdisc", "delete", "dev", "out", "root"], check=True)
        subprocess.run({list(own)!r}, check=True)
        await it.stop()
    """
    within(router, change)
    assert "htb 1: root" in router.run("tc", "qdisc", "show", "dev", "out")


@needs_root
def test_what_could_not_be_set_up_whole_is_taken_away(router: Machine) -> None:
    code = """
import asyncio
from hanse.network import linux
from hanse.registry import find, settings
from hanse.settings import checked
linux._bits = lambda rate: "nothing" if rate < 5e7 else f"{int(rate)}bit"
it = find("network", "linux").driver(checked({"interfaces": ["out"]}, settings("network", "linux")))
try:
    asyncio.run(it.start(lambda: None))
except Exception as error:
    print(type(error).__name__)
"""
    assert router.run(sys.executable, "-c", code).strip()
    assert "htb" not in router.run("tc", "qdisc", "show", "dev", "out")


@needs_root
def test_packets_of_the_pair_alone_pass_the_first_queue(router: Machine) -> None:
    router.run("ip", "address", "add", "10.1.0.1/24", "dev", "out")
    router.run("ip", "address", "add", "10.1.0.9/24", "dev", "out")
    send = """
        import socket, subprocess
        await it.apply([P("10.1.0.1", "10.1.0.2", 7443)])
        for own, port, kind in (("10.1.0.1", 7443, socket.SOCK_STREAM), {more}):
            s = socket.socket(socket.AF_INET, kind)
            s.bind((own, 0)); s.settimeout(0.2)
            try:
                s.connect(("10.1.0.2", port)); s.send(b"x")
            except OSError:
                pass
        return {{p["queue"]: p["packets"] for p in (await it.seen())["ports"]}}
    """
    alone = within(router, send.format(more=""))
    others = '("10.1.0.9", 7443, socket.SOCK_STREAM), ("10.1.0.1", 7444, socket.SOCK_STREAM), '
    among = within(router, send.format(more=others + '("10.1.0.1", 7443, socket.SOCK_DGRAM)'))
    assert alone["preferred"] > 0
    assert among["preferred"] == alone["preferred"]
    assert among["rest"] > alone["rest"]


@needs_root
def test_a_stopped_driver_gives_the_line_back_and_a_killed_ones_queues_are_taken_over(router: Machine) -> None:
    within(router, 'await it.apply([P("10.1.0.1", "10.1.0.2")])\nimport os\nprint("null", flush=True)\nos._exit(0)')
    assert len(filters(router)) == 4
    within(router, "assert (await it.seen())['flows'] == []\nawait it.stop()")
    assert filters(router) == []
    assert "htb" not in router.run("tc", "qdisc", "show", "dev", "out")


def test_what_it_cannot_do_is_said_before_it_starts() -> None:
    linux, known = find("network", "linux"), settings("network", "linux")
    with pytest.raises(ConfigError, match="--set interfaces=eth0"):
        linux.driver(checked({}, known))
    with pytest.raises(ConfigError, match="there is no interface 'eth77'"):
        asyncio.run(linux.driver(checked({"interfaces": ["eth77"]}, known)).start(lambda: None))
