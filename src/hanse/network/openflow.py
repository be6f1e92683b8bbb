"""A switch that speaks OpenFlow 1.3, such as Open vSwitch: it calls, and is told which flows to have.

What is preferred is marked DSCP 46 and put into queue 1 of the port it leaves by; the rest of what goes to and from its
server loses that mark, and passes a meter of the rest of the line's rate. The queues of ``ports`` are made in the
switch's database, where that is named. A switch that was restarted, or had lost its
controller, is told all of it again; one whose controller is gone removes preferences by itself when their time is over.

The switch is set up once: ``ovs-vsctl set-controller BRIDGE tcp:127.0.0.1:6633 -- set bridge BRIDGE
protocols=OpenFlow13``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hanse.addresses import is_loopback
from hanse.errors import ConfigError, HanseError, NotNow
from hanse.messages import Json
from hanse.network_driver import Driver, Pair, Preference
from hanse.settings import Setting, number, text, texts

if TYPE_CHECKING:
    from hanse.network._openflow_flows import Flow
    from hanse.network._openflow_switch import Switch
    from hanse.network._ovsdb import SwitchDatabase

SETTINGS = {
    "listen": Setting("127.0.0.1:6633", "where the switch calls", text(200)),
    "rate_mbit_s": Setting(
        0.0,
        "what a server's line carries, in megabits per second; 0: not known, and nothing is metered",
        number(0, 1e6),
    ),
    "share": Setting(0.9, "of it, kept for what is preferred", number(0.01, 0.99)),
    "database": Setting(
        "", "of Open vSwitch, where queues are made: unix:PATH; empty: none are", text(4096, empty=True)
    ),
    "ports": Setting((), "names of the switch's ports that lead to a line, whose queues are made there", texts()),
    "certificate": Setting("", "certificate for TLS with the switch (PEM)", text(4096, empty=True)),
    "key": Setting("", "its key (PEM)", text(4096, empty=True)),
    "authority": Setting("", "of the certificates that switches show (PEM)", text(4096, empty=True)),
}
_FOUND_S = 2.0  # for a host to say that it has an address
_MOST_HOSTS = 4096  # that are remembered; whoever floods the network with addresses fills no memory
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Queues:
    database: SwitchDatabase
    ports: Sequence[str]
    bits: float
    share: float


class _OpenFlow:
    def __init__(
        self, host: str, port: int, kbit_s: int, secured: ssl.SSLContext | None, queues: _Queues | None
    ) -> None:
        self._queues = queues
        self._host, self._port, self._kbit_s, self._secured = host, port, kbit_s, secured
        self._back: Callable[[], None] = lambda: None
        self._server: asyncio.Server | None = None
        self._switch: Switch | None = None
        self._told: dict[Any, Flow] = {}  # what the switch has of us, or may have
        self._sure = False  # it has just that
        self._hosts: dict[str, tuple[int, str]] = {}  # address to port and MAC, as first heard
        self._claims: set[tuple[str, int]] = set()  # that another port has made, and were told of
        self._news = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self, back: Callable[[], None]) -> None:
        self._back = back
        try:
            self._server = await asyncio.start_server(self._called, self._host, self._port, ssl=self._secured)
        except OSError as error:
            raise ConfigError(f"cannot listen on {self._host}:{self._port} for a switch ({error.strerror})") from None
        if self._queues is not None:
            try:
                await self._queues.database.make(self._queues.ports, self._queues.bits, self._queues.share)
            except HanseError as error:
                self._server.close()
                raise ConfigError(error.message) from None

    def missing(self) -> str:
        return "" if self._switch is not None else f"no switch is connected to {self._host}:{self._port}"

    async def stop(self) -> None:
        switch = self._switch
        if switch is not None:
            with contextlib.suppress(HanseError):
                await self.apply(())  # nothing of ours but how a switch is without us
        if self._queues is not None:
            with contextlib.suppress(HanseError):
                await self._queues.database.remove()
        if self._server is not None:
            self._server.close()
        if switch is not None:
            switch.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    # ------------------------------------------------------------ a switch comes and goes

    async def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from hanse.network import _openflow_flows as of
        from hanse.network._openflow_switch import Switch

        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        switch = Switch(reader, writer, self._heard)
        try:
            await switch.greet()
        except (OSError, EOFError, TimeoutError, HanseError) as error:
            _log.warning("what called on port %d is no switch that can be used: %s", self._port, error)
            switch.close()
            return
        if not self._gives_way_to(switch):
            return
        running = asyncio.create_task(switch.run())
        try:
            begun = of.flows((), {}, metered=False)
            made = [of.meter(switch.protocol, self._kbit_s)] if self._kbit_s else []
            additions = [of.addition(switch.protocol, flow) for flow in begun]
            await switch.tell([*of.clearing(switch.protocol), *made, *additions])
        except HanseError as error:
            _log.warning("switch %016x cannot be used: %s", switch.id, error.message)
            switch.close()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return
        if not self._gives_way_to(switch):  # to one that called meanwhile, and was quicker
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return
        self._switch, self._told, self._sure, self._hosts = switch, {flow.key: flow for flow in begun}, True, {}
        self._claims.clear()
        self._back()
        try:
            await running
        finally:
            running.cancel()
            if self._switch is switch:
                self._switch = None

    def _gives_way_to(self, switch: Switch) -> bool:
        """Whether the switch may be the one. An older connection of the same switch ends."""
        if self._switch is not None and self._switch.id != switch.id:
            _log.warning("switch %016x called while %016x is connected: one at a time", switch.id, self._switch.id)
            switch.close()
            return False
        if self._switch is not None:
            self._switch.close()
        return True

    def _heard(self, port: int, address: str, mac: str) -> None:
        """The first port counts while the switch is connected: another that claims the address is told of, no more."""
        if address not in self._hosts and len(self._hosts) >= _MOST_HOSTS:
            used = {one for flow in self._told.values() if flow.pair for one in (flow.pair.client, flow.pair.server)}
            del self._hosts[next(one for one in self._hosts if one not in used)]
        known = self._hosts.setdefault(address, (port, mac))
        if known[0] != port and (address, port) not in self._claims and len(self._claims) < _MOST_HOSTS:
            self._claims.add((address, port))
            _log.warning("%s is at port %d, and something at port %d says that it is too", address, known[0], port)
        self._news.set()

    async def _find(self, switch: Switch, addresses: set[str]) -> None:
        """Where hosts are that nothing was heard of: those that have the addresses are asked to say so."""
        end = asyncio.get_running_loop().time() + _FOUND_S
        while missing := addresses - self._hosts.keys():
            for address in missing:
                switch.who_has(address)
            self._news.clear()
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), min(left, 0.5))

    # ------------------------------------------------------------ what is wanted

    async def apply(self, wanted: Sequence[Preference]) -> Mapping[Pair, str]:
        from hanse.network import _openflow_flows as of

        switch = self._switch
        if switch is None:
            raise NotNow(self.missing())
        await self._find(switch, {address for one in wanted for address in (one.pair.client, one.pair.server)})
        wrong: dict[Pair, str] = {}
        for one in wanted:
            unknown = [a for a in (one.pair.client, one.pair.server) if a not in self._hosts]
            if unknown:
                wrong[one.pair] = f"no host at the switch says that it has {' or '.join(unknown)}"
        found = [one for one in wanted if one.pair not in wrong]
        ports = {address: port for address, (port, _) in self._hosts.items()}
        asked = {flow.key: flow for flow in of.flows(found, ports, metered=self._kbit_s > 0)}
        gone = [flow for key, flow in self._told.items() if key not in asked]
        new = [flow for key, flow in asked.items() if flow.seconds or key not in self._told or not self._sure]
        # before anything is told: of what is refused in part the switch keeps the other part, to be removed next time
        self._told, self._sure = self._told | asked, False
        await switch.tell(
            [
                *(of.removal(switch.protocol, flow) for flow in gone),
                *(of.addition(switch.protocol, flow) for flow in new),
            ]
        )
        if lacking := of.missing(asked.values(), await self._flows(switch)):
            raise NotNow(f"the switch said yes and has {len(lacking)} of {len(asked)} flows less")
        self._told, self._sure = asked, True
        return wrong

    @staticmethod
    async def _flows(switch: Switch) -> list[Any]:
        from hanse.network import _openflow_flows as of

        return [one for part in await switch.ask(of.question(switch.protocol)) for one in part.body]

    async def seen(self) -> Mapping[str, Json]:
        from os_ken.ofproto import ofproto_v1_3_parser as messages

        from hanse.network import _openflow_flows as of

        switch = self._switch
        if switch is None:
            raise NotNow(self.missing())
        names = {
            port.port_no: port.name.decode(errors="replace")
            for part in await switch.ask(messages.OFPPortDescStatsRequest(switch.protocol))
            for port in part.body
        }
        counted = [one for part in await switch.ask(messages.OFPPortStatsRequest(switch.protocol)) for one in part.body]
        dpid = f"{switch.id:016x}"
        flows: list[Json] = []
        for told in await self._flows(switch):
            flow = self._told.get(of.key_of(told))
            pair = flow.pair if flow else None
            named: dict[str, Json] = {} if pair is None else {"client": pair.client, "server": pair.server}
            flows.append(
                {
                    **named,
                    "dpid": dpid,
                    "priority": told.priority,
                    "match": {name: str(value) for name, value in told.match.items()},
                    "packets": told.packet_count,
                    "bytes": told.byte_count,
                    "seconds": told.duration_sec,
                    "hard_timeout": told.hard_timeout,
                }
            )
        return {
            "switches": [{"dpid": dpid, "ports": len(names)}],
            "hosts": [
                {"ip": address, "mac": mac, "dpid": dpid, "port": port}
                for address, (port, mac) in sorted(self._hosts.items())
            ],
            "ports": [
                {
                    "dpid": dpid,
                    "port": one.port_no,
                    "name": names.get(one.port_no, ""),
                    "rx_bytes": one.rx_bytes,
                    "tx_bytes": one.tx_bytes,
                    "rx_packets": one.rx_packets,
                    "tx_packets": one.tx_packets,
                    "rx_dropped": one.rx_dropped,
                    "tx_dropped": one.tx_dropped,
                }
                for one in counted
            ],
            "flows": flows,
        }


def driver(settings: Mapping[str, Json]) -> Driver:
    host, _, port = str(settings["listen"]).rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"listen is {settings['listen']!r}; expected HOST:PORT, as in 127.0.0.1:6633")
    files = [str(settings[name]) for name in ("certificate", "key", "authority")]
    if any(files) and not all(files):
        raise ConfigError("certificate, key and authority go together; give all three, or none")
    if not is_loopback(host) and not all(files):
        raise ConfigError(
            f"{host} is not loopback: without certificate, key and authority anything could call and be taken for the "
            "switch"
        )
    secured = None
    if all(files):
        try:
            secured = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files[2])
            secured.load_cert_chain(files[0], files[1])
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"certificate, key or authority cannot be read ({error})") from None
        secured.verify_mode = ssl.CERT_REQUIRED
    try:
        import os_ken  # noqa: F401
    except ImportError:
        raise ConfigError("the driver openflow needs os-ken; run: pip install 'hanse[network]'") from None
    share, bits = float(settings["share"]), float(settings["rate_mbit_s"]) * 1e6
    queues = None
    if settings["ports"] or settings["database"]:
        from hanse.network._ovsdb import SwitchDatabase

        if not (settings["ports"] and settings["database"] and bits):
            raise ConfigError(
                "database, ports and rate_mbit_s go together: queues are made at ports, of the line's rate"
            )
        queues = _Queues(SwitchDatabase(str(settings["database"])), settings["ports"], bits, share)
    rest = (1 - share) * bits / 1000
    return _OpenFlow(host, int(port), max(1, round(rest)) if rest else 0, secured, queues)
