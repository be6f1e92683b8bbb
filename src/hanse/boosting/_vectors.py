"""What compiled loops do with vectors of the processor, where the compiler would not find them by itself.

Imported when the first loop is compiled, since it needs numba.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from hanse.boosting.kernel import add_pair

_WORD = ir.IntType(64)
_PAIR = ir.VectorType(_WORD, 2)


@intrinsic
def _add(typing: Any, sums: Any, place: Any, gradient: Any, hessian: Any) -> Any:
    """Both sums of a place lie next to each other, so they are read, added to and written as one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, place, *both = arguments
        lies = context.make_array(signature.args[0])(context, builder, sums).data
        at = builder.bitcast(builder.gep(lies, [builder.shl(place, _WORD(1))]), _PAIR.as_pointer())
        vector = ir.Constant(_PAIR, ir.Undefined)
        for i, value in enumerate(both):
            vector = builder.insert_element(vector, value, ir.IntType(32)(i))
        builder.store(builder.add(builder.load(at, align=8), vector), at, align=8)
        return context.get_dummy_value()

    return types.void(sums, place, gradient, hessian), generate


@overload(add_pair, inline="always")
def _compiled(sums: Any, place: Any, gradient: Any, hessian: Any) -> Any:
    def one(sums: Any, place: Any, gradient: Any, hessian: Any) -> None:
        _add(sums, place, gradient, hessian)  # type: ignore[call-arg]

    wanted = (types.Array(types.int64, 2, "C"), types.uint64, types.int64, types.int64)
    return one if (sums, place, gradient, hessian) == wanted else None
