"""``python -m tests.fuzz --seconds 600 --seed 1 [TARGET ...]``: each target in turn, for its share of the time."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from .rest import fuzz_rest
from .targets import TARGETS
from .tried import fuzz


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="where inputs that fail are put")
    parser.add_argument("targets", nargs="*", help=f"of: rest, {', '.join(TARGETS)}; all where none is named")
    given = parser.parse_args()
    named = given.targets or ["rest", *TARGETS]
    share = given.seconds / len(named)
    bad = 0
    for name in named:
        with tempfile.TemporaryDirectory() as folder:
            if name == "rest":
                found, tried = fuzz_rest(Path(folder), share, given.seed)
            else:
                target = TARGETS[name](Path(folder))
                with closing(target):
                    found, tried = fuzz(name, target, share, given.seed, given.keep)
        print(f"{name}: {tried} inputs in {share:.0f} s, {len(found)} that fail", flush=True)
        for one in found:
            print(f"  {one}", flush=True)
        bad += len(found)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
