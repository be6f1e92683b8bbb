"""What of flows a switch has to have, as data: compared with what it was told, and turned into messages.

Everything is in table 0 and has one cookie, so what others set stays theirs:

- all else: as a switch without flows would (``NORMAL``);
- ARP: also to the controller, which learns from it at which port a host is;
- for each preference two flows, there and back: marked DSCP 46 (expedited forwarding, RFC 3246), put into queue 1. A
  flow fits only what enters at the port where its sender was learned, so an address that somebody else puts into their
  packets is not preferred;
- while a server has a preference: all else to and from it without a mark, and where the line's rate is known through a
  meter, which drops what is over the rest of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from os_ken.ofproto import ofproto_v1_3 as numbers
from os_ken.ofproto import ofproto_v1_3_parser as messages

from hanse.network_driver import Pair, Preference

COOKIE, _MASK = 0x48414E5345, 0xFFFFFFFFFFFFFFFF
METER, DSCP, QUEUE = 0x4841, 46, 1
_MISS, _ARP, _REST, _FIRST = 0, 50, 100, 1000
_LONGEST_S = 0xFFFF  # a switch counts seconds in 16 bits


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow.

    Args:
        priority: of two that fit the higher counts.
        match: field of OpenFlow to value.
        dscp: that its packets are marked with; None: as they come.
        first: whether they go into the first queue.
        metered: whether they pass the meter.
        copied: whether the controller gets a copy.
        seconds: until the switch removes it by itself; 0: never.
        pair: the preference that it is for.
    """

    priority: int
    match: tuple[tuple[str, Any], ...]
    dscp: int | None = None
    first: bool = False
    metered: bool = False
    copied: bool = False
    seconds: int = 0
    pair: Pair | None = None

    @property
    def key(self) -> tuple[int, tuple[tuple[str, Any], ...]]:
        """What it is told from others by."""
        return self.priority, self.match


def flows(wanted: Sequence[Preference], ports: Mapping[str, int], metered: bool) -> list[Flow]:
    """All that the switch has to have.

    Args:
        wanted: preferences between hosts whose ports are known.
        ports: address to the port of the switch where its host is.
        metered: whether the rest is metered while there are preferences.
    """
    made = [Flow(_MISS, ()), Flow(_ARP, _match(eth_type=0x0806), copied=True)]
    longest: dict[str, int] = {}
    for one in wanted:
        pair, seconds = one.pair, min(_LONGEST_S, math.ceil(one.seconds))
        longest[pair.server] = max(seconds, longest.get(pair.server, 0))
        for source, target, side in ((pair.client, pair.server, "tcp_dst"), (pair.server, pair.client, "tcp_src")):
            more: dict[str, Any] = {"ip_proto": 6, side: pair.port} if pair.port else {}
            match = _match(in_port=ports[source], eth_type=0x0800, ipv4_src=source, ipv4_dst=target, **more)
            made.append(Flow(_FIRST + one.priority, match, DSCP, first=True, seconds=seconds, pair=pair))
    for server, seconds in longest.items():
        for side in ("ipv4_dst", "ipv4_src"):
            match = _match(eth_type=0x0800, **{side: server})
            made.append(Flow(_REST, match, dscp=0, metered=metered, seconds=seconds))
    return made


def _match(**fields: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(fields.items()))


def addition(protocol: Any, flow: Flow) -> Any:
    """The message that adds it, or changes it and begins its time anew."""
    actions: list[Any] = []
    if flow.copied:
        actions.append(messages.OFPActionOutput(numbers.OFPP_CONTROLLER, 128))
    if flow.dscp is not None:
        actions.append(messages.OFPActionSetField(ip_dscp=flow.dscp))
    if flow.first:
        actions.append(messages.OFPActionSetQueue(QUEUE))
    actions.append(messages.OFPActionOutput(numbers.OFPP_NORMAL))
    steps: list[Any] = [messages.OFPInstructionMeter(METER, numbers.OFPIT_METER)] if flow.metered else []
    steps.append(messages.OFPInstructionActions(numbers.OFPIT_APPLY_ACTIONS, actions))
    return _mod(protocol, flow, numbers.OFPFC_ADD, hard_timeout=flow.seconds, instructions=steps)


def removal(protocol: Any, flow: Flow) -> Any:
    """The message that removes it and no other."""
    return _mod(protocol, flow, numbers.OFPFC_DELETE_STRICT, cookie_mask=_MASK)


def _mod(protocol: Any, flow: Flow, command: int, **more: Any) -> Any:
    match = messages.OFPMatch(**dict(flow.match))
    everywhere = {"out_port": numbers.OFPP_ANY, "out_group": numbers.OFPG_ANY}
    return messages.OFPFlowMod(
        protocol, cookie=COOKIE, command=command, priority=flow.priority, match=match, **everywhere, **more
    )


def clearing(protocol: Any) -> list[Any]:
    """The messages after which nothing is there that an earlier controller of ours left."""
    every = messages.OFPFlowMod(
        protocol,
        cookie=COOKIE,
        cookie_mask=_MASK,
        table_id=numbers.OFPTT_ALL,
        command=numbers.OFPFC_DELETE,
        out_port=numbers.OFPP_ANY,
        out_group=numbers.OFPG_ANY,
        match=messages.OFPMatch(),
    )
    return [every, messages.OFPMeterMod(protocol, command=numbers.OFPMC_DELETE, meter_id=METER)]


def meter(protocol: Any, kbit_s: int) -> Any:
    """The message that makes the meter: what is over the rate, and over a tenth of a second of it, is dropped."""
    band = messages.OFPMeterBandDrop(rate=kbit_s, burst_size=max(100, kbit_s // 10))
    flags = numbers.OFPMF_KBPS | numbers.OFPMF_BURST
    return messages.OFPMeterMod(protocol, numbers.OFPMC_ADD, flags, METER, [band])


def question(protocol: Any) -> Any:
    """The message that asks for all flows of ours."""
    return messages.OFPFlowStatsRequest(protocol, cookie=COOKIE, cookie_mask=_MASK)


def key_of(told: Any) -> tuple[int, tuple[tuple[str, Any], ...]]:
    """The key of a flow that a switch tells of."""
    return int(told.priority), tuple(sorted(dict(told.match.items()).items()))


def missing(wanted: Iterable[Flow], told: Iterable[Any]) -> list[Flow]:
    """Those that the switch does not have."""
    there = {key_of(one) for one in told}
    return [flow for flow in wanted if flow.key not in there]
