"""The worker, with the attacks among its algorithms."""

from pathlib import Path

import hanse.algorithms
from hanse.node.worker_main import main

hanse.algorithms.__path__.append(str(Path(__file__).parent))
main()
