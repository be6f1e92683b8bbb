"""What a bundle takes for the code of a run."""

import ast

from hanse.bundle import _statements


def test_an_import_is_found_wherever_a_statement_may_stand() -> None:
    source = """
from a import a
def f():
    from a import b
async def g():
    async with a:
        from a import c
    async for x in y:
        from a import d
class A:
    from a import e
try:
    from a import f
except E:
    from a import g
else:
    from a import h
finally:
    from a import i
try:
    pass
except* E:
    from a import j
match x:
    case 1:
        from a import k
while x:
    from a import l
else:
    if x:
        from a import m
    elif y:
        from a import n
f = lambda: 3
"""
    tree = ast.parse(source)
    every = {id(item) for item in ast.walk(tree) if isinstance(item, ast.ImportFrom)}
    assert {id(item) for item in _statements(tree) if isinstance(item, ast.ImportFrom)} == every
    assert len(every) == 14
