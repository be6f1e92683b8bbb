"""A Linux machine without a switch of its own kind: queues of the kernel at its interfaces (HTB), set through netlink.

Of each interface's rate R, what is preferred is promised the share s and may take all of it, the rest is promised
(1 - s) R and takes what is left over. HTB lends between the two, so nothing is lost where nothing is preferred. The
interface has to be where the line is narrow, or its rate below that of the line: a queue elsewhere orders nothing.
Only what goes out of an interface is ordered; on a bridge or router between hosts and line that is either way.

Only an interface that has the queue which the kernel gave it is taken, and gets that back at the end; one for which
somebody else set a queue is refused. What a killed controller left is known by its handle and removed when the next one
starts; until then it stays preferred, as a kernel counts no time for its filters.

HTB: tc-htb(8), Devera 2002, "Hierarchical token bucket theory".
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from hanse.errors import ConfigError, NotNow
from hanse.messages import Json
from hanse.network_driver import Driver, Pair, Preference
from hanse.settings import Setting, number, texts

SETTINGS = {
    "interfaces": Setting((), "names of the interfaces that lead to the line", texts()),
    "rate_mbit_s": Setting(100.0, "what the line carries, in megabits per second", number(0, 1e6, above=True)),
    "share": Setting(0.9, "of it, promised to what is preferred", number(0.01, 0.99)),
}
_ROOT, _LINE, _FIRST, _REST = 0x68610000, 0x68610001, 0x68610010, 0x68610020  # a number that nobody else would take
_KERNELS, _AT_ROOT = 0, 0xFFFFFFFF  # the handle of a queue that nobody set; the parent of an interface's own
_T = TypeVar("_T")
_IPV4, _TCP = 0x0800, 6
_NODES = 4095  # numbers that filters of one place in the order can have
_WAYS = ("to the server", "from the server")


class _Linux:
    def __init__(self, interfaces: Sequence[str], rate: float, share: float) -> None:
        self._names, self._rate, self._share = tuple(interfaces), rate, share
        self._route: Any = None
        self._thread = ThreadPoolExecutor(1)  # pyroute2 has a loop and sockets for each thread that calls it
        self._index: dict[str, int] = {}
        self._nodes: dict[Pair, int] = {}  # the first of the two numbers of its filters

    async def start(self, back: Callable[[], None]) -> None:
        try:
            await self._there(self._begin)
        except BaseException:
            await self.stop()
            raise
        back()

    def missing(self) -> str:
        return "" if self._index else "the queues of the interfaces are not set up"

    async def apply(self, wanted: Sequence[Preference]) -> Mapping[Pair, str]:
        with self._faults():
            await self._there(self._apply, wanted)
        return {}

    async def seen(self) -> Mapping[str, Json]:
        with self._faults():
            return await self._there(self._seen)

    async def stop(self) -> None:
        await self._there(self._end)
        self._thread.shutdown(wait=False)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            yield
        except (NetlinkError, OSError) as error:
            raise NotNow(f"the kernel did not take the queues ({error.args[-1]})") from None

    async def _there(self, work: Callable[..., _T], *given: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *given)

    # ------------------------------------------------------------ netlink, which blocks

    def _begin(self) -> None:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError

        self._route = IPRoute()
        for name in self._names:
            found = self._route.link_lookup(ifname=name)
            if not found:
                raise ConfigError(f"there is no interface {name!r} here; known are {', '.join(self._known())}")
            if other := self._other(found[0]):
                raise ConfigError(
                    f"somebody has set a queue at {name} already ({other}), which is left as it is; name another "
                    f"interface, or take it away first: tc qdisc delete dev {name} root"
                )
            try:
                self._index[name] = found[0]  # from here on what is there is ours, also where it is not whole
                self._queue(found[0])
            except NetlinkError as error:
                raise ConfigError(
                    f"cannot set queues at {name} ({error.args[-1]}); it needs root or CAP_NET_ADMIN, and HTB in the "
                    "kernel"
                ) from None

    def _known(self) -> list[str]:
        return sorted(link.get_attr("IFLA_IFNAME") for link in self._route.get_links())

    def _set_at(self, index: int) -> tuple[str, int]:
        """Kind and handle of the interface's queue."""
        for one in self._route.get_qdiscs(index=index):
            if one["parent"] == _AT_ROOT:
                return str(one.get_attr("TCA_KIND")), int(one["handle"])
        return "", _KERNELS

    def _other(self, index: int) -> str:
        """The queue that somebody else has set there, in words of tc; "" where nobody has."""
        kind, handle = self._set_at(index)
        return "" if handle == _KERNELS or (kind, handle) == ("htb", _ROOT) else f"{kind} {handle >> 16:x}:"

    def _queue(self, index: int) -> None:
        self._remove(index)
        bits = self._rate * 1e6
        first = self._share * bits
        # bytes that may go at once; at least two packets as large as a virtual interface makes them
        burst = int(max(131_072, bits / 8 / 100))
        self._route.tc("add", "htb", index, _ROOT, default=_REST & 0xFFFF)
        shared: dict[str, Any] = {"burst": burst, "cburst": burst, "quantum": 60_000}
        self._route.tc("add-class", "htb", index, _LINE, parent=_ROOT, rate=_bits(bits), ceil=_bits(bits), **shared)
        for handle, rate, prio in ((_FIRST, first, 0), (_REST, bits - first, 1)):
            self._route.tc(
                "add-class", "htb", index, handle, parent=_LINE, rate=_bits(rate), ceil=_bits(bits), prio=prio, **shared
            )

    def _remove(self, index: int) -> None:
        """What is there of ours; an interface that is gone, or has another's queue by now, has nothing."""
        from pyroute2.netlink.exceptions import NetlinkError

        with contextlib.suppress(NetlinkError):
            if self._set_at(index) == ("htb", _ROOT):
                self._route.tc("del", index=index, parent=_AT_ROOT)

    def _apply(self, wanted: Sequence[Preference]) -> None:
        asked = {one.pair: 1001 - one.priority for one in wanted}  # what has a lower number is looked at first
        self._keep_only(self._keys_of({pair: prio for pair, prio in asked.items() if pair in self._nodes}))
        # only now can a number be another's: no filter of those that are gone has it any more
        self._nodes = {pair: node for pair, node in self._nodes.items() if pair in asked}
        free = iter(sorted({*range(1, _NODES, 2)} - {*self._nodes.values()}))
        for pair in asked:
            if pair not in self._nodes:
                self._nodes[pair] = next(free)  # and the number after it, for the way back
        keys = self._keys_of(asked)
        for index in self._index.values():
            for prio, node in keys.keys() - self._filters(index).keys():
                self._filter("add-filter", index, prio, node, target=_FIRST, keys=keys[prio, node])
            if self._filters(index).keys() != keys.keys():
                raise NotNow("the kernel took the filters and shows others; does something else set this interface?")

    def _keys_of(self, asked: Mapping[Pair, int]) -> dict[tuple[int, int], list[str]]:
        """Place in the order and number of each filter, to what it looks for."""
        return {
            (prio, self._nodes[pair] + way): _keys(pair, back=bool(way))
            for pair, prio in asked.items()
            for way in (0, 1)
        }

    def _keep_only(self, kept: Collection[tuple[int, int]]) -> None:
        for index in self._index.values():
            for (prio, node), handle in self._filters(index).items():
                if (prio, node) not in kept:
                    self._filter("del-filter", index, prio, handle, target=_FIRST)

    def _filter(self, what: str, index: int, prio: int, handle: int, **more: Any) -> None:
        self._route.tc(what, "u32", index, handle, parent=_ROOT, prio=prio, protocol=_IPV4, **more)

    def _filters(self, index: int) -> dict[tuple[int, int], int]:
        """Place in the order and number of each, to its handle."""
        found = {}
        for one in self._route.get_filters(index=index, parent=_ROOT):
            if node := one["handle"] & 0xFFF:  # else it is the table that they stand in
                found[one["info"] >> 16, node] = one["handle"]
        return found

    def _seen(self) -> dict[str, Json]:
        flows: list[Json] = []
        queues: list[Json] = []
        for name, index in self._index.items():
            there = {node: prio for prio, node in self._filters(index)}
            for pair, node in self._nodes.items():
                for way in (0, 1):
                    if node + way in there:
                        flows.append({"interface": name, **_named(pair), "direction": _WAYS[way]})
            for found in self._route.get_classes(index=index):
                what = {_FIRST: "preferred", _REST: "rest"}.get(found["handle"])
                if what:
                    said = found.get_attr("TCA_STATS")
                    counted = {"bytes": said["bytes"], "packets": said["packets"], "dropped": said["drop"]}
                    queues.append({"interface": name, "queue": what, **counted})
        return {"switches": [], "hosts": [], "ports": queues, "flows": flows}

    def _end(self) -> None:
        for index in self._index.values():
            self._remove(index)
        self._index = {}
        if self._route is not None:
            self._route.close()


def driver(settings: Mapping[str, Json]) -> Driver:
    if not settings["interfaces"]:
        raise ConfigError("the driver linux has to know the interface of the line: --set interfaces=eth0")
    try:
        import pyroute2  # noqa: F401
    except ImportError:
        raise ConfigError("the driver linux needs pyroute2; run: pip install 'hanse[network]'") from None
    return _Linux(settings["interfaces"], float(settings["rate_mbit_s"]), float(settings["share"]))


def _bits(rate: float) -> str:
    return f"{int(rate)}bit"


def _keys(pair: Pair, back: bool) -> list[str]:
    """What a packet of the pair has: value, mask and offset in it."""
    source, target = (pair.server, pair.client) if back else (pair.client, pair.server)
    keys = [f"{_word(source)}/0xffffffff+12", f"{_word(target)}/0xffffffff+16"]
    if pair.port:
        keys += [f"0x{_TCP:02x}000000/0xff000000+9", f"0x{pair.port:04x}0000/0xffff0000+{20 if back else 22}"]
    return keys


def _word(address: str) -> str:
    return f"0x{int(ipaddress.IPv4Address(address)):08x}"


def _named(pair: Pair) -> dict[str, Json]:
    return {"client": pair.client, "server": pair.server, "port": pair.port}
