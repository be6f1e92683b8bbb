"""A node's worker that reads files in small pieces, so that a small file is many times what it holds at once,
and gives up sooner on a column that holds names."""

from __future__ import annotations

from hanse.node import source, worker_main
from hanse.readers import csv, parquet
from hanse.statistics import levels

csv.CHUNK = 256 << 10
parquet.SLICE_BYTES = 1 << 20
source.ROWS = 1 << 12
levels.MOST_VALUES = 1000

if __name__ == "__main__":
    worker_main.main()
