"""How many threads the numerical libraries of a child process take, as its environment tells them."""

from __future__ import annotations

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS")


def threads(count: int) -> dict[str, str]:
    """The variables that say so.

    >>> threads(2)["OMP_NUM_THREADS"]
    '2'
    """
    return dict.fromkeys(VARIABLES, str(count))
