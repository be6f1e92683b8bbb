"""How messages travel: the coordinator's end of a transport (:mod:`hanse.transports`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence, Set
from typing import Protocol

from hanse.errors import HanseError
from hanse.messages import Message, Record

COORDINATOR = "coordinator"  # what a coordinator is called where nodes have names of their own
Progress = Callable[[], None]
Handler = Callable[[str, Message, Progress], Awaitable[Message]]  # (authenticated peer, request, alive) -> reply

# (authenticated peer, nodes, what each of them is asked) -> what each replies, or why there is nothing
ManyHandler = Callable[[str, Sequence[str], Record], Awaitable[Sequence[Record | HanseError]]]


class Transport(Protocol):
    """The coordinator's end: who is on line, and one exchange with one of them.

    One whose nodes are all in this process, where none can be late or lost, may have ``many``
    (:data:`ManyHandler`), by which several are asked the same in one call."""

    def online(self) -> Set[str]:
        """Ids of the nodes that can be asked now."""
        ...

    async def request(self, node: str, message: Message, progress: Progress = lambda: None) -> Message:
        """Send ``message``, return the reply to it.

        A broken connection is waited out: the message is delivered again when the node is back,
        and the node answers each id once. ``progress`` is called whenever something moves.
        Cancelling the call cancels the exchange; what comes later is refused and recorded.
        Raises the node's error (:func:`hanse.errors.from_code`), or ``NodeLost``.
        """
        ...

    async def changed(self) -> None:
        """Returns when ``online()`` next changes."""
        ...
