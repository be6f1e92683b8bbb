"""What compiled loops do with vectors of the processor, where the compiler would not find them by itself."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from hanse.messages import Array


def add_pair(sums: Array, place: np.uintp, gradient: np.int64, hessian: np.int64) -> None:
    """Adds both to their place, (places, 2), or (places,) as :mod:`hanse.boosting.packed` has them."""
    if sums.ndim == 1:
        sums[place] += (gradient << 32) + hessian
    else:
        sums[place, 0] += gradient
        sums[place, 1] += hessian


def look_ahead(array: Array, row: np.uintp, column: np.uintp | int) -> None:
    """Says that this place of an array of two dimensions is read soon. It need not be there."""


@functools.cache
def known_to_numba() -> None:
    """From now on :func:`add_pair` in a compiled loop is one addition: both sums of a place lie next to each other, so
    they are read, added to and written as one vector, which numba's compiler does not see; where they are one number,
    that is made once a row and not once a column. And :func:`look_ahead` has
    the processor bring that place into its caches beside its work, as it does by itself only for places in a row."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
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

        def together(sums: Any, place: Any, gradient: Any, hessian: Any) -> None:
            sums[place] += (gradient << 32) + hessian

        ways = {types.Array(types.int64, 2, "C"): one, types.Array(types.int64, 1, "C"): together}
        fits = (place, gradient, hessian) == (types.uint64, types.int64, types.int64)
        return ways.get(sums) if fits else None

    @intrinsic
    def fetch(typing: Any, array: Any, row: Any, column: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array, *place = arguments
            lies = context.make_array(signature.args[0])(context, builder, array)
            at = builder.ptrtoint(lies.data, word)
            strides = cgutils.unpack_tuple(builder, lies.strides)  # type: ignore[no-untyped-call]
            for index, stride in zip(place, strides, strict=True):
                at = builder.add(at, builder.mul(index, stride))
            byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
            ask = builder.module.declare_intrinsic("llvm.prefetch", (byte,), kind)
            builder.call(ask, [builder.inttoptr(at, byte), number(0), number(3), number(1)])  # to read; near; data
            return context.get_dummy_value()

        return types.void(array, row, column), generate

    @overload(look_ahead, inline="always")
    def looked(array: Any, row: Any, column: Any) -> Any:
        def one(array: Any, row: Any, column: Any) -> None:
            fetch(array, row, column)  # type: ignore[call-arg]

        fits = isinstance(array, types.Array) and array.ndim == 2 and (row, column) == (types.uint64, types.uint64)
        return one if fits else None
