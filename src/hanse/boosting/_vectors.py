"""What compiled loops do with vectors of the processor, where the compiler would not find them by itself."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from hanse.messages import Array


def add_pair(sums: Array, place: np.uintp, gradient: np.int64, hessian: np.int64) -> None:
    """Adds both to their place."""
    sums[place, 0] += gradient
    sums[place, 1] += hessian


@functools.cache
def known_to_numba() -> None:
    """From now on :func:`add_pair` in a compiled loop is one addition: both sums of a place lie next to each other, so
    they are read, added to and written as one vector, which numba's compiler does not see."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic, overload

    word = ir.IntType(64)
    pair = ir.VectorType(word, 2)

    @intrinsic
    def add(typing: Any, sums: Any, place: Any, gradient: Any, hessian: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            sums, place, *both = arguments
            lies = context.make_array(signature.args[0])(context, builder, sums).data
            at = builder.bitcast(builder.gep(lies, [builder.shl(place, word(1))]), pair.as_pointer())
            vector = ir.Constant(pair, ir.Undefined)
            for i, value in enumerate(both):
                vector = builder.insert_element(vector, value, ir.IntType(32)(i))
            builder.store(builder.add(builder.load(at, align=8), vector), at, align=8)
            return context.get_dummy_value()

        return types.void(sums, place, gradient, hessian), generate

    @overload(add_pair, inline="always")
    def compiled(sums: Any, place: Any, gradient: Any, hessian: Any) -> Any:
        def one(sums: Any, place: Any, gradient: Any, hessian: Any) -> None:
            add(sums, place, gradient, hessian)  # type: ignore[call-arg]

        wanted = (types.Array(types.int64, 2, "C"), types.uint64, types.int64, types.int64)
        return one if (sums, place, gradient, hessian) == wanted else None
