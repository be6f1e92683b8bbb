"""Services that are asked over HTTP: where they may be, and what of their answers is read."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from hanse.coordinator.http_service import HttpService, SaidNo, ask, checked
from hanse.errors import ConfigError, WireError


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example",
        "id.example",
        "ftp://id.example",
        "https://",
        "https://id.example:port",
        "https://[::1",
        "https://id.example/a b",
        "https://id.example/\r\nx: y",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
    ],
)
def test_an_address_that_is_none_or_can_be_read_on_the_way_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="^x is "):
        checked(url, "x")


def test_a_token_stands_in_no_address() -> None:
    with pytest.raises(ConfigError, match="give a token in TOKEN"):
        HttpService("https://a:b@policies.example", "X", "TOKEN")


Served = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def served() -> Iterator[Served]:
    """Says ``answer`` to one caller."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads = []

        def begin(answer: Callable[[socket.socket], None]) -> str:
            def run() -> None:
                came, _ = listening.accept()
                with came:
                    came.recv(1 << 16)
                    try:
                        answer(came)
                    except OSError:
                        pass

            threads.append(threading.Thread(target=run, daemon=True))
            threads[-1].start()
            return f"http://127.0.0.1:{listening.getsockname()[1]}/x"

        yield begin
    for thread in threads:
        thread.join(10)


def test_what_is_cut_off_is_no_answer(served: Served) -> None:
    """A list of allowed things that ends early is another list."""
    url = served(lambda to: to.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"))
    with pytest.raises(http.client.IncompleteRead):
        ask("GET", url, {}, None, 5.0)


def test_an_answer_is_bounded_in_bytes_and_in_time(served: Served) -> None:
    url = served(lambda to: to.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (3 << 20)))
    with pytest.raises(WireError, match="over 1 MB"):
        ask("GET", url, {}, None, 5.0)
    over = threading.Event()

    def slowly(to: socket.socket) -> None:
        to.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not over.is_set():  # each byte comes in time, all of them never
            to.sendall(b" ")
            time.sleep(0.02)

    url = served(slowly)
    with pytest.raises(TimeoutError):
        ask("GET", url, {}, None, 0.3)
    over.set()


def test_a_no_has_its_status_and_words(served: Served) -> None:
    url = served(lambda to: to.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"))
    with pytest.raises(SaidNo) as no:
        HttpService(url, "X", "TOKEN").call("POST", "", {})
    assert (no.value.answer.status, no.value.answer.raw) == (404, b"{}")
