"""Queues of Open vSwitch, set through its database: HTB at ports, of which queue 1 is for what is preferred.

The OVSDB protocol (RFC 7047): JSON-RPC over a socket, one transaction at a time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hanse.errors import ConfigError, NotNow
from hanse.messages import Json

_ANSWER_S = 10.0
_OURS = ["map", [["hanse", "preferred"]]]
_BY_US = ["external_ids", "includes", _OURS]
_BLOCK = 1 << 16
_LARGEST = 1 << 24


class SwitchDatabase:
    """The database at ``unix:PATH`` or, on this machine, ``tcp:127.0.0.1:PORT``. Raises ``ConfigError``."""

    def __init__(self, address: str) -> None:
        kind, _, rest = address.partition(":")
        host, _, port = rest.rpartition(":")
        if not (kind == "unix" and rest) and not (kind == "tcp" and host == "127.0.0.1" and port.isdigit()):
            raise ConfigError(f"database is {address!r}; expected unix:PATH, or tcp:127.0.0.1:PORT")
        self._address, self._unix, self._port = address, rest if kind == "unix" else "", int(port or 0) if host else 0

    async def make(self, ports: Sequence[str], bits: float, share: float) -> None:
        """Queue 1 of each port is promised the share of its rate, queue 0 (all else) the rest; each may take what the
        other leaves. Returns when the switch has done it. Raises ``ConfigError`` for a port that is not there,
        ``NotNow``."""
        await self.remove()
        told: list[Json] = []
        for number, port in enumerate(ports):
            names = [f"{what}{number}" for what in ("rest", "first", "qos")]
            for name, promised, place in ((names[0], 1 - share, 1), (names[1], share, 0)):
                rates = {"min-rate": round(promised * bits), "max-rate": int(bits), "priority": place}
                told.append(_insert("Queue", name, {"other_config": _map(rates)}))
            queues = ["map", [[0, ["named-uuid", names[0]]], [1, ["named-uuid", names[1]]]]]
            row = {"type": "linux-htb", "queues": queues, "other_config": _map({"max-rate": int(bits)})}
            told.append(_insert("QoS", names[2], row))
            where = [["name", "==", port]]
            told.append({"op": "update", "table": "Port", "where": where, "row": {"qos": ["named-uuid", names[2]]}})
        done = await self._transact(told)
        for port, said in zip(ports, done[3::4], strict=True):
            if said.get("count") != 1:
                await self.remove()
                raise ConfigError(f"Open vSwitch has no port {port!r}; `ovs-vsctl show` lists them")

    async def remove(self) -> None:
        """None of ours is there any more, also of those that an earlier process made. Raises ``NotNow``."""
        ours = {"op": "select", "table": "QoS", "where": [_BY_US], "columns": ["_uuid"]}
        found = [row["_uuid"] for row in (await self._call([ours]))[0]["rows"]]
        freed = [
            {"op": "update", "table": "Port", "where": [["qos", "includes", one]], "row": {"qos": ["set", []]}}
            for one in found
        ]
        gone = [{"op": "delete", "table": table, "where": [_BY_US]} for table in ("QoS", "Queue")]
        await self._transact([*freed, *gone])

    async def _transact(self, told: Sequence[Json]) -> list[Any]:
        """Does it, and waits until the switch has taken notice."""
        table, column = "Open_vSwitch", "next_cfg"
        count = {"op": "mutate", "table": table, "where": [], "mutations": [[column, "+=", 1]]}
        ask = {"op": "select", "table": table, "where": [], "columns": [column, "cur_cfg"]}
        done = await self._call([*told, count, ask])
        number, now = done[-1]["rows"][0][column], done[-1]["rows"][0]["cur_cfg"]
        while now < number:
            wait = {"op": "wait", "table": table, "timeout": int(_ANSWER_S * 500), "where": [], "columns": ["cur_cfg"]}
            rows = [{"cur_cfg": now}]
            now = (await self._call([{**wait, "until": "!=", "rows": rows}, ask]))[-1]["rows"][0]["cur_cfg"]
        return done

    async def _call(self, operations: Sequence[Json]) -> list[Any]:
        try:
            async with asyncio.timeout(_ANSWER_S):
                said = await self._ask({"method": "transact", "params": ["Open_vSwitch", *operations], "id": 1})
        except (OSError, ValueError, EOFError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            raise NotNow(f"the database of Open vSwitch at {self._address} does not answer ({why[:200]})") from None
        wrong = [one for one in said if isinstance(one, dict) and one.get("error")]
        if wrong:
            why = f"{wrong[0]['error']}: {wrong[0].get('details', '')}"
            raise NotNow(f"the database of Open vSwitch did not take the queues ({why[:300]})")
        return said

    async def _ask(self, request: Mapping[str, Json]) -> list[Any]:
        if self._unix:
            reader, writer = await asyncio.open_unix_connection(self._unix)
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(json.dumps(request).encode())
            came = b""
            while True:
                block = await reader.read(_BLOCK)
                came += block
                if not block or len(came) > _LARGEST:
                    raise EOFError("its answer was cut off")
                try:
                    answer = json.loads(came)
                except ValueError:
                    continue  # half of it
                result = answer.get("result") if isinstance(answer, dict) else None
                if not isinstance(result, list):
                    raise ValueError(f"it answered {str(answer)[:200]}")
                return result
        finally:
            writer.close()


def _insert(table: str, name: str, row: Mapping[str, Json]) -> Json:
    return {"op": "insert", "table": table, "uuid-name": name, "row": {**row, "external_ids": _OURS}}


def _map(values: Mapping[str, int]) -> Json:
    return ["map", [[name, str(value)] for name, value in values.items()]]
