"""What a red team tries that no other file here does: weaker TLS, another's run, more than what was packed.

Where all the other attacks are: docs/security.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import ssl
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.federation import Process, free_port
from hanse.errors import Tampered, TooLarge
from hanse.evidence import archive, verify
from tests.coordinator.federation import PROBE, Federation
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[str, int]]]:
    """A coordinator with TLS on both of its doors."""
    home = tmp_path_factory.mktemp("tls")
    http, grpc = free_port(), free_port()
    doors = ["--http", f"127.0.0.1:{http}", "--listen", f"grpc://127.0.0.1:{grpc}"]
    process = Process(["coordinator", "start", "--home", str(home / "c"), *doors], home / "log", "ready")
    process.start(90)
    try:
        yield {"nodes": ("127.0.0.1", grpc), "people": ("127.0.0.1", http)}
    finally:
        process.stop()


def shaken(address: tuple[str, int], version: ssl.TLSVersion, ciphers: str = "ALL:@SECLEVEL=0") -> str:
    """The version of a handshake with a client that can do this one alone; raises where there is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers(ciphers)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(address, timeout=PATIENCE) as plain, context.wrap_socket(plain) as sock:
        return str(sock.version())


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("door", ["nodes", "people"])
def test_older_tls_is_not_spoken(addresses: dict[str, tuple[str, int]], door: str) -> None:
    for old in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises((ssl.SSLError, OSError)):
            shaken(addresses[door], old)
    assert shaken(addresses[door], ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    for weak in ("aNULL:@SECLEVEL=0", "NULL:@SECLEVEL=0", "RC4:@SECLEVEL=0", "3DES:@SECLEVEL=0"):
        with pytest.raises((ssl.SSLError, OSError)):  # or this machine's own library has none of them any more
            shaken(addresses[door], ssl.TLSVersion.TLSv1_2, weak)


@pytest.mark.parametrize("door", ["nodes", "people"])
def test_without_tls_nothing_is_told(addresses: dict[str, tuple[str, int]], door: str) -> None:
    for said in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"):
        with socket.create_connection(addresses[door], timeout=PATIENCE) as plain:
            plain.sendall(said)
            heard = b""
            with contextlib.suppress(OSError):
                heard = plain.recv(1000)
        assert b"HTTP" not in heard
        assert not heard.startswith(b"\0\0")  # no frame of HTTP/2: at most an alert of TLS
        assert len(heard) < 20


def test_a_data_scientist_does_not_read_or_steer_anothers_run(tmp_path: Path) -> None:
    async def main() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            f.account("eve", "data_scientist")
            await f.node("a", standing="accept")
            await f.node("b")
            run = (await f.propose(expected_client_ids=["a"]))["session_id"]
            await f.state(run, "completed")
            for path in ("model", "card", "statistics"):
                said = await f.refused("eve", "GET", f"/api/runs/{run}/{path}", None, 403)
                assert "proposed by sci" in said
            for act in ("cancel", "pause", "resume", "execute"):
                await f.refused("eve", "POST", f"/api/training/sessions/{run}/{act}", {}, 403)
            found = f.store.models.latest(run)
            assert found is not None
            answer = await f.call("eve", "POST", "/api/training/start", {**PROBE, "initial_model": found.sha})
            assert answer.status_code in (403, 404, 422)
            for path in (
                "rounds",
                "bundle",
                "model",
                "evidence",
                "inclusion?client_id=a",
            ):  # nor an owner who is not asked
                await f.refused("owner-b", "GET", f"/api/runs/{run}/{path}", None, 403)

    asyncio.run(main())


def test_evidence_is_not_more_than_the_file_that_it_comes_in() -> None:
    """A zip of a few kilobytes may say that it holds gigabytes."""
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("manifest.json", b"0" * (64 << 20))
    assert len(into.getvalue()) < 1 << 20
    with pytest.raises(Tampered, match="compressed"):
        verify(into.getvalue())
    with pytest.raises(TooLarge):
        archive.unpack(b"\0" * (archive.MOST_BYTES + 1))
