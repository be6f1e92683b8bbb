"""The evidence of a run before a validator of RO-Crates, which has an environment of its own (``make rocrate``)."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hanse.evidence.archive import unpack
from hanse.evidence.crate import METADATA

from .federation import Federation

CONTEXT = "https://w3id.org/ro/crate/1.1/context"


def validated(crate: Path, cache: Path) -> dict[str, Any]:
    """What the validator says of what is required. ``HANSE_ROCRATE_CACHE``: a cache of it that has the context, where
    the network is closed."""
    warm = os.environ.get("HANSE_ROCRATE_CACHE", "")
    command = [f"{os.environ['HANSE_ROCRATE']}/rocrate-validator", "validate", "-p", "ro-crate-1.1", "-l", "required"]
    command += ["--no-paging", "--cache-path", warm or str(cache), *(["--offline"] if warm else [])]
    report = cache.with_suffix(".json")
    report.unlink(missing_ok=True)
    command += ["-f", "json", "-o", str(report), str(crate)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    said = done.stdout + done.stderr
    if not report.exists() or "HTTP" in said or "context" in said:
        pytest.skip(f"the context {CONTEXT} cannot be fetched from here: {said[-300:]}")
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def test_a_validator_finds_nothing_that_is_required_missing(tmp_path: Path) -> None:
    if not os.environ.get("HANSE_ROCRATE"):
        pytest.skip("the validator of RO-Crates is not here: make rocrate")

    async def evidence() -> bytes:
        async with Federation(tmp_path / "federation") as f:
            f.people("a", "b")
            for node in ("a", "b"):
                await f.node(node, signs=True, standing="accept")
            run = (await f.propose(purpose="research", model_options={"bytes": 64}))["session_id"]
            assert await f.state(run, "completed", "failed") == "completed"
            return (await f.call("sci", "GET", f"/api/runs/{run}/evidence")).content

    crate = tmp_path / "crate"
    crate.mkdir()
    for name, content in unpack(asyncio.run(evidence())).items():
        (crate / name).write_bytes(content)
    found = validated(crate, tmp_path / "cache")
    assert found["passed"], found["issues"]
    about = json.loads((crate / METADATA).read_text())
    about["@graph"] = [one for one in about["@graph"] if one["@id"] != "./"]
    (crate / METADATA).write_text(json.dumps(about))
    assert not validated(crate, tmp_path / "cache")["passed"]  # it does look
