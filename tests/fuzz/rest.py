"""The coordinator's REST interface, by its own OpenAPI (schemathesis), in the name of every role: never a status of 500
or more."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from demo.federation import Federation

ROLES = ("operator", "data_owner", "data_scientist", "nobody")


def fuzz_rest(folder: Path, seconds: float, seed: int) -> tuple[list[str], int]:
    """What failed, and how many requests were made."""
    found: list[str] = []
    tried = 0
    with Federation(folder / "f") as federation:
        for role in ROLES:
            token = "none" if role == "nobody" else federation.account(f"fuzz-{role}", role)
            said, status = _schemathesis(federation.url, token, seconds / len(ROLES), seed)
            failures, requests = _read(said)
            tried += requests
            found += [f"{role}: {failure}" for failure in failures]
            if not requests or (status and not failures):
                found.append(f"{role}: schemathesis ended with {status} after {requests} requests:\n{said[-3000:]}")
        alive = federation.rest("GET", "/health")
        if alive.get("status") not in ("ok", "healthy", "alive"):
            found.append(f"afterwards the coordinator says {alive}")
    log = (folder / "f" / "coordinator.log").read_text(errors="replace")
    found += [f"in the coordinator's log: {line}" for line in log.splitlines() if "Traceback" in line][:3]
    return found, tried


def _schemathesis(url: str, token: str, seconds: float, seed: int) -> tuple[str, int]:
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{url}/openapi.json",
        "--header",
        f"Authorization: Bearer {token}",
        "--checks",
        "not_a_server_error",
        "--phases",
        "coverage,fuzzing",
        "--max-time",
        str(max(5, int(seconds))),
        "--seed",
        str(seed),
        "--continue-on-failure",
        "--request-timeout",
        "20",
        "--exclude-path",
        "/api/events/stream",  # it never ends
        "--no-color",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds * 3 + 120, check=False)
    return done.stdout + done.stderr, done.returncode


def _read(said: str) -> tuple[list[str], int]:
    requests = sum(int(n) for n in re.findall(r"(\d+) generated", said))
    failures = re.findall(r"^\s*- (Server error|Response timeout[^\n]*|Network Error[^\n]*)", said, re.MULTILINE)
    places = re.findall(r"^_{3,} (.+?) _{3,}", said, re.MULTILINE)
    curls = re.findall(r"curl [^\n]+", said)
    return [
        f"{what} at {', '.join(places[:10])}: {' '.join(curls[:2])[:500]}" for what in dict.fromkeys(failures)
    ], requests
