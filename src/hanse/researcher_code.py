"""What is told of an error in code that a researcher wrote: its kind, and the line of their own text.

That helps them to mend it, and was all there before the code met any row. The message of an error may hold values of
rows ("could not convert string to float: '7.9 mg'"), or sizes that count rows, so it stays at the node, in the owner's
``plan.log``, with the whole trace. Of a kind of error that the code makes itself the nearest kind of a library is
told: its name could be made of data.
"""

from __future__ import annotations

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
    lines, line, trace, last = source.splitlines(), 0, error.__traceback__, ""
    while trace is not None:
        code, number = trace.tb_frame.f_code, trace.tb_lineno
        last = str(trace.tb_frame.f_globals.get("__name__", ""))
        own = code.co_filename == file and 1 <= number <= len(lines)
        line, trace = (number if own else line), trace.tb_next
    text = lines[line - 1].strip() if line else ""
    where = f" in line {line}: {text[:_SHOWN]}" if line else " in none of its own lines"
    module = sys.modules.get(last)
    return f"{_kind(error)}{where}{f' (raised in {last})' if module is not None else ''}"


def _kind(error: BaseException) -> str:
    for kind in type(error).__mro__:
        if getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind:
            return str(kind.__name__)
    return "an error"
