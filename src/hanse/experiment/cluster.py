"""A Ray cluster in whose actors sites of a simulation answer.

Records go to an actor and back as the bytes that they are on every wire. Ray itself carries calls with pickle and,
unless its operator sets ``RAY_AUTH_MODE=token``, believes whoever reaches its ports: a cluster is a machine room of
one's own, and no way between institutions.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hanse
from hanse import releases
from hanse.errors import ConfigError, NodeFailed
from hanse.experiment.site_process import Sites
from hanse.messages import Record, dump, load
from hanse.thread_limits import threads

LOCAL = "local"
_START_S, _CALL_S = 120.0, 10.0


class Cluster:
    """A cluster, reached when it is first needed.

    Args:
        address: ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT`` as Ray understands them; ``local`` starts one on this
            machine, that ends with it. Where this process uses Ray already, its cluster is taken.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._ray: Any = None
        self._ours = False
        self._reaching = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "cluster")  # what Ray starts ends with the thread that it was started in

    def actors(self, count: int) -> list[Actor]:
        """So many new actors, of one processor each. Raises ``ConfigError`` where the cluster cannot have them."""
        ray = self._reached()
        there = int(ray.cluster_resources().get("CPU", 0))
        if there < count:
            raise ConfigError(f"the cluster {self.address!r} has {there} processors, and processes is {count}")
        made = ray.remote(_Sites).options(num_cpus=1, max_restarts=0, runtime_env={"env_vars": threads(1)})
        found = [Actor(ray, made.remote()) for _ in range(count)]
        try:
            for actor in found:
                actor.check()
        except BaseException:
            for actor in found:
                actor.close()
            raise
        return found

    def close(self) -> None:
        """Leaves the cluster; one that was started here ends."""
        with self._reaching:
            if self._ours:
                self._thread.submit(self._ray.shutdown).result()
            self._ray, self._ours = None, False
            self._thread.shutdown()

    def _reached(self) -> Any:
        with self._reaching:
            if self._ray is None:
                ray = _imported(self.address == LOCAL)
                if not ray.is_initialized():
                    self._thread.submit(self._begin, ray).result()
                    self._ours = True
                self._ray = ray
            return self._ray

    def _begin(self, ray: Any) -> None:
        options: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
        try:
            if self.address == LOCAL:
                ray.init(address=LOCAL, include_dashboard=False, _node_ip_address="127.0.0.1", **options)
            else:
                self._look()
                ray.init(address=self.address, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"there is no Ray cluster at {self.address!r}: {str(error).splitlines()[0]}") from None

    def _look(self) -> None:
        """Raises ``ConnectionError`` where nobody listens: Ray ends the whole process then, without an exception."""
        host, _, port = self.address.removeprefix("ray://").rpartition(":")
        if host and port.isdigit():
            try:
                socket.create_connection((host.strip("[]"), int(port)), _CALL_S).close()
            except OSError as error:
                raise ConnectionError(f"nobody listens there ({error.strerror or error})") from None


def _imported(local: bool) -> Any:
    """Ray, which reads its environment once, when it is imported. A cluster of this machine asks for a secret: else who
    reaches its ports could have it run code."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if local and "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError:
        raise ConfigError("a cluster needs Ray: pip install 'hanse[ray]'") from None
    if local and os.environ.get("RAY_AUTH_MODE") != "token" and not ray.is_initialized():
        raise ConfigError(
            "Ray was imported already, and without RAY_AUTH_MODE=token: a cluster that it starts now would believe "
            "whoever reaches its ports. Leave the import to Hanse, or set the variable and RAY_AUTH_TOKEN before it"
        )
    return ray


class Actor:
    """A :class:`hanse.experiment.places.Place` in a cluster."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def check(self) -> None:
        """Raises ``ConfigError`` where it does not start, or is of another release."""
        try:
            release = self._ray.get(self._actor.release.remote(), timeout=_START_S)
        except self._ray.exceptions.RayError as error:
            raise ConfigError(f"an actor does not start: {str(error)[:500]}") from None
        if not releases.together(release, hanse.__version__):
            raise ConfigError(f"{releases.differing(release, 'the cluster')}; install the same release on both")

    def told(self, request: Record) -> Record:
        """See :class:`hanse.experiment.places.Place`."""
        try:
            return load(memoryview(self._ray.get(self._actor.told.remote(dump(request)))))
        except self._ray.exceptions.RayError as error:
            why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            raise NodeFailed(f"the actor that this site is in has ended ({why[:300]})") from None

    def close(self) -> None:
        """Ends it, also in the middle of its work."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            self._ray.kill(self._actor)


class _Sites:
    """Is in an actor."""

    def __init__(self) -> None:
        self._sites = Sites()

    def release(self) -> str:
        return hanse.__version__

    def told(self, raw: bytes) -> bytes:
        return dump(self._sites.told(load(raw)))
