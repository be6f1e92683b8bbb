"""Records, messages and frames: exact both ways, and an error for everything else."""

from __future__ import annotations

import json
import struct
import threading
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hanse.errors import Tampered, TooLarge, WireError
from hanse.messages import (
    Assembler,
    Buffered,
    Memory,
    Message,
    Record,
    Signal,
    Spool,
    Under,
    Written,
    arrived,
    as_it_travels,
    block,
    bound,
    digest,
    dump,
    fingerprint,
    frames,
    framing,
    head,
    head_of,
    load,
    loads,
    mark,
    receipt,
    signal,
)
from hanse.messages import header as header_file
from tests.examples import examples

DTYPES = ["<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "i1", "<u8", "<u4", "<u2", "u1", "bool"]
arrays = st.sampled_from(DTYPES).flatmap(
    lambda d: npst.arrays(np.dtype(d), npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
)
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12)
jsons = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
records = st.builds(
    Record,
    st.dictionaries(texts, jsons, max_size=4),
    st.dictionaries(texts.filter(lambda n: n != "__metadata__"), arrays, max_size=5),
)


def test_a_record_is_shown_by_its_names_and_not_by_its_values() -> None:
    """A log shows no values; and asyncio prints the result of a task: that took a third of a run of trees."""
    shown = repr(Record({"rows": 4711}, {"a.weights": np.full(3, 0.8125)}))
    assert "rows" in shown
    assert "a.weights" in shown
    assert "4711" not in shown
    assert "0.8125" not in shown


def same(a: Record, b: Record) -> None:
    assert a.data == b.data
    assert set(a.arrays) == set(b.arrays)
    for name in a.arrays:
        assert a.arrays[name].dtype == b.arrays[name].dtype
        assert a.arrays[name].shape == b.arrays[name].shape
        assert a.arrays[name].tobytes() == b.arrays[name].tobytes()


@given(records)
@examples(60)
def test_dump_and_load_are_inverse(record: Record) -> None:
    raw = dump(record)
    same(record, load(raw))
    assert dump(load(raw)) == raw
    assert digest(load(raw)) == digest(record)


@given(records, st.integers(1, 64))
@examples(60)
def test_frames_and_assembler_are_inverse(record: Record, chunk: int) -> None:
    message = Message("task", "id/1", "node", record)
    for allocate in (None, Spool):
        assembler = Assembler(allocate) if allocate else Assembler()
        arrived = [assembler.feed(f) for f in frames(message, 7, chunk)]
        assert all(a is None for a in arrived[:-1])
        last = arrived[-1]
        assert isinstance(last, Message)
        assert (last.kind, last.id, last.sender) == ("task", "id/1", "node")
        same(record, last.body)
        assert fingerprint(last.body) == fingerprint(record)


@given(records, st.integers(1, 64))
@examples(40)
def test_the_same_content_has_the_same_chunks_and_the_same_mark_wherever_it_lies(record: Record, chunk: int) -> None:
    stored = load(dump(record))  # one stretch of bytes, as it comes from a checkpoint; in memory, an array each
    sent = [list(frames(Message("task", "1", "n", body), 1, chunk)) for body in (record, stored)]
    assert sent[0] == sent[1]
    assert all(len(frame) == 21 + chunk for frame in sent[0][1:-1])


def test_a_mark_tells_other_content_and_other_headers_apart() -> None:
    def mark(kind: str, data: object, values: list[float]) -> str:
        assembler = Assembler()
        for frame in frames(Message(kind, "1", "n", Record({"d": data}, {"x": np.array(values)})), 1, 64):
            assembler.feed(frame)
        return assembler.mark

    base = list(map(float, range(40)))
    assert mark("task", 1, base) == mark("task", 1, list(base))
    others = {mark("task", 1, [*base[:k], -1.0, *base[k + 1 :]]) for k in (0, 20, 39)}
    others |= {mark("task", 2, base), mark("hello", 1, base), mark("task", 1, base[:-1]), mark("task", 1, [])}
    assert len(others | {mark("task", 1, base)}) == 8


def test_a_safetensors_reader_reads_what_we_write() -> None:
    weights = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(3)}
    found = safetensors.numpy.load(dump(Record({"a": 1}, weights)))
    assert set(found) == {"w", "n"}
    np.testing.assert_array_equal(found["w"], weights["w"])


def test_the_order_of_the_arrays_does_not_change_the_bytes() -> None:
    a, b = np.ones(3), np.zeros(2, np.float32)
    assert dump(Record({}, {"a": a, "b": b})) == dump(Record({}, {"b": b, "a": a}))


def test_interleaved_messages() -> None:
    one = Message("reply", "1", "n", Record({}, {"x": np.arange(100.0)}))
    two = Message("reply", "2", "n", Record({}, {"x": np.arange(50.0)}))
    assembler, done = Assembler(), []
    first, second = list(frames(one, 1, 64)), list(frames(two, 2, 64))
    while first or second:
        for queue in (first, second):
            if queue:
                done.append(assembler.feed(queue.pop(0)))
    found = {m.id: m for m in done if isinstance(m, Message)}
    same(found["1"].body, one.body)
    same(found["2"].body, two.body)


def test_a_block_is_read_without_the_rest() -> None:
    assembler = Assembler(Spool)
    x = np.arange(10_000, dtype=np.float32).reshape(100, 100)
    arrived = [assembler.feed(f) for f in frames(Message("m", "i", "", Record({}, {"x": x})), 1, 1000)][-1]
    assert isinstance(arrived, Message)
    assert isinstance(arrived.body.arrays, Buffered)
    np.testing.assert_array_equal(block(arrived.body.arrays, "x", 150, 250), np.arange(150, 250, dtype=np.float32))


def test_what_a_receiver_gets_is_read_only() -> None:
    arrived = Assembler().feed(next(iter(frames(Message("m", "i", "", Record({}, {})), 1))))
    assert isinstance(arrived, Message)
    record = load(dump(Record({}, {"x": np.ones(3)})))
    with pytest.raises(ValueError, match="read-only"):
        record.arrays["x"][0] = 2


def big() -> list[bytes]:
    return list(frames(Message("m", "i", "", Record({}, {"x": np.arange(1000.0)})), 1, 1000))


def test_a_changed_byte_is_noticed() -> None:
    sent = big()
    sent[2] = sent[2][:-1] + bytes([sent[2][-1] ^ 1])
    assembler = Assembler()
    assembler.feed(sent[0])
    assembler.feed(sent[1])
    with pytest.raises(Tampered, match="checksum"):
        assembler.feed(sent[2])
    with pytest.raises(WireError, match="not begun"):
        assembler.feed(sent[3])


def test_lost_repeated_and_swapped_chunks_are_noticed() -> None:
    for order in ([0, 2], [0, 1, 1], [0, 1, 3], [1], [0, 0]):
        sent, assembler = big(), Assembler()
        with pytest.raises(WireError):
            for i in order:
                assembler.feed(sent[i])


def test_too_large_is_refused_before_anything_is_allocated() -> None:
    def never(nbytes: int) -> Spool:
        raise AssertionError("allocated")

    with pytest.raises(TooLarge, match="over the limit of 100"):
        Assembler(never, limit=100).feed(big()[0])


def header(table: object, stream: int = 1, nbytes: int = 0) -> bytes:
    return struct.pack("<BIQQ", 1, stream, nbytes, 0) + json.dumps(table).encode()


META = {"hanse": "1", "kind": "k", "id": "i", "sender": "s", "data": "{}"}


@pytest.mark.timeout(20)  # it was quadratic: hours
def test_a_name_that_stands_twice_among_many_is_found_at_once() -> None:
    text = "{" + ",".join(f'"k{i}":0' for i in range(400_000)) + ',"k399999":1}'
    with pytest.raises(WireError, match="'k399999' stands twice"):
        loads(text)


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (b"", "empty"),
        (b"\x09abc", "unknown frame type 9"),
        (b"\x01", "cut off"),
        (b"\x02\x00", "cut off"),
        (b"\x03{}", "signal"),
        (b"\x03[1,2]", "signal"),
        (header([]), "not a JSON object"),
        (header({}), "version None"),
        (header({"__metadata__": {**META, "hanse": "99"}}), "version '99'"),
        (header({"__metadata__": {**META, "data": "[1]"}}), "JSON object"),
        (header({"__metadata__": {**META, "data": '{"a": NaN}'}}), "NaN"),
        (header({"__metadata__": {**META, "data": '{"a": 1, "a": 2}'}}), "twice"),
        (header({"__metadata__": {"hanse": 1}}), "object of strings"),
        (header({"x": {"dtype": "F8", "shape": [1], "data_offsets": [0, 8]}}), "unknown dtype 'F8'"),
        (header({"x": {"dtype": ["F64"], "shape": [1], "data_offsets": [0, 8]}}), "unknown dtype"),
        (header({"x": {"dtype": "F64", "shape": [-1], "data_offsets": [0, 8]}}), "whole numbers"),
        (header({"x": {"dtype": "F64", "shape": [2], "data_offsets": [0, 8]}}), "need 16"),
        (header({"x": {"dtype": "F64", "shape": [1], "data_offsets": [8, 16]}}), "expected 0"),
        (header({"x": {"dtype": "F64", "shape": [True], "data_offsets": [0, 8]}}), "whole numbers"),
        (header({"x": 3}), "expected dtype"),
        (header({"x": {"dtype": "F64", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}), "need"),
        (header({"__metadata__": META}, nbytes=9), "announces 9"),
        (struct.pack("<BIQQ", 1, 1, 0, 0) + b"{" * 5000, "not JSON"),
        (struct.pack("<BIQQ", 1, 1, 0, 0) + b"[" * 100_000, "not JSON"),
        (struct.pack("<BIQQ", 1, 1, 0, 0) + b"\xff\xfe", "not JSON"),
    ],
)
def test_garbage_is_a_clear_error(frame: bytes, says: str) -> None:
    with pytest.raises(WireError, match=says):
        Assembler().feed(frame)


@given(st.binary(max_size=200))
@examples(80)
def test_random_bytes_never_do_anything_but_raise_a_wire_error(raw: bytes) -> None:
    for take in (Assembler().feed, load):
        try:
            take(raw)
        except WireError:
            continue


@given(st.integers(0, 400), st.integers(0, 255))
@examples(80)
def test_a_flipped_byte_in_a_file_is_an_error_or_another_record(at: int, value: int) -> None:
    raw = bytearray(dump(Record({"a": [1, 2]}, {"x": np.arange(20.0)})))
    raw[at % len(raw)] = value
    try:
        load(bytes(raw))
    except WireError:
        pass


def test_many_half_messages_are_refused() -> None:
    assembler = Assembler()
    with pytest.raises(WireError, match="64"):
        for stream in range(100):
            assembler.feed(next(iter(frames(Message("m", "i", "", Record({}, {"x": np.ones(9)})), stream, 8))))


def test_signals() -> None:
    assert Assembler().feed(signal("ack", "run/1/ü")) == Signal("ack", "run/1/ü")
    for bad, says in (
        (b"\x03", "cut off"),
        (signal("go", "m", 7)[:9], "cut off"),
        (signal("go", "m") + b"\xff", "no text"),
    ):
        with pytest.raises(WireError, match=says):
            Assembler().feed(bad)


def small(numbers: int = 9) -> tuple[Message, bytes]:
    message = Message(
        "reply", "i", "n", Record({"a": "é"}, {"x": np.arange(float(numbers)), "y": np.array([1, 2], "i1")})
    )
    (frame,) = frames(message, 3)
    return message, frame


def test_a_small_message_is_one_frame_and_says_the_same_as_one_of_several() -> None:
    message, frame = small()
    pieces = list(frames(message, 3, 8))
    assert len(pieces) > 2
    for sent in ([frame], pieces):
        assembler = Assembler(receipts=True)
        came_in = [assembler.feed(f) for f in sent][-1]
        assert isinstance(came_in, Message)
        assert (came_in.kind, came_in.id, came_in.sender) == ("reply", "i", "n")
        assert dump(came_in.body) == dump(message.body)
        assert came_in.body.arrays.receipt == receipt(message.body)  # type: ignore[attr-defined]
        assert assembler.came == message.body.nbytes
    cut = memoryview(b"-" + frame)[1:]  # as a carrier may give it: the numbers lie aligned all the same
    assembler = Assembler()
    came_in = assembler.feed(cut)  # type: ignore[arg-type]
    assert isinstance(came_in, Message)
    assert came_in.body.arrays["x"].flags.aligned
    assert not came_in.body.arrays["x"].flags.writeable
    again, other = Assembler(), Assembler()
    again.feed(frame)
    other.feed(small(8)[1])
    assert assembler.mark == again.mark != other.mark


@pytest.mark.parametrize("pieces", [3, 100])
def test_the_receipt_of_a_large_message_is_made_in_a_thread_and_is_the_same(
    pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "LARGE_BYTES", 1)
    message = Message("reply", "i", "n", Record({"a": 1}, {"x": np.arange(10_000.0)}))
    sent, assembler = [*frames(message, 3, 80_000 // pieces)], Assembler(receipts=True)
    assert len(sent) > pieces
    for frame in sent:
        came_in = assembler.feed(frame)
    assert isinstance(came_in, Message)
    assert came_in.body.arrays.receipt == receipt(message.body)  # type: ignore[attr-defined]
    assert any(thread.name.startswith("hanse-hashes") for thread in threading.enumerate())


def test_whatever_is_changed_of_a_message_of_one_frame_is_told() -> None:
    _, frame = small()
    for place in range(5, len(frame)):  # type and stream are another message's
        if 9 > place >= 5 or 12 <= place < 16:
            continue  # nothing stands there
        bad = bytearray(frame)
        bad[place] ^= 1
        with pytest.raises(WireError):
            Assembler().feed(bytes(bad))
    for length in range(1, len(frame)):
        with pytest.raises(WireError):
            Assembler().feed(frame[:length])


def test_a_message_of_one_frame_is_no_way_around_limits() -> None:
    message, frame = small()
    with pytest.raises(WireError, match="announces"):
        Assembler(limit=message.body.nbytes - 1).feed(frame)
    with pytest.raises(WireError, match="the largest has 16384"):
        Assembler().feed(frame + bytes(1 << 15))
    large = list(frames(Message("m", "i", "", Record({}, {"x": np.zeros(2048)})), 1))
    assert [f[0] for f in large] == [1, 2]
    long = list(frames(Message("m", "i", "", Record({"a": "x" * (16 << 10)}, {"x": np.zeros(2)})), 1))
    assert [f[0] for f in long] == [1, 2]
    begun = Assembler()
    begun.feed(next(frames(message, 3, 8)))
    with pytest.raises(WireError, match="begins twice"):
        begun.feed(frame)


@pytest.mark.parametrize("bad", [np.array(["a"]), np.array([1 + 2j]), np.array([None]), np.array(["2020"], "M8[D]")])
def test_types_that_do_not_travel(bad: np.ndarray) -> None:
    with pytest.raises(WireError, match="does not travel"):
        dump(Record({}, {"x": bad}))


@pytest.mark.parametrize("bad", [{"a": float("nan")}, {"a": float("inf")}, {"a": object()}])
def test_data_that_is_not_json(bad: dict[str, object]) -> None:
    with pytest.raises(WireError, match="not JSON"):
        dump(Record(bad))


def test_big_endian_and_strided_arrays_travel_as_their_values() -> None:
    x = np.arange(12.0).reshape(3, 4)
    record = Record({}, {"big": x.astype(">f8"), "t": x.T, "s": x[:, ::2]})
    found = load(dump(record))
    for name in record.arrays:
        np.testing.assert_array_equal(found.arrays[name], record.arrays[name])


@pytest.mark.parametrize(
    "text",
    ["1e999", "-1e999", "1" * 400, '"\\ud800"', '{"\\udc00": 1}', "[" * 100 + "]" * 100, '{"a":' * 80 + "1" + "}" * 80],
)
def test_json_that_could_not_be_written_again_is_refused(text: str) -> None:
    """Numbers out of range, half characters and deep nesting would otherwise break whoever stores or shows them."""
    with pytest.raises(WireError):
        loads(text)
    assert loads('["\\ud83d\\ude00", 1e308, 12345678901234567890]') == ["\U0001f600", 1e308, 12345678901234567890]


@pytest.mark.parametrize("shape", [[1] * 70, [0] * 70, [2**61, 0], [2**40, 2**40, 0]])
def test_shapes_that_no_array_can_have_are_refused_with_the_header(shape: list[int]) -> None:
    """They cost no bytes, and would raise only where somebody looks at the array."""
    nbytes = 0 if 0 in shape else 4
    table = {
        "__metadata__": {"hanse": "1", "data": "{}"},
        "x": {"dtype": "F32", "shape": shape, "data_offsets": [0, nbytes]},
    }
    head = json.dumps(table).encode()
    with pytest.raises(WireError, match="shape"):
        load(struct.pack("<Q", len(head)) + head + bytes(nbytes))


GOOD = json.dumps({"kind": "k", "id": "i", "sender": "s", "hanse": "1", "data": "{}"}, separators=(",", ":"))
PLACES = ',"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(
    ("metadata", "after", "says"),
    [
        (GOOD[:-1] + ',"kind":"other"}', PLACES, "twice"),
        (GOOD[:-1] + ',"more":1}', PLACES, "object of strings"),
        (GOOD[:-1] + ',"more":{"a":[]}}', PLACES, "object of strings"),
        (GOOD[:-1] + ',"more":"\\ud800"}', PLACES, "not JSON"),
        (GOOD, ',"__metadata__":{}' + PLACES, "twice"),
        (GOOD, PLACES.replace("[4]", "[4.0]"), "whole numbers"),
        (GOOD, PLACES.replace("[4]", "[true]"), "whole numbers"),
        (GOOD, PLACES + "}", "not JSON"),
        (GOOD, PLACES[:-1], "not JSON"),
        (GOOD, PLACES + " x", "not JSON"),
        (GOOD[:-1], PLACES, "not JSON"),
        (f'{GOOD},"y":{GOOD}', PLACES, "expected dtype"),
        ("[]", PLACES, "object of strings"),
    ],
)
def test_what_is_known_of_a_header_excuses_nothing_in_the_next(metadata: str, after: str, says: str) -> None:
    def begin(metadata: str, after: str) -> bytes:
        return struct.pack("<BIQQ", 1, 1, 4, 0) + f'{{"__metadata__":{metadata}{after}'.encode()

    assert Assembler().feed(begin(GOOD, PLACES)) is None
    with pytest.raises(WireError, match=says):
        Assembler().feed(begin(metadata, after))
    assert Assembler().feed(begin(GOOD, PLACES)) is None


def test_a_header_that_was_read_before_is_read_the_same_again() -> None:
    for value in ("a", "b", 'quotes " and \n lines', "ü"):
        record = Record({"value": value}, {"x": np.arange(3, dtype=np.int16), "ä": np.ones((2, 0), bool)})
        found = load(dump(record))
        assert found.data == record.data
        assert {n: (a.dtype, a.shape) for n, a in found.arrays.items()} == {
            n: (a.dtype, a.shape) for n, a in record.arrays.items()
        }


@given(jsons, st.dictionaries(texts.filter(lambda name: name != "__metadata__"), arrays, max_size=3))
@examples(40)
def test_a_header_is_plain_json_in_one_order(value: object, named: dict[str, object]) -> None:
    record = Record({"value": value}, named)  # type: ignore[arg-type]
    raw = dump(record)
    (length,) = struct.unpack("<Q", raw[:8])
    data = json.dumps(record.data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    table: dict[str, object] = {"__metadata__": {"hanse": "1", "data": data}}
    offset = 0
    codes = {"f": "F", "i": "I", "u": "U"}
    for name in sorted(record.arrays, key=lambda n: (-record.arrays[n].dtype.itemsize, n)):
        array = record.arrays[name]
        code = "BOOL" if array.dtype.kind == "b" else f"{codes[array.dtype.kind]}{8 * array.dtype.itemsize}"
        table[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    assert raw[8 : 8 + length] == text + b" " * (-len(text) % 8)


def test_what_contains_itself_cannot_travel() -> None:
    endless: dict[str, object] = {}
    endless["again"] = [endless]
    with pytest.raises(WireError, match="not JSON"):
        dump(Record(endless))
    assert load(dump(Record({"after": 1}))).data == {"after": 1}


@given(records)
def test_what_came_in_is_passed_on_as_it_came_and_hashed_by_what_it_says(record: Record) -> None:
    came = arrived(head(Message("task", "1", "me", Record(record.data))), Memory).body
    assert as_it_travels(came.data) == as_it_travels(record.data)
    assert arrived(head(Message("task", "2", "me", came)), Memory).body.data == record.data
    assert digest(came) == digest(Record(record.data))


def test_the_header_of_what_came_is_passed_on_where_it_says_the_same() -> None:
    """A worker is handed the header that the coordinator wrote, as long as nothing of it was replaced on the way."""
    sent = Message("task", "run-1/7", "coordinator", Record({"b": 1, "a": [2.5, "é"]}, {"x": np.arange(4.0)}))
    [frame] = frames(sent, 2)
    came = Assembler().feed(frame)
    assert isinstance(came, Message)
    passed = Message("task", "", "", came.body)
    assert bytes(head_of(passed)) in frame
    again = arrived(head_of(passed), lambda nbytes: Memory(nbytes, memoryview(came.body.arrays.raw(0, nbytes))))
    assert (again.kind, again.body.data, [*again.body.arrays["x"]]) == ("task", sent.body.data, [0, 1, 2, 3])
    for other in (
        Message("bundle", "", "", came.body),
        Message("task", "", "", Record({**came.body.data}, came.body.arrays)),
        Message("task", "", "", Record(came.body.data, {**came.body.arrays})),
    ):
        assert head_of(other) == head(other) != bytes(head_of(passed))
    [reply] = frames(Message("reply", "run-1/7", "node", sent.body), 3)  # a reply goes out under names of its own
    other_way = Assembler().feed(reply)
    assert isinstance(other_way, Message)
    assert head_of(other_way) == head(other_way)


def test_another_order_of_names_is_passed_on_and_gives_the_same_hash() -> None:
    text = head(Message("task", "1", "me", Record({"a": 1, "b": 2})))
    other = text.replace(rb"{\"a\":1,\"b\":2}", rb"{\"b\":2,\"a\":1}")
    assert other != text
    came = arrived(other, Memory).body
    assert as_it_travels(came.data) == '{"b":2,"a":1}'
    assert digest(came) == digest(Record({"a": 1, "b": 2}))


def test_whether_an_array_is_there_is_told_without_reading_it() -> None:
    class Unread(Memory):
        def read(self, offset: int, nbytes: int) -> memoryview:
            raise AssertionError("it was read")

    given = arrived(head(Message("task", "1", "me", Record({}, {"x": np.zeros(3)}))), Unread).body.arrays
    assert "x" in given
    assert "y" not in given
    assert "x" in Under({"a.x": given}, "a.")


def test_a_mark_is_blake3_of_the_canonical_bytes() -> None:
    record = Record({"a": [1, None]}, {"x": np.arange(300_000.0), "i": np.array(3)})
    assert mark(record) == blake3(dump(record)).hexdigest()
    marks = {mark(Record(data, arrays)) for data in ({}, {"a": 1}) for arrays in ({}, {"x": np.zeros(3)})}
    assert len(marks) == 4
    # the empty input of the reference's test vectors
    assert blake3(b"").hexdigest() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


@pytest.mark.parametrize("value", [None, {"name": 'a "ward"', "rows": 3}, ["\\", "\n", "é", "\u2028", "\0"]])
def test_what_many_get_with_a_name_of_their_own_travels_as_if_it_were_written_anew(value: object) -> None:
    common = {"text": 'code = "\\n"\t# é \u2028', "run": "r", "sha256": "0" * 64}
    shared = Written(common)
    made = Message("proposal", "p", "c", Record(shared.headed("dataset", value)))
    plain = Message("proposal", "p", "c", Record({**common, "dataset": value}))
    assert next(frames(made, 2)) == next(frames(plain, 2))
    assert head(made) == head(plain)
    assert dump(made.body) == dump(plain.body)
    with pytest.raises(ValueError, match="does not stand before"):
        shared.headed("sha", value)


def test_what_many_get_is_held_once_however_many_they_are() -> None:
    shared = Written({"text": "é" * 100_000})
    shared.headed("dataset", None).quoted  # noqa: B018  what is common is written
    tracemalloc.start()
    try:
        kept = [shared.headed("dataset", str(node)) for node in range(50)]
        assert all(len(one.quoted) > 100_000 < len(one.text) for one in kept)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000


def test_what_is_bound_is_the_purpose_and_all_of_a_record() -> None:
    base = Record({"a": 1}, {"x": np.zeros(3), "y": np.zeros(0)})
    others = [
        Record({"a": 2}, base.arrays),
        Record({"a": 1}, {"x": np.array([0, 0, 1.0]), "y": np.zeros(0)}),
        Record({"a": 1}, {"x": np.zeros(3), "z": np.zeros(0)}),
        Record({"a": 1}, {"x": np.zeros((3, 1)), "y": np.zeros(0)}),
        Record({"a": 1}, {"x": np.zeros(3), "y": np.zeros(0, np.int64)}),
        Record({"a": 1}, {'x","y': np.zeros(3)}),
        Record({"a": 1}, {"x\0y": np.zeros(3)}),
    ]
    assert len({bound(b"p", record) for record in [base, *others]} | {bound(b"q", base)}) == 9
    assert bound(b"p", load(dump(base))) == bound(b"p", base)
    large = Record({}, {"x": np.arange(400_000.0), "y": np.arange(10)})
    assert bound(b"p", load(dump(large))) == bound(b"p", large)


def test_a_header_is_read_once_of_each_of_many_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The levels of trees have a hundred, in turn; what is remembered of long ones has a limit, too."""
    read: list[str] = []
    whole = header_file._read_all
    monkeypatch.setattr(header_file, "_known", {})
    monkeypatch.setattr(header_file, "_read_all", lambda text: (read.append(text), whole(text))[1])
    heads = [head(Message("task", "1", body=Record({}, {"a": np.zeros(size)}))) for size in range(150)]
    for _ in range(2):
        for size, text in enumerate(heads):
            assert header_file.read_header(text)[0].nbytes == 8 * size
    assert len(read) == 150
    for size in range(100):
        long = Record({}, {"a" * (60 << 10): np.zeros(size)})
        header_file.read_header(head(Message("task", "1", body=long)))
        assert sum(map(len, header_file._known)) <= 4 << 20
    assert header_file._known
