"""Chunks of a payload, compressed on their way without a loss, where that saves something.

Numbers with a point look like noise to a compressor, as what they have in common, their sign and exponent, stands in
every fourth or eighth byte. So bytes are also tried in planes: first all first bytes of the numbers, then all second
ones. What trained weights gain by it is a sixth; numbers that were rounded (:mod:`hanse.transforms`) shrink to a third
or a fourth, as the bytes that rounding empties cost nothing.

References: Collet and Kucherawy 2021, RFC 8878 (Zstandard); Alted 2010, "Why modern CPUs are starving and what can be
done about it" (byte planes).
"""

from __future__ import annotations

import numpy as np

from hanse.errors import WireError

METHOD = "zstd"
LEAST_BYTES = 16 << 10  # of a payload: a smaller one takes one packet or a few, whatever is done
SAVING = {"auto": 0.3, "all": 0.01}  # the least share that compressing has to save; fast lines gain nothing by less
_AGAIN = 64  # chunks, after which it is tried anew
_LEVEL = 1
_PLAIN = 1  # planes of one byte: the bytes as they are


class Packer:
    """Compresses the chunks of one payload, as long as it saves ``saving`` of them.

    How is found at its first chunk, and now and then anew.

    >>> rounded = np.round(np.random.default_rng(0).normal(size=9000), 1).astype("f4").tobytes()
    >>> planes, found = Packer(0.3)(rounded, 4)
    >>> len(found) < 0.4 * len(rounded), unpacked(planes, found, len(rounded)) == rounded
    (True, True)
    >>> Packer(0.3)(np.random.default_rng(0).bytes(9000), 4) is None
    True
    """

    def __init__(self, saving: float) -> None:
        self._most = 1.0 - saving
        self._planes, self._width, self._next = 0, 0, 0

    def __call__(self, raw: bytes | memoryview, width: int) -> tuple[int, bytes] | None:
        """In how many planes it is compressed, and the bytes; None: it goes as it is.

        Args:
            width: bytes of a number in it.
        """
        if self._next <= 0 or width != self._width:
            self._next, self._width = _AGAIN, width
            tried = {planes: _packed(planes, raw) for planes in {_PLAIN, width}}
            self._planes = min(tried, key=lambda planes: (len(tried[planes]), planes))
            if len(tried[self._planes]) <= self._most * len(raw):
                return self._planes, tried[self._planes]
            self._planes = 0
        self._next -= 1
        if not self._planes:
            return None
        found = _packed(self._planes, raw)
        return (self._planes, found) if len(found) <= self._most * len(raw) else None


def unpacked(planes: int, body: bytes | memoryview, most: int) -> bytes:
    """The bytes that were compressed. Raises ``WireError`` where they are more than ``most``, which is looked at before
    any memory is taken, or are none."""
    import zstandard

    if planes not in (1, 2, 4, 8):
        raise WireError(f"a chunk in {planes} planes; expected 1, 2, 4 or 8")
    try:
        size = zstandard.get_frame_parameters(body).content_size
        if not 0 < size <= most:
            raise WireError(f"a compressed chunk says that it has {size} bytes; expected 1 to {most}")
        raw: bytes = zstandard.ZstdDecompressor().decompress(body, max_output_size=size)
    except zstandard.ZstdError:
        raise WireError("a compressed chunk cannot be read") from None
    if len(raw) != size:
        raise WireError(f"a compressed chunk has {len(raw)} bytes and says {size}")
    if planes == _PLAIN:
        return raw
    whole = size - size % planes
    numbers = np.frombuffer(raw, np.uint8, whole).reshape(planes, -1).T
    return numbers.tobytes() + raw[whole:]


def _packed(planes: int, raw: bytes | memoryview) -> bytes:
    import zstandard

    if planes != _PLAIN:
        whole = len(raw) - len(raw) % planes
        numbers = np.frombuffer(raw, np.uint8, whole).reshape(-1, planes).T
        raw = numbers.tobytes() + bytes(raw[whole:])
    found: bytes = zstandard.ZstdCompressor(level=_LEVEL).compress(raw)
    return found
