"""``hanse network``: have a network prefer what a federation sends."""

from __future__ import annotations

import click

from hanse.errors import ConfigError


@click.group()
def network() -> None:
    """Have a network prefer what a federation sends."""


@network.command()
@click.option("--driver", default="none", show_default=True, help="What does it: a file of hanse.network.")
@click.option("--http", default="127.0.0.1:8181", show_default=True, help="Where to serve.")
@click.option(
    "--within", default="", help="The network that servers and clients are of, such as 192.168.100.0/24; without, any."
)
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="A setting of the driver; may be repeated.")
@click.option("--tls-cert", default="", help="Certificate for HTTPS (PEM); needed where it is not loopback.")
@click.option("--tls-key", default="", help="Its key (PEM).")
def controller(driver: str, http: str, within: str, given: tuple[str, ...], tls_cert: str, tls_key: str) -> None:
    """Prefer what servers and clients ask for, over the routes that FLOPY-NET documents, until SIGTERM or Ctrl-C.

    Whoever asks shows the token in SDN_CONTROLLER_TOKEN; without one it serves this machine alone."""
    import ipaddress
    import os

    from hanse.coordinator import beside
    from hanse.coordinator.network_service import service

    token = os.environ.get("SDN_CONTROLLER_TOKEN", "").strip()
    danger = "anybody could have the network prefer what they send"
    beside.check(http, token, "SDN_CONTROLLER_TOKEN", tls_cert, tls_key, danger)
    if within:
        try:
            ipaddress.IPv4Network(within)
        except ValueError:
            raise ConfigError(f"--within is {within!r}; expected a network, as in 192.168.100.0/24") from None
    said: dict[str, str] = {}
    for entry in given:
        name, equals, said[name] = entry.partition("=")
        if not equals:
            raise ConfigError(f"--set {entry!r} has no =; write --set NAME=VALUE")
    made = service(driver, said, token, within)
    started = made.running()
    beside.serve(
        made.app(), http, tls_cert, tls_key, "controller", lambda at: click.echo(f"controller at {at}"), started
    )
