import gc
import platform
import subprocess
import sys

import pytest

from hanse import allocator


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_glibc_keeps_what_was_freed() -> None:
    # Thirty buffers of a mebibyte, again and again: as glibc comes, each of them is mapped and cleared anew.
    program = """
import resource, sys
from hanse.allocator import keep_warm
if sys.argv[1] == "warm":
    assert keep_warm()
def use():
    for _ in range(20):
        held = [b"x" * (1 << 20) for _ in range(30)]
        del held
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        how: int(
            subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True, check=True).stdout
        )
        for how in ("warm", "cold")
    }
    assert faults["warm"] < faults["cold"] / 4, faults


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Musl:
        def __getattr__(self, name: str) -> object:
            raise AttributeError(name)

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: Musl())
    assert allocator.keep_warm() is False


def test_the_collector_rests_while_a_process_loads_and_then_looks_at_what_came_after() -> None:
    program = """
import gc
from hanse.allocator import pause_collector, settle
pause_collector()
before = gc.get_stats()[0]["collections"]
held = [[] for _ in range(50_000)]
print(gc.get_stats()[0]["collections"] - before)
settle()
print(gc.get_freeze_count() >= 50_000, len(gc.get_objects()) < 50_000)
before = gc.get_stats()[0]["collections"]
more = [[] for _ in range(50_000)]
print(gc.get_stats()[0]["collections"] > before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True", "True", "True"]


def test_the_collector_looks_less_often_while_anybody_wants_so() -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(700, 10, 10)
        with allocator.collecting_less():
            with allocator.collecting_less():
                assert gc.get_threshold() == (10_000, 10, 10)
            assert gc.get_threshold() == (10_000, 10, 10)
        assert gc.get_threshold() == (700, 10, 10)
        with allocator.collecting_less():
            gc.set_threshold(5, 5, 5)  # somebody else's choice, meanwhile
        assert gc.get_threshold() == (5, 5, 5)
        for own in ((0, 10, 10), (20_000, 1, 1)):  # not at all, and less often still
            gc.set_threshold(*own)
            with allocator.collecting_less():
                assert gc.get_threshold() == own
            assert gc.get_threshold() == own
    finally:
        gc.set_threshold(*before)
