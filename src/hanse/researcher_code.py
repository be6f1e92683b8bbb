"""What is told of an error in code that a researcher wrote: its kind, and the line of their own text.

That helps them to mend it, and was all there before the code met any row. The message of an error may hold values of
rows ("could not convert string to float: '7.9 mg'"), or sizes that count rows, so it stays at the node, in the owner's
``plan.log``, with the whole trace. Of a kind of error that the code makes itself the nearest kind of a library is
told: its name could be made of data.
"""

from __future__ import annotations

import io
import sys

_SHOWN = 80  # characters of a line


def told(error: BaseException, file: str, source: str) -> str:
    """The kind of the error, the last line of the code on its way, and the module of a library where it came up.

    Args:
        file: the name under which the code was compiled.
        source: its text.

    >>> text = "def build():\\n    return int('4711 mg')"
    >>> names = {}
    >>> exec(compile(text, "<plan>", "exec"), names)
    >>> try:
    ...     names["build"]()
    ... except ValueError as error:
    ...     told(error, "<plan>", text)
    "ValueError in line 2: return int('4711 mg')"
    """
    lines, line, trace, last = io.StringIO(source, newline=None).readlines(), 0, error.__traceback__, ""
    while trace is not None:
        code, number = trace.tb_frame.f_code, trace.tb_lineno
        last = str(trace.tb_frame.f_globals.get("__name__", ""))
        own = code.co_filename == file and 1 <= number <= len(lines)
        line, trace = (number if own else line), trace.tb_next
    text = lines[line - 1].strip() if line else ""
    where = f" in line {line}: {text[:_SHOWN]}" if line else " in none of its own lines"
    module = sys.modules.get(last)
    return f"{kind(type(error))}{where}{f' (raised in {last})' if module is not None else ''}"


def raised_by(error: BaseException, file: str) -> bool:
    """Whether the code itself raised it, and not what it calls: the message then is the code's, whatever the kind."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename == file


def kind(of: type) -> str:
    """The name of a type, or of the nearest one above it that no researcher's code made."""
    for known in of.__mro__:
        if getattr(sys.modules.get(known.__module__), known.__qualname__, None) is known:
            return str(known.__name__)
    return "object"
