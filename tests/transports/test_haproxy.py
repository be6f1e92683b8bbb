"""A real HAProxy between nodes and coordinator."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from behind_proxy import ended, passed_through, run, started_anew

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy") is None, reason="HAProxy is not installed (apt install haproxy)"
)

# as in docs/transports.md, but for addresses and paths
PASSED = """
defaults
  mode tcp
  timeout connect 10s
  timeout client 1d
  timeout server 1d
frontend nodes
  bind 127.0.0.1:{port}
  default_backend coordinator
backend coordinator
  server hanse 127.0.0.1:{behind}
"""
ENDED = """
defaults
  mode http
  timeout connect 10s
  timeout client 1d
  timeout server 1d
frontend nodes
  bind 127.0.0.1:{port} ssl crt {home}/server.pem alpn h2 ca-file {home}/authority.crt verify required
  http-request set-header hanse-node %[ssl_c_s_dn(CN)]
  http-request deny unless {{ path_beg /hanse.v1.Link/ }}
  default_backend coordinator
backend coordinator
  server hanse 127.0.0.1:{behind} proto h2
"""


def command(home: Path, text: str) -> list[str]:
    (home / "haproxy.cfg").write_text(text)
    return ["haproxy", "-db", "-f", str(home / "haproxy.cfg")]


def passing(home: Path, port: int, behind: int) -> list[str]:
    return command(home, PASSED.format(port=port, behind=behind))


def ending(home: Path, port: int, behind: int) -> list[str]:
    return command(home, ENDED.format(port=port, home=home, behind=behind))


def test_tls_passed_through(tmp_path: Path) -> None:
    run(passed_through(passing, tmp_path))


def test_tls_ended_at_haproxy_which_asks_for_the_nodes_certificate(tmp_path: Path) -> None:
    run(ended(ending, tmp_path))


def test_haproxy_that_is_started_anew_is_called_again(tmp_path: Path) -> None:
    run(started_anew(ending, tmp_path))
