"""Mutates inputs that are sound, and tries what becomes of them: bytes that are flipped, cut, doubled, exchanged
between inputs, and words that formats mean something by."""

from __future__ import annotations

import hashlib
import random
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hanse.errors import HanseError

HANG_S = 20
_WORDS = (
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"\xff" * 8,
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"\\u0000",
    b"\\ud800",
    b"\xf0\x9f\x98\x80",
    b"\xc3\x28",
    b"\n",
    b"\r",
    b",",
    b'"',
    b"'",
    b"[" * 400,
    b'{"a":' * 300,
    b"9" * 400,
    b"../../etc/passwd",
    b"%s%n",
    b"<",
    b"&a *a",
    b"!!python/object",
    b"\xef\xbb\xbf",
)


@dataclass(frozen=True, slots=True)
class Target:
    """What is tried: ``run`` may raise an error of Hanse, and nothing else. ``close`` ends what it has started."""

    corpus: Sequence[bytes]
    run: Callable[[bytes], object]
    close: Callable[[], None] = lambda: None


def fuzz(name: str, target: Target, seconds: float, seed: int, keep: Path) -> tuple[list[str], int]:
    """What failed, once for each place in the code, and how many inputs were tried."""
    rng, found, tried = random.Random(f"{name}/{seed}"), dict[str, str](), 0
    end = time.monotonic() + seconds
    for raw in mutants(target.corpus, rng):
        if time.monotonic() > end:
            break
        tried += 1
        if said := failure(target.run, raw):
            place = _place(said)
            if place not in found:
                keep.mkdir(parents=True, exist_ok=True)
                file = keep / f"{name}-{hashlib.sha256(raw).hexdigest()[:12]}"
                file.write_bytes(raw)
                found[place] = f"{place}: {said.splitlines()[-1][:300]} ({file})"
    return list(found.values()), tried


def failure(run: Callable[[bytes], object], raw: bytes) -> str:
    """The traceback of what is no error of Hanse; "" where there is none."""
    try:
        with _bounded(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run(raw)
    except HanseError:
        return ""
    except KeyboardInterrupt:
        raise
    except BaseException:  # a panic of a library in Rust is no Exception
        return traceback.format_exc()
    return ""


def _place(traceback_text: str) -> str:
    """The line of ours that is the last in a traceback, and the class of the error."""
    lines = traceback_text.splitlines()
    ours = [line.strip() for line in lines if "/hanse/" in line and line.lstrip().startswith("File")]
    return f"{(ours or ['?'])[-1]} {lines[-1].partition(':')[0]}"


def mutants(corpus: Sequence[bytes], rng: random.Random) -> Iterator[bytes]:
    """Without end: first what is sound, then what was made of it."""
    yield from corpus
    while True:
        raw = bytearray(rng.choice(corpus))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            _change(raw, corpus, rng)
        yield bytes(raw)


def _change(raw: bytearray, corpus: Sequence[bytes], rng: random.Random) -> None:
    if not raw:
        raw += rng.choice(_WORDS)
        return
    at, kind = rng.randrange(len(raw)), rng.randrange(8)
    until = min(len(raw), at + 1 + int(rng.expovariate(0.1)))
    if kind == 0:
        raw[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        raw[at] = rng.randrange(256)
    elif kind == 2:
        del raw[at:until]
    elif kind == 3:
        raw[at:at] = raw[at:until] * rng.choice((1, 2, 50))
    elif kind == 4:
        raw[at:at] = rng.choice(_WORDS)
    elif kind == 5:
        raw[at:until] = rng.choice(_WORDS)
    elif kind == 6:
        del raw[at:]
    else:
        other = rng.choice(corpus)
        start = rng.randrange(len(other) + 1)
        raw[at:until] = other[start : start + int(rng.expovariate(0.02))]


@contextmanager
def _bounded() -> Iterator[None]:
    def late(_: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it took more than {HANG_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
