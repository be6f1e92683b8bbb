"""The environment of the processes that a node starts beside the data: what they need, and none of its own variables.

Those of a node may hold tokens, passwords and keys, of its own or of what runs beside it.
"""

from __future__ import annotations

import os
from pathlib import Path

import hanse
from hanse import registry
from hanse.flower.installed import VARIABLE as FLOWER
from hanse.thread_limits import threads

# by which whoever runs the node chooses the instructions of linear algebra, from which last bits follow
_INSTRUCTIONS = ("OPENBLAS_CORETYPE", "MKL_CBWR", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES")
# which graphics cards are the node's, as whoever runs it shares the machine out; "" is none of them
_CARDS = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
)
_LIBRARIES = "LD_LIBRARY_PATH"  # where a Python that was built elsewhere finds its own


def environment(most: int) -> dict[str, str]:
    """All that such a process gets to know of ours: no PATH, no HOME, no tokens.

    Args:
        most: threads of its numerical libraries; 0: as many as our own variables say, else one per processor.

    >>> os.environ["HANSE_TOKEN"] = "secret"
    >>> "HANSE_TOKEN" in environment(2), environment(2)["OMP_NUM_THREADS"]
    (False, '2')
    >>> del os.environ["HANSE_TOKEN"]
    """
    every = threads(most or os.cpu_count() or 1)
    return {
        "PYTHONPATH": str(Path(hanse.__file__).parent.parent),
        "PYTHONSAFEPATH": "1",  # nothing is imported from where the owner stands: a folder that somebody sent
        "PYTHONHASHSEED": "0",
        registry.VARIABLE: os.pathsep.join(registry.outside()),
        "LANG": "C.UTF-8",
        "MALLOC_ARENA_MAX": "2",
        **({FLOWER: place} if (place := os.environ.get(FLOWER)) else {}),
        **{name: value if most else os.environ.get(name) or value for name, value in every.items()},
        **{name: os.environ[name] for name in _INSTRUCTIONS if os.environ.get(name)},
        **{name: os.environ[name] for name in _CARDS if name in os.environ},
        **({_LIBRARIES: places} if (places := _libraries()) else {}),
    }


def _libraries() -> str:
    """Without what is relative or empty: that is the folder that the owner stands in."""
    return os.pathsep.join(filter(os.path.isabs, os.environ.get(_LIBRARIES, "").split(os.pathsep)))
