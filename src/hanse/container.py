"""A container: what its environment says, in FLOPY-NET's words, as the commands of Hanse that a person would type.

``SERVICE_TYPE`` names the service: ``fl-server`` (coordinator), ``fl-client`` (node) or ``policy-engine``. Every
variable of the document's table and compose file is read here, or passed on to the coordinator, which reads it
(:mod:`hanse.coordinator.run_defaults`, :mod:`hanse.coordinator.settings`); one that means nothing to the service is
named on standard error. A secret may also lie in a file, which ``NAME_FILE`` names.

>>> starts({"SERVICE_TYPE": "policy-engine"}).command
('policy', 'serve')
>>> starts({"SERVICE_TYPE": "fl-sever"})
Traceback (most recent call last):
...
hanse.errors.ConfigError: SERVICE_TYPE is 'fl-sever'; expected fl-server, fl-client or policy-engine
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from hanse.errors import ConfigError, Conflict, Unreachable
from hanse.settings import truth

SECRETS = ("JOIN_TOKEN", "POLICY_AUTH_TOKEN", "SDN_CONTROLLER_TOKEN", "OIDC_CLIENT_SECRET")
OF_RUNS = (
    "MIN_CLIENTS",
    "MAX_ROUNDS",
    "AGGREGATION_STRATEGY",
    "CLIENT_FRACTION",
    "DIFFERENTIAL_PRIVACY",
    "LOCAL_EPOCHS",
    "BATCH_SIZE",
)
OF_SERVER = ("FL_SERVER_HOST", "FL_SERVER_PORT", "POLICY_ENGINE_URL", "SDN_CONTROLLER_URL", "SDN_CONTROLLER_HOST")
OF_CLIENT = ("CLIENT_ID", "SERVER_HOST", "JOIN_TOKEN")
_EVERYWHERE, _HTTP_PORT, _NODES_PORT, _POLICY_PORT, _CONTROLLER_PORT = "0.0.0.0", "8080", "8081", "5000", "8181"
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")
_PREFIX = re.compile(r"((25[0-5]|2[0-4]\d|1?\d?\d)\.){2}(25[0-5]|2[0-4]\d|1?\d?\d)")
_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Starts:
    """What a container does.

    Args:
        service: the value of ``SERVICE_TYPE``.
        environment: what is set beside what is there.
        command: what is typed after ``hanse``; it runs until the container ends.
        before: commands that come first.
        said: sentences about variables that change nothing.
    """

    service: str
    environment: Mapping[str, str]
    command: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = field(default=(), repr=False)  # a join token is a secret
    said: tuple[str, ...] = ()


def starts(given: Mapping[str, str]) -> Starts:
    """What the container with these variables does. Empty ones count as not set.

    Raises:
        ConfigError: a variable has a value that does not fit, or one is missing.
        Conflict: the node of this home is another, or has joined another coordinator.
    """
    environment = _set(given)
    environment |= (secrets := _secrets(environment))
    service = environment.get("SERVICE_TYPE", "")
    if service not in _SERVICES:
        raise ConfigError(f"SERVICE_TYPE is {service!r}; expected fl-server, fl-client or policy-engine")
    _check_address(environment, service)
    made = _SERVICES[service](environment)
    foreign = {name: why for name, why in _FOREIGN[service].items() if environment.get(name)}
    said = tuple(f"{name} changes nothing here: {why}" for name, why in foreign.items())
    handed = {name: value for name, value in secrets.items() if name != "JOIN_TOKEN"}
    return Starts(service, {**handed, **made.environment}, made.command, made.before, said)


def _server(environment: Mapping[str, str]) -> Starts:
    more = {
        "FL_SERVER_HOST": environment.get("FL_SERVER_HOST", _EVERYWHERE),
        "FL_SERVER_PORT": environment.get("FL_SERVER_PORT", _HTTP_PORT),
        "HANSE_LISTEN": environment.get("HANSE_LISTEN", f"grpc://{_EVERYWHERE}:{_NODES_PORT}"),
        "HANSE_HOST_NAME": environment.get("HANSE_HOST_NAME") or socket.gethostname(),
    }
    for name, port in (("POLICY_ENGINE", _POLICY_PORT), ("SDN_CONTROLLER", _CONTROLLER_PORT)):
        host, url = _host(environment, f"{name}_HOST"), f"{name}_URL"
        if host and environment.get(url):
            raise ConfigError(f"{name}_HOST and {url} are both set; one of them says where it is: unset the other")
        if host:
            more[url] = f"https://{host}:{port}"
    return Starts("fl-server", more, ("coordinator", "start"))


def _client(environment: Mapping[str, str]) -> Starts:
    from hanse.identity import JoinToken, check_node_id
    from hanse.node.settings import FILE, NodeSettings

    client, host = environment.get("CLIENT_ID", ""), _host(environment, "SERVER_HOST")
    if not client:
        raise ConfigError("CLIENT_ID is not set; it is the id by which this node joins, such as client-1")
    check_node_id(client)
    home, start = _home(environment), ("node", "start")
    if (home / FILE).exists():
        found = NodeSettings.load(home)
        if found.node_id != client:
            raise Conflict(f"CLIENT_ID is {client}, and the node in {home} is {found.node_id}; give each a volume")
        if host and _host_of(found.coordinator.address) not in (host, ""):
            raise Conflict(
                f"SERVER_HOST is {host}, and this node has joined {found.coordinator.address}; let it join again, "
                "with a new volume and a new join token"
            )
        return Starts("fl-client", {}, start)
    if not (secret := environment.get("JOIN_TOKEN")):
        raise ConfigError(
            f"{client} has not joined yet: put its join token into the file that JOIN_TOKEN_FILE names; the operator "
            f"of the coordinator makes one by `hanse coordinator join-token {client}`"
        )
    token, named = JoinToken.decode(secret), ["--name", client]
    if host:
        token = replace(token, url=_at(token.url, host), address=_at(token.address, host))
        named += ["--address", token.address]  # else it would call where the coordinator says that it is
    return Starts("fl-client", {}, start, (("node", "init", "--join", token.encode(), *named),))


def _policy(environment: Mapping[str, str]) -> Starts:
    more = {
        "HANSE_HTTP": environment.get("HANSE_HTTP", f"{_EVERYWHERE}:{_POLICY_PORT}"),
        "HANSE_POLICIES": environment.get("HANSE_POLICIES", "/policies"),
    }
    return Starts("policy-engine", more, ("policy", "serve"))


_SERVICES = {"fl-server": _server, "fl-client": _client, "policy-engine": _policy}
_AGREED = "what a site trains with stands in the proposal that its owner agrees to; set it at the fl-server"
_FOREIGN: Mapping[str, Mapping[str, str]] = {
    "fl-server": dict.fromkeys(OF_CLIENT, "it is of an fl-client"),
    "fl-client": {
        **dict.fromkeys(OF_RUNS, _AGREED),
        "POLICY_ENGINE_HOST": "the fl-server asks the policy engine; a node decides by the rules of its own owner",
        **dict.fromkeys(OF_SERVER, "it is of the fl-server"),
    },
    "policy-engine": dict.fromkeys(
        (*OF_RUNS, *OF_SERVER, *OF_CLIENT, "POLICY_ENGINE_HOST"), "it is not of a policy-engine"
    ),
}


# ---------------------------------------------------------------- single variables


def _set(given: Mapping[str, str]) -> dict[str, str]:
    """Those that are not empty."""
    return {name: value.strip() for name, value in given.items() if value.strip()}


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HANSE_NODE_HOME", "~/.hanse/node")).expanduser()


def _secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Those that lie in files, by name."""
    found: dict[str, str] = {}
    for name in SECRETS:
        if not (file := environment.get(f"{name}_FILE")):
            continue
        if environment.get(name):
            raise ConfigError(f"{name} and {name}_FILE are both set; one of them says it: unset the other")
        try:
            found[name] = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise ConfigError(
                f"{name}_FILE is {file}, which user {os.getuid()} of this container cannot read ({why})"
            ) from None
        if not found[name] and name != "JOIN_TOKEN":  # which is of use once, and may be emptied then
            raise ConfigError(f"{name}_FILE is {file}, which is empty")
    return found


def _host(environment: Mapping[str, str], name: str) -> str:
    host = environment.get(name, "")
    if host and not _HOST.fullmatch(host):
        raise ConfigError(f"{name} is {host[:200]!r}; expected the name or the address of a host, without a port")
    return host


def _at(where: str, host: str) -> str:
    """The same scheme and port at another host; what has no host (a folder) stays."""
    return re.sub(r"^((?:https?|grpc(?:\+[a-z]+)?)://)(?:\[[^]]*\]|[^:/]+)", rf"\g<1>{host}", where)


def _host_of(address: str) -> str:
    found = re.match(r"grpc(?:\+[a-z]+)?://(\[[^]]*\]|[^:/]+)", address)
    return found[1] if found else ""


def _check_address(environment: Mapping[str, str], service: str) -> None:
    """An address is given by who runs the container; here is only looked whether it is the one that was meant.
    Raises ``ConfigError``."""
    if not truth("USE_STATIC_IP", environment.get("USE_STATIC_IP", "")):
        return
    prefix = environment.get("SUBNET_PREFIX", "")
    if not _PREFIX.fullmatch(prefix):
        raise ConfigError(f"SUBNET_PREFIX is {prefix!r}; expected three numbers of an address, as in 192.168.100")
    said = environment.get("CLIENT_IP_RANGE", "1-255") if service == "fl-client" else "1-255"
    first, dash, last = said.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= 255):
        raise ConfigError(f"CLIENT_IP_RANGE is {said!r}; expected FIRST-LAST from 1 to 255, as in 100-255")
    own = _own_address(f"{prefix}.{first}")
    head, _, number = own.rpartition(".")
    if head != prefix or not int(first) <= int(number) <= int(last):
        raise ConfigError(
            f"USE_STATIC_IP is true, and this container's address is {own or 'none'}; expected one from "
            f"{prefix}.{first} to {prefix}.{last} (SUBNET_PREFIX, CLIENT_IP_RANGE): give it one by ipv4_address in the "
            "compose file, or set USE_STATIC_IP=false"
        )


def _own_address(towards: str) -> str:
    """The address from which this machine would send there; "" where there is no way. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


# ---------------------------------------------------------------- the commands


@click.group()
def container() -> None:
    """Start what a container is for, and say whether it works; images do."""


@container.command()
def start() -> None:
    """Start the service that SERVICE_TYPE names, as the other variables say, until SIGTERM."""
    it, root = starts(os.environ), click.get_current_context().find_root().command
    for sentence in it.said:
        click.echo(sentence, err=True)
    os.environ.update(it.environment)
    os.environ.pop("JOIN_TOKEN", None)
    try:
        for command in (*it.before, it.command):
            root.main(command, prog_name="hanse", standalone_mode=False)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"this image has no {error.name}, which a service of SERVICE_TYPE={it.service} needs; take the image of it"
        ) from None


@container.command()
def healthy() -> None:
    """Exit with 0 if the service of this container works, else with 1 and the reason."""
    environment = _set(os.environ)
    if environment.get("SERVICE_TYPE") == "fl-client":
        from hanse.node.control import ask

        try:
            click.echo(f"the node runs and is {ask(_home(environment), 'status')['state']}")
        except (ConnectionError, FileNotFoundError):
            raise Unreachable("the node does not run") from None
        return
    click.echo(_answer(*_served(environment)))


def _served(environment: Mapping[str, str]) -> tuple[str, int]:
    """Where this container serves HTTPS, as it calls itself."""
    if environment.get("SERVICE_TYPE") == "policy-engine":
        host, _, port = environment.get("HANSE_HTTP", f"{_EVERYWHERE}:{_POLICY_PORT}").rpartition(":")
    else:
        host, port = (
            environment.get(f"FL_SERVER_{name}", other) for name, other in (("HOST", _EVERYWHERE), ("PORT", _HTTP_PORT))
        )
    host = host.strip("[]")
    return {_EVERYWHERE: "127.0.0.1", "::": "::1"}.get(host, host), int(port)


def _answer(host: str, port: int) -> str:
    """What ``GET /health`` says. Raises ``Unreachable`` where it is not 200."""
    import http.client
    import ssl

    anyone = ssl.create_default_context()  # it asks itself and shows nothing: whose certificate it is is no matter
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=anyone)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        said = answer.read(1 << 16).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"https://{host}:{port}/health does not answer ({error})") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise Unreachable(f"https://{host}:{port}/health answers with {answer.status}: {said[:500]}")
    return said
