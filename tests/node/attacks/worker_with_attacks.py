"""The worker, with the attacks among its algorithms."""

from pathlib import Path

import hanse.algorithms
from hanse.node.worker_main import main

if __name__ == "__main__":
    hanse.algorithms.__path__.append(str(Path(__file__).parent))
    main()
