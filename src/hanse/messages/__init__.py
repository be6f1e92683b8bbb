"""What crosses the wire and what rests on disk: named arrays and JSON, in one format.

A **record** is a plain value: JSON data and named arrays. A **message** is a record with an
envelope (kind, id, sender). Both are written as `safetensors
<https://huggingface.co/docs/safetensors>`_: eight bytes of header length, a JSON header (each
array's dtype, shape and place; our JSON in ``__metadata__``), then the raw little-endian buffers
without gaps. There is no pickle and no code in it, and any safetensors reader opens a model that
Hanse stored.

Arrays stand in a canonical order (larger items first, then by name), so the same record is always
the same bytes, and its SHA-256 names it.

On a stream a message travels as **frames**: one BEGIN with the header, then CHUNKs of 1
or 2 MiB, each with its offset and an XXH3 checksum (accidents; TLS is what keeps attackers out).
The receiver decides where the bytes land: memory, a file (``Spool``), shared memory.

Here is the door; behind it, one idea a file: ``strict_json``, ``buffers`` (where arrays lie), ``stacks`` (those of many
records), ``header``, ``records`` (records and messages, and their bytes), ``compression``, ``framing``.
"""

from __future__ import annotations

from hanse.messages.buffers import (
    Allocate,
    Array,
    ArrayPlace,
    Buffer,
    Buffered,
    Layout,
    Memory,
    Placed,
    Spool,
    Under,
    block,
    flat,
)
from hanse.messages.compression import METHOD, SAVING, Packer
from hanse.messages.framing import (
    MAX_MESSAGE_BYTES,
    WHOLE,
    WHOLE_BYTES,
    WHOLE_HEADER_BYTES,
    Assembler,
    Half,
    HalfKey,
    Keeper,
    Repeated,
    Signal,
    Widths,
    announced,
    begin,
    checksum_of,
    chunk_frame,
    edition_by,
    edition_of,
    frames,
    half_of,
    packed_frame,
    parts,
    rest,
    signal,
    signal_of,
)
from hanse.messages.header import MAX_HEADER_BYTES
from hanse.messages.records import (
    CHUNK_BYTES,
    WIRE_VERSION,
    Message,
    Record,
    arrived,
    bound,
    digest,
    dump,
    fingerprint,
    head,
    head_of,
    load,
    mark,
    payload,
    pieces,
    placed_receipt,
    receipt,
)
from hanse.messages.stacks import Row, Stack, Together, each_prefixed, prefixed, under
from hanse.messages.strict_json import MAX_DEPTH, Json, Written, as_it_travels, dumps, in_pieces, loads

__all__ = [
    "CHUNK_BYTES",
    "MAX_DEPTH",
    "MAX_HEADER_BYTES",
    "MAX_MESSAGE_BYTES",
    "METHOD",
    "SAVING",
    "Packer",
    "WHOLE",
    "WHOLE_BYTES",
    "WHOLE_HEADER_BYTES",
    "WIRE_VERSION",
    "Written",
    "Allocate",
    "Array",
    "Assembler",
    "Buffer",
    "Buffered",
    "Half",
    "HalfKey",
    "Keeper",
    "Json",
    "Repeated",
    "Layout",
    "Memory",
    "Message",
    "Placed",
    "ArrayPlace",
    "Record",
    "Row",
    "Signal",
    "Spool",
    "Stack",
    "Together",
    "Widths",
    "announced",
    "arrived",
    "begin",
    "bound",
    "Under",
    "block",
    "checksum_of",
    "chunk_frame",
    "digest",
    "edition_by",
    "edition_of",
    "dump",
    "as_it_travels",
    "dumps",
    "each_prefixed",
    "fingerprint",
    "flat",
    "frames",
    "half_of",
    "head",
    "head_of",
    "in_pieces",
    "load",
    "mark",
    "loads",
    "packed_frame",
    "parts",
    "payload",
    "pieces",
    "placed_receipt",
    "prefixed",
    "receipt",
    "rest",
    "signal",
    "signal_of",
    "under",
]
