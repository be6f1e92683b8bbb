"""How traffic goes before other traffic: what is wanted of a network, and the seam of what makes it so
(:mod:`hanse.network`)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hanse.errors import ConfigError
from hanse.messages import Json


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two hosts, and the TCP port of the second at which the first calls it.

    Args:
        client, server: IPv4 addresses.
        port: 0: all that goes between the two.
    """

    client: str
    server: str
    port: int = 0


@dataclass(frozen=True, slots=True)
class Preference:
    """What goes between two hosts, either way, goes before what has no preference.

    Args:
        pair: the hosts.
        priority: from 1 to 1000; the higher goes first where both would fit.
        seconds: from now on; then it is over without anybody's doing, also where the controller was killed and the
            driver's network can count by itself.
    """

    pair: Pair
    priority: int
    seconds: float


class Driver(Protocol):
    """What can make a network prefer traffic. What is wanted is told as a whole: saying it again changes nothing."""

    async def start(self, back: Callable[[], None]) -> None:
        """Begins. ``back`` is called whenever a network is there (again) that knows nothing of what is wanted.
        Raises ``ConfigError`` where it cannot do what it was set to."""
        ...

    def missing(self) -> str:
        """Why nothing can be preferred now, such as that no switch is connected; "" where it can."""
        ...

    async def apply(self, wanted: Sequence[Preference]) -> Mapping[Pair, str]:
        """Makes exactly this preferred. Returns when the network has confirmed it; of what it could not do, the pair
        and why. Raises ``NotNow`` where the network is not there or does not confirm."""
        ...

    async def seen(self) -> Mapping[str, Json]:
        """What the network says now: ``switches``, ``hosts``, ``ports`` and ``flows``, each a list of objects.
        A flow that is there for a preference has ``client`` and ``server``. Raises ``NotNow``."""
        ...

    async def stop(self) -> None:
        """Ends; nothing stays preferred for longer than was wanted."""
        ...


def host_address(text: str, network: str = "") -> str:
    """An IPv4 address of one host, as it is written. Raises ``ConfigError``.

    Args:
        network: the only addresses that may be, such as ``192.168.100.0/24``; "" for any host.

    >>> host_address("192.168.100.10", "192.168.100.0/24")
    '192.168.100.10'
    >>> host_address("192.168.100.255", "192.168.100.0/24")
    Traceback (most recent call last):
    ...
    hanse.errors.ConfigError: '192.168.100.255' is the address of no host; expected an IPv4 address of 192.168.100.0/24
    """
    expected = f"expected an IPv4 address of {network}" if network else "expected an IPv4 address, as 192.168.100.10"
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        raise ConfigError(f"{text[:80]!r} is no address; {expected}") from None
    special = address.is_multicast or address.is_loopback or address.is_unspecified or address.is_reserved
    within = ipaddress.IPv4Network(network) if network else None
    if special or (within and (address not in within or address in (within[0], within[-1]))):
        raise ConfigError(f"{text!r} is the address of no host; {expected}")
    return str(address)
