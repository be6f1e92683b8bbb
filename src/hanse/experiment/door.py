"""The way in: a federation of institutions behind a coordinator, or one of tables in this process."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hanse
from hanse import features, releases
from hanse import policy as owners
from hanse.errors import ConfigError
from hanse.experiment import credentials
from hanse.experiment.cluster import Cluster
from hanse.experiment.connection import Connection
from hanse.experiment.federation import Federation
from hanse.experiment.simulation import Simulation
from hanse.experiment.virtual import VirtualSites
from hanse.messages import Json
from hanse.table import Table


def connect(
    url: str | None = None, token: str | None = None, verify: str | os.PathLike[str] | bool = True
) -> Federation:
    """The federation of a coordinator.

    Args:
        url: ``https://host:port``; None: HANSE_URL, or what ``hanse login`` saved.
        token: your API token; None: HANSE_TOKEN, or what ``hanse login`` saved for this address.
        verify: path of the PEM file of the authority that signed the coordinator's certificate;
            True: an authority that this machine knows.

    A warning says both releases where the coordinator is of another line than this one (:mod:`hanse.releases`).

    Raises:
        Unreachable: nobody answers there, or its certificate is not trusted.
        NotAuthenticated: the token is missing or wrong.
    """
    if verify is False:
        raise ConfigError(
            "verify=False would hand your token to whoever answers; give the path of the authority's "
            "certificate (PEM), which the operator of the coordinator has"
        )
    known = credentials.resolve(url, token, None if verify is True else os.fspath(verify))
    connection = Connection(known)
    try:
        connection.me()
    except BaseException:
        connection.close()
        raise
    if not releases.together(connection.release, hanse.__version__):
        both = releases.differing(connection.release, f"the coordinator at {connection.url}")
        warnings.warn(f"{both}; what only one of them has cannot be proposed", stacklevel=2)
    return Federation(connection)


def simulate(
    sites: Mapping[str, Any],
    wire: str = "references",
    seed: int = 0,
    workers: int | None = None,
    policy: Mapping[str, Json] | None = None,
    batched: bool = False,
    processes: int = 0,
    cluster: str = "",
    folder: str | os.PathLike[str] | None = None,
) -> Federation:
    """A federation of ``sites``, all in this process; results say that they are a simulation.

    Args:
        sites: site name to a pandas or Polars frame, a mapping of columns, or a Table; or :func:`virtual_sites`.
        wire: ``references`` passes arrays as they are; ``exact`` pushes every message through the
            real wire format and gives the same bytes.
        seed: of the experiments, unless they have their own.
        workers: threads; None: one per site, at most one per core. Does not change any result.
        policy: settings of the sites' owners that are not as in a simulation, where data scientist and owner
            are one: any of ``[policy]`` of ``node.toml`` that a rule brings along, such as ``minimum_cell`` or
            ``allow_node_statistics``. The rules of a node decide by them here too.
        batched: sites of a round train together, where the model can (``torch_module``): quicker for many sites of a
            small model, and equal to the last digits of its numbers, no further.
        processes: so many processes answer instead of threads, each with one thread of arithmetic: quicker where a
            site's training takes much longer than to send it the model.
        cluster: the address of the Ray cluster in which these processes are, such as ``auto`` or ``ray://HOST:10001``;
            ``local`` starts one on this machine. "": they are children of this process.
        folder: where runs keep their states while they are under way, so that the same run over the same rows, proposed
            again after it was interrupted, goes on and ends with the same bytes; those of a completed run go when the
            simulation is closed. None: they keep none.

    Raises:
        ConfigError: no sites, ``wire`` is neither of the two, or a setting is not one of a policy.
        DataError: a site's columns are unequal, or two have the same name.

    >>> import hanse
    >>> federation = hanse.simulate({"ulm": {"age": [61, 58], "disease": ["yes", "no"]},
    ...                              "bonn": {"age": [70], "disease": ["yes"]}})
    >>> federation.nodes()
    node  status  datasets  rows
    bonn  online         1     1
    ulm   online         1     2
    """
    if not isinstance(sites, Mapping):
        raise ConfigError(
            f"sites is {type(sites).__name__}; expected a mapping from each site's name to its rows, as "
            '{"ulm": rows, "bonn": rows}; hanse.virtual_sites makes sites of one table'
        )
    if not sites:
        raise ConfigError("sites is empty; expected a mapping from each site's name to its rows")
    if wire not in ("references", "exact"):
        raise ConfigError(f"wire is {wire!r}; expected references or exact")
    tables: Mapping[str, Table] = sites
    if not isinstance(sites, VirtualSites):
        tables = {str(name): Table.of(rows) for name, rows in sorted(sites.items(), key=lambda s: str(s[0]))}
        for name, table in tables.items():
            features.canonical(table.names, f"of {name} ")
    if processes < 0 or (processes and batched):
        raise ConfigError(
            f"processes is {processes}; expected a number from 0, and 0 where sites train together (batched)"
        )
    if cluster and not processes:
        raise ConfigError("cluster says where processes are, and processes is 0; say how many, as in processes=8")
    workers = workers or min(len(tables), os.cpu_count() or 1)
    return Federation(
        Simulation(
            tables,
            wire,
            workers,
            {"seed": seed},
            batched,
            processes,
            Cluster(cluster) if cluster else None,
            policy=owners.simulated(policy or {}, len(tables)),
            folder=None if folder is None else Path(folder),
        )
    )
