"""What a message of Flower holds comes through bit for bit, and what does not travel is named (``make flower``)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hanse.errors import NodeFailed, WireError
from hanse.flower.installed import flower
from hanse.flower.parcels import numbers, packed, unpacked
from hanse.messages import Record, dump

pytestmark = [pytest.mark.flower, pytest.mark.filterwarnings("ignore")]


def test_every_kind_of_value_comes_through() -> None:
    app = flower()
    arrays = [np.arange(6).reshape(2, 3).astype(d) for d in ("?", "u1", "i2", "<i8", "f2", "f4", "f8")]
    arrays += [np.array(math.nan), np.zeros((0, 4)), np.arange(6.0).reshape(2, 3).T, np.arange(3, dtype=">f8")]
    metrics = {"n": 3, "x": 0.1 + 0.2, "bad": math.nan, "far": -math.inf, "many": [1, 2], "some": [0.5, math.inf]}
    config = {"b": True, "t": "ä", "raw": b"\x00\xff", "list": ["a", "b"], "raws": [b"", b"x"], "no": [], "i": 1 << 62}
    content = app.RecordDict(
        {
            "w": app.ArrayRecord(arrays),
            "m": app.MetricRecord(metrics),
            "c": app.ConfigRecord(config),
            "": app.ArrayRecord([]),
        }
    )
    found = unpacked(packed(content))
    assert [*found] == [*content]
    assert {type(found[name]) for name in "wmc"} == {app.ArrayRecord, app.MetricRecord, app.ConfigRecord}
    for one, other in zip(arrays, found["w"].to_numpy_ndarrays(), strict=True):
        assert (other.dtype, other.shape) == (one.dtype.newbyteorder("<"), one.shape)
        np.testing.assert_array_equal(one, other)
    assert repr(dict(found["m"])) == repr(metrics)
    assert [type(value) for value in found["m"].values()] == [type(value) for value in metrics.values()]
    assert dict(found["c"]) == config
    assert packed(found).tobytes() == packed(content).tobytes()
    assert numbers(content) == {"n": 3, "x": 0.1 + 0.2}


def test_what_does_not_travel_is_named() -> None:
    app = flower()
    for array, said in ((np.array(["x"]), "does not travel"), (np.array([1j]), "does not travel")):
        with pytest.raises(NodeFailed, match=said):
            packed(app.RecordDict({"w": app.ArrayRecord([array])}))
    odd = app.Array(dtype="x", shape=(1,), stype="pickle", data=b"cos\nsystem\n(S'id'\ntR.")
    with pytest.raises(NodeFailed, match="of the kind 'pickle' does not travel"):
        packed(app.RecordDict({"w": app.ArrayRecord({"0": odd})}))
    objects = app.Array(dtype="object", shape=(1,), stype="numpy.ndarray", data=b"\x93NUMPY no")
    with pytest.raises(NodeFailed, match="cannot be read"):
        packed(app.RecordDict({"w": app.ArrayRecord({"0": objects})}))


@pytest.mark.parametrize(
    "records",
    [None, [["w"]], [["w", "arrays", [["0", "none"]]]], [["m", "metrics", [["x", {"nan": 1}]]]], [["m", "x", []]], 3],
)
def test_what_is_no_message_is_refused(records: object) -> None:
    raw = dump(Record({"records": records} if records is not None else {}))
    with pytest.raises(WireError):
        unpacked(np.frombuffer(raw, np.uint8))
