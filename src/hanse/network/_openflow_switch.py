"""One switch that has called: OpenFlow 1.3, written and read with os-ken's codec, in the event loop.

OpenFlow Switch Specification 1.3.5, sections 6 (channel) and 7 (messages).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from os_ken.lib.packet import arp, ethernet, packet
from os_ken.ofproto import ofproto_parser, ofproto_protocol
from os_ken.ofproto import ofproto_v1_3 as numbers
from os_ken.ofproto import ofproto_v1_3_parser as messages

from hanse.errors import NotNow, WireError

VERSION = numbers.OFP_VERSION
ANSWER_S = 10.0  # a switch that answers nothing for so long is gone
_ECHO_S = 5.0
_LARGEST = 1 << 16
_BROADCAST = "ff:ff:ff:ff:ff:ff"
_PROBE_MAC = "02:68:61:6e:73:65"  # of questions who has an address; locally administered


class Switch:
    """What a switch can be told and asked, from the moment that it has said who it is.

    Args:
        heard: called with (port, IPv4 address, MAC) of each ARP packet that it sends up.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        heard: Callable[[int, str, str], None],
    ) -> None:
        self._reader, self._writer, self._heard = reader, writer, heard
        self.protocol = ofproto_protocol.ProtocolDesc(version=VERSION)
        self.id = 0
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[list[Any]]] = {}
        self._parts: dict[int, list[Any]] = {}
        self._wrong: dict[int, str] = {}  # number of what was told to why the switch refused it
        self._said = asyncio.get_running_loop().time()

    # ------------------------------------------------------------ the channel

    async def greet(self) -> None:
        """Both say which version they speak, and the switch which one it is. Raises ``WireError``."""
        self._write(messages.OFPHello(self.protocol, [messages.OFPHelloElemVersionBitmap([VERSION])]))
        said = await asyncio.wait_for(self._read(), ANSWER_S)
        if said.msg_type != numbers.OFPT_HELLO:
            raise WireError("what called does not begin with an OpenFlow hello; is it a switch?")
        if said.version < VERSION:
            raise WireError(f"the switch speaks OpenFlow version {said.version}; expected 1.3 (protocols=OpenFlow13)")
        self._write(messages.OFPFeaturesRequest(self.protocol))
        said = await asyncio.wait_for(self._read(), ANSWER_S)
        if said.msg_type != numbers.OFPT_FEATURES_REPLY:
            raise WireError(f"the switch answered {said.msg_type} when asked who it is")
        self.id = said.datapath_id

    async def run(self) -> None:
        """Reads until the connection ends, or nothing is heard for :data:`ANSWER_S`."""
        asking = asyncio.create_task(self._keep_asking())
        try:
            while True:
                self._take(await self._read())
        except (OSError, EOFError, WireError, asyncio.CancelledError):
            pass
        finally:
            asking.cancel()
            self.close()

    def close(self) -> None:
        """Ends it; what waits for an answer gets none."""
        self._writer.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(NotNow("the connection to the switch was lost"))
        self._waiting.clear()

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.sleep(_ECHO_S)
            if asyncio.get_running_loop().time() - self._said > ANSWER_S:
                self._writer.close()
                self._reader.feed_eof()
                return
            self._write(messages.OFPEchoRequest(self.protocol, data=b""))

    async def _read(self) -> Any:
        head = await self._reader.readexactly(8)
        version, kind, length, number = ofproto_parser.header(head)
        if not 8 <= length <= _LARGEST:
            raise WireError(f"a message of {length} bytes")
        whole = head + await self._reader.readexactly(length - 8)
        self._said = asyncio.get_running_loop().time()
        if kind == numbers.OFPT_HELLO:  # of any version
            found = messages.OFPHello(self.protocol)
            found.version, found.msg_type = version, kind
            return found
        try:
            found = ofproto_parser.msg(self.protocol, version, kind, length, number, whole)
        except Exception as error:  # a codec of others, of bytes of others
            raise WireError(f"a message of kind {kind} that cannot be read ({type(error).__name__})") from None
        if found is None:
            raise WireError(f"a message of kind {kind} that is not known")
        return found

    def _take(self, said: Any) -> None:
        if said.msg_type == numbers.OFPT_ECHO_REQUEST:
            reply = messages.OFPEchoReply(self.protocol, data=said.data)
            self._write(reply, said.xid)
        elif said.msg_type == numbers.OFPT_ERROR:
            why = f"error {said.type}/{said.code}"
            self._wrong[said.xid] = why
            if said.xid in self._waiting and not self._waiting[said.xid].done():
                self._waiting[said.xid].set_exception(NotNow(f"the switch refused it ({why})"))
        elif said.msg_type == numbers.OFPT_PACKET_IN:
            self._listen(said)
        elif said.xid in self._waiting:
            self._parts.setdefault(said.xid, []).append(said)
            more = said.msg_type == numbers.OFPT_MULTIPART_REPLY and said.flags & numbers.OFPMPF_REPLY_MORE
            if not more and not self._waiting[said.xid].done():
                self._waiting[said.xid].set_result(self._parts.pop(said.xid))

    def _write(self, message: Any, number: int | None = None) -> int:
        message.set_xid(next(self._numbers) if number is None else number)
        message.serialize()
        with contextlib.suppress(OSError):
            self._writer.write(bytes(message.buf))
        return int(message.xid)

    # ------------------------------------------------------------ telling and asking

    async def ask(self, message: Any) -> list[Any]:
        """All parts of the answer. Raises ``NotNow``."""
        number = self._write(message)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.wait_for(future, ANSWER_S)
        except TimeoutError:
            raise NotNow(f"the switch did not answer within {ANSWER_S:g} s") from None
        finally:
            self._waiting.pop(number, None)
            self._parts.pop(number, None)

    async def tell(self, wanted: Sequence[Any]) -> None:
        """All of it; returns when the switch has done it (a barrier). Raises ``NotNow`` with what it refused."""
        told = [self._write(message) for message in wanted]
        await self.ask(messages.OFPBarrierRequest(self.protocol))
        wrong = [self._wrong.pop(number) for number in told if number in self._wrong]
        self._wrong.clear()
        if wrong:
            raise NotNow(f"the switch refused {len(wrong)} of {len(told)} changes ({wrong[0]})")

    # ------------------------------------------------------------ who is where

    def who_has(self, address: str) -> None:
        """Asks on all ports; whoever has the address answers, and is heard (an ARP probe, RFC 5227)."""
        asked = packet.Packet()
        asked.add_protocol(ethernet.ethernet(_BROADCAST, _PROBE_MAC, 0x0806))
        asked.add_protocol(arp.arp(opcode=arp.ARP_REQUEST, src_mac=_PROBE_MAC, src_ip="0.0.0.0", dst_ip=address))
        asked.serialize()
        self._write(
            messages.OFPPacketOut(
                self.protocol,
                numbers.OFP_NO_BUFFER,
                numbers.OFPP_CONTROLLER,
                [messages.OFPActionOutput(numbers.OFPP_FLOOD)],
                bytes(asked.data),
            )
        )

    def _listen(self, said: Any) -> None:
        with contextlib.suppress(Exception):  # bytes of anybody, in a codec of others
            found = packet.Packet(said.data).get_protocol(arp.arp)
            if found is not None and found.src_mac != _PROBE_MAC and found.src_ip != "0.0.0.0":
                self._heard(int(said.match["in_port"]), str(found.src_ip), str(found.src_mac))
