"""So that the tests of this folder find the node that tests/node runs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "node"))
