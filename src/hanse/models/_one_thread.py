"""SciPy's own BLAS on one thread, while SciPy works on matrices of a few rows.

The wheels of SciPy carry a BLAS beside NumPy's. L-BFGS calls it for matrices of twice the number of corrections that it
keeps, 20 x 20, and its threads spin longer than such a product takes: 24 times the processor time for models of a few
parameters (``findings/scipy-lbfgsb-threads.sh``). NumPy's BLAS, by which objectives are computed over all rows, keeps
its threads. The numbers are the same bits.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any


@functools.cache
def _scipys() -> Any:
    """SciPy's BLAS, as threadpoolctl (which scikit-learn needs) knows it; after SciPy was loaded."""
    from threadpoolctl import ThreadpoolController

    every = ThreadpoolController()
    return every.select(filepath=[lib.filepath for lib in every.lib_controllers if "scipy.libs" in lib.filepath])


def one_thread() -> AbstractContextManager[Any]:
    """SciPy's BLAS takes no further threads in this context, or until it is left by the first of several threads of
    Python that are in it at once: the number is one for the whole process."""
    limit: AbstractContextManager[Any] = _scipys().limit(limits=1, user_api="blas")
    return limit
