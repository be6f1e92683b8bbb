"""Bundles of runs as the database keeps them: code that many runs have in common is there once.

A bundle is the settings of a run and the code that will run: a quarter of a megabyte, the same for all runs of one kind
on one release. The code is kept by the hash of its canonical JSON, packed, and the rest with the run.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from hanse.messages import Json, dumps, loads
from hanse.store.schema import codes


def put(connection: Connection, bundle: Mapping[str, Json]) -> dict[str, Any]:
    """The values of a run's columns that stand for the bundle; its code is kept, if it is not there already."""
    if not isinstance(bundle.get("code"), dict):
        return {"bundle": dict(bundle), "code": None}
    raw = dumps(bundle["code"]).encode()
    sha256 = hashlib.sha256(raw).hexdigest()
    if connection.execute(select(codes.c.sha256).where(codes.c.sha256 == sha256)).first() is None:
        connection.execute(insert(codes).values(sha256=sha256, packed=zlib.compress(raw)))
    return {"bundle": {key: value for key, value in bundle.items() if key != "code"}, "code": sha256}


def whole(connection: Connection, bundle: Mapping[str, Json], code: str | None) -> dict[str, Json]:
    """The bundle that these values stand for."""
    if code is None:
        return dict(bundle)
    packed = connection.execute(select(codes.c.packed).where(codes.c.sha256 == code)).scalar_one()
    return {**bundle, "code": loads(zlib.decompress(packed))}
