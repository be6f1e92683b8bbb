"""Statistics: one file each, all of its halves together (:class:`hanse.queries.Statistic`).

A file has ``STATISTIC``. The folder is the registry: a statistic is added by adding its file.
"""

from __future__ import annotations
