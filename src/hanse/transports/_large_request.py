"""A large request on its way to one peer, over one connection: in its turn, and from where an earlier one had got to.

The first time it is sent without waiting for anything. If a connection ends before its reply is in, the next one
brings only its beginning, and the rest from where the peer says (``resume``): perhaps nothing, as the peer has it all.
So does the first that a process sends a peer: it may have sent it before it was started anew.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator

from hanse.errors import WireError
from hanse.messages import METHOD, Message, Packer, begin, rest
from hanse.transports._broadcast import Broadcast
from hanse.transports._conduit import CHUNK_BYTES, Conduit
from hanse.transports._hearts import Hearts
from hanse.transports._line import Speeds
from hanse.transports._outbox import Parcel
from hanse.transports._turns import AT_ONCE, Turn, Turns

ALIVE_SECONDS = 2.0


class Traffic:
    """What the links of one process to many peers share: turns each way, payloads sent to many, and one timer for all
    that is worked on (of a thousand, each would wake the process for every heartbeat).

    Args:
        at_once: large messages each way at a time.
        alive_every: seconds between ``alive`` signals while a handler works.
        moves: told of each large message of a peer, from when it begins to move until it does no more.
    """

    def __init__(
        self,
        at_once: int = AT_ONCE,
        alive_every: float = ALIVE_SECONDS,
        moves: Callable[[str], Callable[[], None]] = lambda peer: lambda: None,
    ) -> None:
        self.moves = moves
        self.sending, self.receiving = Turns(at_once), Turns(at_once)
        self.hearts = Hearts(alive_every)
        self.broadcast = Broadcast(CHUNK_BYTES)


class LargeRequest:
    """What of a request goes over a connection.

    Args:
        edition: of the message, as of :func:`hanse.messages.begin`.
        again: it may have been begun to be sent over an earlier connection.
    """

    def __init__(
        self, message: Message, edition: int, again: bool, connection: Conduit, traffic: Traffic, speeds: Speeds
    ) -> None:
        self._message, self._edition, self._again = message, edition, again
        self._connection, self._traffic, self._speeds = connection, traffic, speeds
        shared = traffic.broadcast.share(message.body.arrays)
        self._rest: Callable[[int, float | None], Iterator[bytes]]
        if shared in connection.shared:  # a stream carries one message at a time
            self._stream, self._rest = connection.next_stream(reply=False), self._alone
        else:
            connection.shared.add(shared)
            self._stream, self._rest = shared.stream, shared.rest

    def take_turn(self, peer: str, moved: Callable[[], None], failed: Callable[[Exception], None]) -> Turn:
        """It begins to leave when its turn has come, perhaps at once.

        Args:
            moved: called when something of it left, or it waits.
            failed: called where it cannot be sent.
        """
        name, outbox = ("request", self._message.id), self._connection.outbox

        def resume(place: int) -> None:
            nbytes = self._message.body.nbytes
            if place > nbytes:
                raise WireError(f"{place} bytes of {self._message.id[:80]!r} are said to be there; it has {nbytes}")
            if place == nbytes:  # the peer has all of it
                turn.release()
            else:
                outbox.add(Parcel(name, sent(self._rest(place, self._saving()), place), moved, failed, begun=True))

        def sent(frames: Iterator[bytes], place: int) -> Iterator[bytes]:
            began, nbytes = time.monotonic(), 0
            try:
                for frame in frames:
                    turn.moved(len(frame))
                    nbytes += len(frame)
                    yield frame
                self._speeds.note("down", nbytes, began)
                self._speeds.took("down", nbytes, self._message.body.nbytes - place)
            finally:
                turn.release()

        def begin() -> None:
            if self._again:
                self._connection.resuming[self._message.id] = resume
                outbox.add_soon(Parcel(name, self._beginning(), moved, failed))
            else:
                whole = itertools.chain(self._beginning(), self._rest(0, self._saving()))
                outbox.add_soon(Parcel(name, sent(whole, 0), moved, failed))

        # Nothing of this is held by the turn when it has gone: frames that are kept for others would stay with it
        turn = self._traffic.sending.take(begin, moved, functools.partial(self._traffic.moves, peer))
        return turn

    def _saving(self) -> float | None:
        """The least share that compressing has to save; None: the owner of the node does not want it."""
        least = self._connection.takes.get(METHOD)
        return least / 1000 if least else None

    def _alone(self, start: int, saving: float | None) -> Iterator[bytes]:
        return rest(self._message, self._stream, CHUNK_BYTES, start, None if saving is None else Packer(saving))

    def _beginning(self) -> Iterator[bytes]:
        yield begin(self._message, self._stream, self._edition, self._again)
