"""Numbers as whole numbers modulo a power of two, so that their sum over nodes is exact, whatever the order.

There are three ways, and an array's type and size say which:

- **whole** numbers (integers, booleans) are themselves, in one word of 64 bits. Their sum is exact. Many of them, of
  which it is known how large the sum of all nodes can be, are in words of 48, 40 or 32 bits, as few as it needs. What
  is of 48 and 40 is computed with in words of 64, of which these are the lowest, and travels as these alone
  (:func:`cut`).
- **digits**, for arrays of up to 65,536 floating-point numbers: x = Σ_i d_i 2^(48 i - f), each d_i in a word of 64 bits
  with the sign of x and |d_i| < 2⁴⁸, so that up to 2¹⁴ of them add without a carry. Six digits (up to 1024
  numbers) hold |x| < 2¹⁶⁰ to 2⁻¹²⁸, three hold |x| < 2⁷² to 2⁻⁷²: sums of squares and a gradient that is nearly zero
  side by side, without a range that somebody has to choose.
- **one word** of 64 or 32 bits for larger arrays: x is rounded to a multiple of 2^-f, where f follows from the
  range that the run allows, so that the sum of all nodes cannot leave the word.

What is out of range is refused at the node (``DataError``) before it is masked: a sum never wraps without a word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hanse.errors import ConfigError, DataError
from hanse.messages import Array, Json, block
from hanse.spans import BLOCK, over

RADIX = 48  # bits of a digit
WIDTHS = (64, 48, 40, 32)
_NARROW = (32, 40, 48)
LEAST = 1 << 14  # whole numbers of an array that are in fewer words; below, a message is mostly something else
MOST_NODES = 1 << 14  # so many digits of 48 bits add in a word of 64
_CACHED = 1 << 13  # numbers that pass through all steps of their encoding while they are in a core's cache
_NEAR = 2.0**50
_ROUNDS = 1.5 * 2.0**52  # plus this, a number up to 2^51 is rounded to a whole one, half to even, in its last bits
_ROUNDS_BITS = int(np.float64(_ROUNDS).view(np.int64))
_DIGITS = ((1 << 10, 6, 128), (1 << 16, 3, 72))  # up to so many numbers: so many digits, f


@dataclass(frozen=True, slots=True)
class Code:
    """How the numbers of one array are written.

    Args:
        dtype, shape: of the array.
        words: for each number.
        bits: of a word, 64 or 32; of whole numbers 48 or 40, too.
        fraction: f; 0 for whole numbers.
        largest: numbers from -largest to it can be written.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    words: int
    bits: int
    fraction: int
    largest: float

    @property
    def size(self) -> int:
        """How many numbers the array has."""
        return math.prod(self.shape)

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole and their sum exact."""
        return self.dtype.kind in "iub"

    def error(self, nodes: int) -> float:
        """How far the sum of so many nodes may be from that of the numbers they had: what rounding each to a multiple
        of 2^-f adds up to. The rounding of the sum to float64 comes on top, where it is in a result."""
        if self.whole:
            return 0.0
        return nodes * 2.0 ** -(self.fraction if self.words > 1 else self.fraction + 1)


def code(
    dtype: np.dtype[np.generic],
    shape: tuple[int, ...],
    nodes: int,
    rows: float,
    all_rows: float,
    bits: int = 64,
    range: float = 2.0**20,
    most: int | None = None,
) -> Code:
    """How an array of this type and shape is written by one of so many nodes.

    Args:
        nodes: that take part, up to 16,384.
        rows: that this node declared, from 1.
        all_rows: of all these nodes.
        bits: of a word of a large array.
        range: of a large array, the largest number of a mean; a sum may be that, times the rows of the node.
        most: of whole numbers, how large one of a node and of the sum of all can be, either way; None: nobody knows.

    >>> small, large = (code(np.dtype("float64"), (size,), 10, 100, 1000) for size in (5, 10**6))
    >>> small.words, large.words, large.fraction
    (6, 1, 32)
    """
    if not 1 <= nodes <= MOST_NODES:
        raise ConfigError(f"a secure sum is of 1 to {MOST_NODES} nodes, not {nodes}")
    size = math.prod(shape)
    if dtype.kind in "iub":
        if most is not None and most < 1 << 63:
            narrow = _NARROW if size >= LEAST else ()
            return Code(dtype, shape, 1, next((bits for bits in narrow if most < 1 << (bits - 1)), 64), 0, most)
        return Code(dtype, shape, 1, 64, 0, ((1 << 63) - 1) // nodes)  # an int: compared exactly
    for few, digits, fraction in _DIGITS:
        if size <= few:
            return Code(dtype, shape, digits, 64, fraction, math.nextafter(2.0 ** (RADIX * digits - fraction), 0.0))
    rows, all_rows = max(1.0, rows), max(1.0, all_rows)
    # Σ (range rows_k 2^f + 1/2) < range all_rows 2^f + nodes <= 2^(bits - 2) + 2^14: below 2^(bits - 1)
    fraction = bits - 2 - math.ceil(math.log2(range * all_rows))
    return Code(dtype, shape, 1, bits, fraction, range * rows)


def finest(settings: Mapping[str, Json], all_rows: float) -> float:
    """The step between two numbers of a large array of a mean in a secure sum of these settings, a power of two."""
    many = (1 << 20,)  # a large array
    how = code(
        np.dtype(np.float64), many, 1, 1.0, all_rows, int(settings["secure_bits"]), float(settings["secure_range"])
    )
    return float(2.0**-how.fraction)


def encode(values: Array, weight: float, how: Code, into: Array) -> None:
    """Writes ``weight`` times ``values`` into the words ``into``, (words * size,).

    Raises:
        DataError: says what is out of range.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    if how.whole:
        _encode_whole(flat, weight, how, into.view(np.int32 if how.bits == 32 else np.int64))
    elif how.words > 1:
        _encode_digits(flat, weight, how, into.view(np.int64).reshape(how.words, -1))
    else:
        _encode_words(flat, weight, how, into.view(np.int64 if how.bits == 64 else np.int32))


def _encode_whole(flat: Array, weight: float, how: Code, into: Array) -> None:
    if not float(weight).is_integer():
        raise DataError(f"whole numbers cannot be weighted by {weight!r} in a sum that is to be exact")
    if flat.size:
        most = max(abs(int(flat.max())), abs(int(flat.min())))  # as Python's: abs of the least int64 has no int64
        if most * max(1, abs(int(weight))) > how.largest:
            raise DataError(_beyond(how.largest))
    if weight == 1:
        np.copyto(into, flat, casting="unsafe")
    else:
        np.multiply(flat, int(weight), out=into, dtype=into.dtype, casting="unsafe")


def _encode_digits(flat: Array, weight: float, how: Code, into: Array) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.multiply(flat, weight, dtype=np.float64)
    left = np.abs(values)
    if not np.all(left <= how.largest):
        raise DataError(_beyond(how.largest))
    negative = np.signbit(values)
    for place in reversed(range(how.words)):
        unit = 2.0 ** (RADIX * place - how.fraction)
        digit = np.floor(left / unit)  # exact, as is what is left: both are powers of two times what left holds
        left -= digit * unit
        into[place] = np.where(negative, -digit, digit)


def _encode_words(flat: Array, weight: float, how: Code, into: Array) -> None:
    scale = 2.0**how.fraction
    most = how.largest * scale

    def part(start: int, stop: int) -> bool:
        scratch = np.empty(min(_CACHED, stop - start))
        with np.errstate(over="ignore", invalid="ignore"):
            for low in range(start, stop, _CACHED):
                high = min(low + _CACHED, stop)
                found = scratch[: high - low]
                # in float64, not as float32 products that are rounded to 24 bits; the scale is a power of two
                np.multiply(flat[low:high], weight * scale, out=found, dtype=np.float64)
                square = float(found @ found)  # NaN or infinite where a number is
                if not square < most * most and not max(float(found.max()), -float(found.min())) <= most:
                    return False
                if square < _NEAR * _NEAR and how.bits == 64:  # so is each number
                    found += _ROUNDS
                    np.subtract(found.view(np.int64), _ROUNDS_BITS, out=into[low:high])
                else:
                    np.rint(found, out=found)
                    np.copyto(into[low:high], found, casting="unsafe")
        return True

    if not over(part, flat.size):
        raise DataError(_beyond(how.largest))


def _beyond(largest: float) -> str:
    return f"it holds NaN, or a number beyond ±{largest:.6g}"


def decode(total: Array, how: Code) -> Array:
    """The sum of what nodes wrote: float64, or int64 of whole numbers; in the array's shape. ``total`` is changed."""
    if how.whole and how.bits == 32:
        return total.view(np.int32).astype(np.int64).reshape(how.shape)
    if how.whole:
        whole = total.view(np.int64)
        if how.bits < 64:  # what is above goes, and the sign comes there
            whole <<= 64 - how.bits
            whole >>= 64 - how.bits
        return whole.reshape(how.shape)
    if how.words > 1:
        return _decode_digits(total.view(np.int64).reshape(how.words, -1)).reshape(how.shape) * 2.0**-how.fraction
    signed = total.view(np.int64 if how.bits == 64 else np.int32)
    found = np.empty(signed.size) if how.bits == 32 else signed.view(np.float64)  # each in its own place

    def part(start: int, stop: int) -> bool:
        for low in range(start, stop, BLOCK):
            high = min(low + BLOCK, stop)
            found[low:high] = signed[low:high].astype(np.float64)
            np.multiply(found[low:high], 2.0**-how.fraction, out=found[low:high])
        return True

    over(part, signed.size)
    return found.reshape(how.shape)


def _decode_digits(digits: Array) -> Array:
    """Σ_i d_i 2^(48 i), within two units of its last place."""
    carried = _carried(digits)
    negative = carried[-1] < 0
    if negative.any():  # all digits of one sign, so that nothing cancels
        carried[:, negative] = _carried(-digits[:, negative])
    total = np.zeros(digits.shape[1])
    for place, digit in enumerate(carried):
        total += digit.astype(np.float64) * 2.0 ** (RADIX * place)
    return np.where(negative, -total, total)


def _carried(digits: Array) -> Array:
    """The same number with digits from 0 to 2⁴⁸ - 1, but for the first, which has the sign."""
    found = digits.copy()
    for place in range(len(found) - 1):
        carry = found[place] >> RADIX
        found[place] -= carry << RADIX
        found[place + 1] += carry
    return found


_ABOVE = {48: np.uint16, 40: np.uint8}  # what holds the bits of a word above its lowest 32


def widths(codes: Sequence[Code]) -> dict[int, int]:
    """How many words of each width these arrays take together, but for widths of which they have none.

    >>> widths([code(np.dtype("int64"), (3,), 2, 1, 2), code(np.dtype("float32"), (), 2, 1, 2)])
    {64: 9}
    """
    found = {bits: sum(c.words * c.size for c in codes if c.bits == bits) for bits in WIDTHS}
    return {bits: size for bits, size in found.items() if size}


def word(bits: int) -> np.dtype[Any]:
    """The type in which words of this width are computed with."""
    return np.dtype(np.uint32 if bits == 32 else np.uint64)


def places(codes: Mapping[str, Code], words: Mapping[int, Array]) -> dict[str, Array]:
    """The words of each array among those of all (:func:`widths`), where one array follows the other."""
    at, found = dict.fromkeys(WIDTHS, 0), {}
    for name, how in codes.items():
        size = how.words * how.size
        found[name] = words[how.bits][at[how.bits] : at[how.bits] + size] if size else np.zeros(0, word(how.bits))
        at[how.bits] += size
    return found


def sent(words: Mapping[int, Array]) -> dict[str, Array]:
    """Room for words as they travel, by names: of those of 48 and 40 bits the lowest 32 and what is above. The others
    are themselves."""
    return {
        name: words[int(name)] if int(name.partition(".")[0]) not in _ABOVE else np.empty(shape, dtype)
        for name, (dtype, shape) in forms({bits: vector.size for bits, vector in words.items()}).items()
    }


def cut(words: Array, bits: int, into: Mapping[str, Array], low: int, high: int) -> None:
    """Writes some words of 48 or 40 bits as they travel, where they are not there already.

    >>> words = np.array([1, -1], np.int64).view(np.uint64)
    >>> into = sent({48: words})
    >>> cut(words, 48, into, 0, 2)
    >>> {name: (str(array.dtype), array.tolist()) for name, array in into.items()}
    {'48': ('uint32', [1, 4294967295]), '48.above': ('uint16', [0, 65535])}
    """
    if bits in _ABOVE:
        own = words[low:high].astype("<u8", copy=False)
        above = np.dtype(_ABOVE[bits]).newbyteorder("<")
        into[str(bits)][low:high] = own.view("<u4")[::2]
        into[f"{bits}.above"][low:high] = own.view(above)[4 // above.itemsize :: 8 // above.itemsize]


def forms(widths: Mapping[int, int]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of words as they travel, of so many of each width."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for bits, size in widths.items():
        found[str(bits)] = ("uint64" if bits == 64 else "uint32", (size,))
        if bits in _ABOVE:
            found[f"{bits}.above"] = (np.dtype(_ABOVE[bits]).name, (size,))
    return found


def come(arrays: Mapping[str, Array], bits: int, low: int, high: int) -> Array:
    """Some of the words that travelled so, to be computed with modulo 2^bits."""
    lowest = block(arrays, str(bits), low, high)
    if bits not in _ABOVE:
        return lowest
    found = block(arrays, f"{bits}.above", low, high).astype(np.uint64)
    found <<= np.uint64(32)
    found |= lowest
    return found
