"""A real nginx between nodes and coordinator."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from behind_proxy import ended, passed_through, run, started_anew

_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed (apt install nginx-light)"),
]


def command(home: Path, servers: str, modules: str = "") -> list[str]:
    user = "user root;" if os.geteuid() == 0 else ""
    (home / "nginx.conf").write_text(
        f"{modules}\n{user}\ndaemon off;\nworker_processes 1;\npid {home}/pid;\nerror_log stderr;\n"
        f"events {{}}\n{servers}\n"
    )
    return ["nginx", "-p", str(home), "-c", str(home / "nginx.conf"), "-e", "stderr"]


ENDED = """
http {{
  access_log off;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {home}/server.crt;
    ssl_certificate_key {home}/server.key;
    ssl_client_certificate {home}/authority.crt;
    ssl_verify_client on;
    http2_max_concurrent_streams 8;
    client_header_timeout 1d;
    client_max_body_size 0;
    client_body_timeout 1d;
    location /hanse.v1.Link/ {{
      grpc_pass grpc://127.0.0.1:{behind};
      grpc_set_header hanse-node $node;
      grpc_read_timeout 1d;
      grpc_send_timeout 1d;
      grpc_socket_keepalive on;
    }}
  }}
  map $ssl_client_s_dn $node {{ "~^CN=(?<cn>[^,+]+)$" $cn; default ""; }}
}}
"""


def passing(home: Path, port: int, behind: int) -> list[str]:
    servers = f"stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{behind}; }} }}"
    return command(home, servers, f"load_module {_STREAM};")


def ending(home: Path, port: int, behind: int) -> list[str]:
    return command(home, ENDED.format(port=port, home=home, behind=behind))


@pytest.mark.skipif(not _STREAM.exists(), reason="nginx has no stream module (apt install libnginx-mod-stream)")
def test_tls_passed_through(tmp_path: Path) -> None:
    run(passed_through(passing, tmp_path))


def test_tls_ended_at_nginx_which_asks_for_the_nodes_certificate(tmp_path: Path) -> None:
    run(ended(ending, tmp_path))


def test_nginx_that_is_started_anew_is_called_again(tmp_path: Path) -> None:
    run(started_anew(ending, tmp_path))
