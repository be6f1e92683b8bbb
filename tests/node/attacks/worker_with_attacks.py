"""The worker, with the attacks among its algorithms, and a plain gather of several exchanges."""

from pathlib import Path

import hanse.algorithms
from hanse import large_arrays
from hanse.gathering.plain import Plain
from hanse.node.worker_main import main

if __name__ == "__main__":
    hanse.algorithms.__path__.append(str(Path(__file__).parent))
    once = Plain.reply
    Plain.reply = lambda self, op, *more: once(self, "answer", *more)
    large_arrays.SHARED_BYTES = large_arrays.LARGE_BYTES - 1  # as if these were of gigabytes
    main()
