"""What crosses the wire of an error: code and sentence, never a traceback or a path."""

from __future__ import annotations

from hanse.errors import HanseError, NodeFailed, from_code
from hanse.messages import Message, Record

_CHARACTERS = 2000


def failure(me: str, id: str, error: Exception) -> Message:
    """The reply of ``me`` to the request ``id`` that could not be answered."""
    if isinstance(error, HanseError):
        code, text = error.code, error.message
    else:
        code, text = "error", f"{type(error).__name__} while answering; the log of {me!r} has the details"
    return Message("error", id, me, Record({"code": code, "message": text[:_CHARACTERS]}))


def error_of(message: Message) -> HanseError:
    """The error that such a reply tells."""
    code, text = message.body.data.get("code"), message.body.data.get("message")
    if not isinstance(code, str) or not isinstance(text, str):
        return NodeFailed(f"{message.sender!r} sent an error without code and sentence")
    return from_code(code, text[:_CHARACTERS])
