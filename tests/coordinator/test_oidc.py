"""Logins by an OpenID provider: a real one, in a process of its own; and what is not believed, of one that lies."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import queue
import re
import shutil
import socket
import subprocess
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest

pytest.importorskip("authlib")
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

from hanse.coordinator import enrolment
from hanse.coordinator.logins import Expiring, Logins
from hanse.coordinator.oidc import Pending, Person, Provider
from hanse.coordinator.settings import CoordinatorSettings
from hanse.errors import ConfigError, HanseError, NotAuthenticated, NotNow, TooMany
from hanse.store import Store
from tests.waiting import PATIENCE

from .federation import Federation
from .test_page import chromium, serving, tab

HERE = Path(__file__).parent / "oidc"
BACK = "http://c/login/callback"
ROLES = ("operators=operator", "researchers=data_scientist")
SECRET = "a secret that is long enough for a client"


def modules() -> Path:
    """Where the provider is installed; it is fetched once, where npm is."""
    if given := os.environ.get("HANSE_OIDC_MODULES"):
        return Path(given)
    place = Path(__file__).parents[2] / "build" / "oidc"
    if not (place / "node_modules" / "oidc-provider").is_dir():
        if shutil.which("node") is None or shutil.which("npm") is None:
            pytest.skip("node and npm are not here, and the provider is a package of theirs")
        place.mkdir(parents=True, exist_ok=True)
        (place / "package.json").write_text('{"private": true}')
        wanted = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(place)]
        done = subprocess.run(
            [*wanted, "oidc-provider@9.13.3"], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            pytest.skip(f"the provider could not be installed: {done.stderr[-300:]}")
    return place


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with providing(BACK) as where:
        yield where


@contextlib.contextmanager
def providing(back: str) -> Iterator[str]:
    """The provider's address; it sends browsers back to ``back``."""
    where = modules()
    running = subprocess.Popen(
        ["node", str(HERE / "provider.mjs"), str(where), back],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        assert running.stdout is not None
        for line in running.stdout:
            lines.put(line)

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    said = ""
    try:
        end = time.monotonic() + PATIENCE
        while not (found := re.search(r"^ready (\S+)$", said, re.MULTILINE)):
            said += lines.get(timeout=max(0.1, end - time.monotonic()))
        yield found[1]
    finally:
        running.kill()
        running.wait()
        reading.join(10)
        if running.stdout is not None:
            running.stdout.close()


def settings(issuer: str, **more: Any) -> CoordinatorSettings:
    given = {"oidc_issuer": issuer, "oidc_client_id": "hanse", "oidc_roles": ROLES, "oidc_secret": SECRET}
    return replace(CoordinatorSettings(), **{**given, **more})


def at_the_provider(address: str, who: str, fields: dict[str, str] | None = None) -> str:
    """What a person does in a browser at the provider: types a name, and agrees. Where the browser is sent at last."""
    with httpx.Client(follow_redirects=False, timeout=PATIENCE) as browser:
        answer = browser.get(address) if fields is None else browser.post(address, data=fields)
        for _ in range(30):
            if answer.is_redirect:
                to = urljoin(str(answer.url), answer.headers["location"])
                if urlsplit(to).hostname != "127.0.0.1":
                    return to
                answer = browser.get(to)
                continue
            form = re.search(r'<form[^>]*action="([^"]*)"', answer.text)
            if form is None:
                return answer.text
            hidden = dict(re.findall(r'<input[^>]*name="(\w+)"[^>]*value="([^"]*)"', answer.text))
            action = urljoin(str(answer.url), form[1].replace("&amp;", "&") or str(answer.url))
            answer = browser.post(action, data={**hidden, "login": who, "password": "x"})
    raise AssertionError(f"the provider goes round in circles: {answer.text[:500]}")


async def logged_in(f: Federation, who: str) -> httpx.Response:
    """The code flow, to the answer of ``/api/login/session``."""
    begun = await f.http.get("/login")
    assert begun.status_code == 303, begun.text
    cookie = begun.headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=lax" in cookie.lower()
    asked = parse_qs(urlsplit(begun.headers["location"]).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert {"nonce", "state", "code_challenge"} <= {*asked}
    back = urlsplit(await asyncio.to_thread(at_the_provider, begun.headers["location"], who))
    came = await f.http.get(f"{back.path}?{back.query}")
    if came.status_code != 303:
        return came
    code = came.headers["location"].removeprefix("/#/login/")
    return await f.http.post("/api/login/session", json={"code": code})


def test_a_person_logs_in_with_the_role_of_a_group(tmp_path: Path, issuer: str) -> None:
    async def main() -> None:
        async with Federation(tmp_path, settings(issuer)) as f:
            assert (await f.ok(None, "GET", "/api/login"))["oidc"] is True
            answer = await logged_in(f, "ada")
            assert answer.status_code == 200, answer.text
            f.tokens["ada"] = answer.json()["token"]
            me = (await f.ok("ada", "GET", "/api/me"))["account"]
            assert me["role"] == "data_scientist"
            assert me["name"] == f"ada ({urlsplit(issuer).netloc})"
            await f.refused("ada", "GET", "/api/accounts", None, 403)
            f.http.cookies.clear()
            f.tokens["otto"] = (await logged_in(f, "otto")).json()["token"]
            assert await f.ok("otto", "GET", "/api/accounts")
            f.http.cookies.clear()
            again = (await logged_in(f, "ada")).json()["token"]
            assert again != f.tokens["ada"]
            assert len(f.store.accounts.list()) == 2  # the same account as before
            await f.ok("otto", "POST", f"/api/accounts/{me['id']}/disable")
            await f.refused("ada", "GET", "/api/me", None, 401)  # a session ends with its account
            f.http.cookies.clear()
            assert (await logged_in(f, "ada")).status_code == 403

    asyncio.run(main())


def test_who_is_in_no_group_that_has_a_role_gets_no_account(tmp_path: Path, issuer: str) -> None:
    async def main() -> None:
        async with Federation(tmp_path, settings(issuer)) as f:
            answer = await logged_in(f, "eve")
            assert answer.status_code == 403
            assert "in no group that has a role" in answer.text
            assert not f.store.accounts.list()
            await f.until(lambda found: any(e.kind == "account.refused" for e in found))

    asyncio.run(main())


def test_a_login_is_one_browsers_and_of_one_use(tmp_path: Path, issuer: str) -> None:
    async def main() -> None:
        async with Federation(tmp_path, settings(issuer)) as f:
            begun = await f.http.get("/login")
            back = urlsplit(await asyncio.to_thread(at_the_provider, begun.headers["location"], "ada"))
            mine = f.http.cookies.get("hanse_login")
            f.http.cookies.clear()
            stolen = await f.http.get(f"{back.path}?{back.query}")  # a link that somebody was sent
            assert stolen.status_code == 401
            assert "another browser" in stolen.text
            f.http.cookies.set("hanse_login", str(mine))
            assert (await f.http.get(f"{back.path}?{back.query}")).status_code == 401  # the state was used up
            f.http.cookies.clear()

            begun = await f.http.get("/login")
            back = urlsplit(await asyncio.to_thread(at_the_provider, begun.headers["location"], "ada"))
            came = await f.http.get(f"{back.path}?{back.query}")
            body = {"code": came.headers["location"].removeprefix("/#/login/")}
            mine = f.http.cookies.get("hanse_login")
            f.http.cookies.clear()
            assert (await f.http.post("/api/login/session", json=body)).status_code == 401  # without the cookie
            f.http.cookies.set("hanse_login", str(mine))
            assert (await f.http.post("/api/login/session", json=body)).status_code == 401  # it was used up
            for query in ("", "?state=x&code=y", "?error=access_denied&state=x"):
                assert (await f.http.get(f"/login/callback{query}")).status_code == 401

    asyncio.run(main())


def test_who_logs_out_is_out(tmp_path: Path, issuer: str) -> None:
    """Of this session alone; an API token is none, and opens what it opened."""

    async def main() -> None:
        async with Federation(tmp_path, settings(issuer)) as f:
            f.people()
            for name in ("first", "second"):
                f.tokens[name] = (await logged_in(f, "ada")).json()["token"]
                f.http.cookies.clear()
            assert await f.ok("first", "DELETE", "/api/login/session") == {"ended": True}
            await f.refused("first", "GET", "/api/me", None, 401)
            await f.refused("first", "DELETE", "/api/login/session", None, 401)
            assert await f.ok("second", "GET", "/api/me")
            assert await f.ok("sci", "DELETE", "/api/login/session") == {"ended": False}
            assert await f.ok("sci", "GET", "/api/me")
            events = await f.until(lambda found: any(e.kind == "account.logout" for e in found))
            assert [e.actor.split()[0] for e in events if e.kind == "account.logout" and e.actor] == ["ada"]

    asyncio.run(main())


def test_what_the_provider_says_no_with_is_a_sentence(tmp_path: Path, issuer: str) -> None:
    """Never the words of the address, which anybody can write who sends somebody a link."""

    async def main() -> None:
        async with Federation(tmp_path, settings(issuer)) as f:
            for error, expected in (
                ("access_denied", "let nobody in"),
                ("unauthorized_client", "operator has to register it"),
                ("<script>call+0900", "gave an error that OpenID does not know"),
                ("", "gave an error that OpenID does not know"),
            ):
                asked = parse_qs(urlsplit((await f.http.get("/login")).headers["location"]).query)
                where = f"/login/callback?error={error}&error_description=call+0900&state={asked['state'][0]}"
                for accept, shown in (("*/*", "application/json"), ("text/html,*/*", "text/html")):
                    answer = await f.http.get(where, headers={"accept": accept})
                    assert answer.status_code == 401
                    assert answer.headers["content-type"].startswith(shown)
                    assert "0900" not in answer.text
                    if shown == "application/json":
                        assert expected in answer.json()["error"]["message"]
                    else:  # the state was used up
                        assert "begin again" in answer.text
                        assert "Log in again" in answer.text
                    assert "default-src 'self'" in answer.headers["content-security-policy"]

    asyncio.run(main())


def test_a_page_of_refusal_holds_names_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "<img src=x onerror=alert(1)>"

    def person(*_: object) -> Person:
        return Person("https://id.example", "1", evil, ())

    monkeypatch.setattr(Provider, "exchange", person)
    monkeypatch.setattr(
        Provider, "address", lambda self, redirect, state, nonce, verifier: f"https://id.example/{state}"
    )

    async def main() -> None:
        async with Federation(tmp_path, settings("https://id.example")) as f:
            state = (await f.http.get("/login")).headers["location"].rpartition("/")[2]
            answer = await f.http.get(f"/login/callback?state={state}&code=c", headers={"accept": "text/html"})
            assert answer.status_code == 403
            assert "in no group that has a role" in answer.text
            assert "<img" not in answer.text

    asyncio.run(main())


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/login/callback?state=x&code=y", None),
        ("POST", "/api/login/session", {"code": "x"}),
        ("POST", "/api/login/device/token", {"login": "x"}),
    ],
)
def test_a_flood_of_logins_that_are_none_writes_a_bounded_log(
    tmp_path: Path, method: str, path: str, body: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolment, "time", SimpleNamespace(monotonic=lambda: 1000.0))  # all in one minute

    async def main() -> None:
        async with Federation(tmp_path, settings("https://id.example")) as f:
            seen = [(await f.call(None, method, path, body)).status_code for _ in range(200)]
            assert seen == [401] * 120 + [429] * 80
            await f.until(lambda found: sum(e.kind == "account.refused" for e in found) == 120)

    asyncio.run(main())


def test_a_device_that_is_asked_about_all_the_time_asks_the_provider_now_and_then(tmp_path: Path) -> None:
    now = [100.0]
    asked: list[str] = []

    class Waiting:
        def begin_device(self) -> dict[str, Any]:
            return {"device_code": "d", "user_code": "u", "verification_uri": "v"}

        def poll_device(self, code: str) -> Person:
            asked.append(code)
            with pytest.raises(Pending):  # another question, while the first is under way
                logins.poll_device(login)
            raise Pending("not yet")

    store = Store(None, tmp_path, fsync=False)
    logins = Logins(store, cast(Any, Waiting()), {"g": "operator"}, 1.0, lambda: now[0])
    login = str(logins.begin_device()["login"])
    for _ in range(100):
        now[0] += 0.1
        with pytest.raises(Pending):
            logins.poll_device(login)
    assert 9 <= len(asked) <= 11
    store.close()


def test_a_code_is_typed_for_a_command_line(tmp_path: Path, issuer: str) -> None:
    async def main() -> None:
        async with Federation(tmp_path, settings(issuer)) as f:
            said = await f.ok(None, "POST", "/api/login/device")
            assert "device_code" not in said
            body = {"login": said["login"]}
            assert (await f.call(None, "POST", "/api/login/device/token", body)).status_code == 202
            done = await asyncio.to_thread(at_the_provider, said["verification_uri_complete"], "ada")
            assert "Success" in done or "success" in done, done[:500]
            async with asyncio.timeout(PATIENCE):
                while (answer := await f.call(None, "POST", "/api/login/device/token", body)).status_code == 202:
                    await asyncio.sleep(0.1)  # it was asked a moment ago
            assert answer.status_code == 200, answer.text
            f.tokens["ada"] = answer.json()["token"]
            assert (await f.ok("ada", "GET", "/api/me"))["account"]["role"] == "data_scientist"
            await f.refused(None, "POST", "/api/login/device/token", body, 401)
            await f.refused(None, "POST", "/api/login/device/token", {"login": "x"}, 401)

    asyncio.run(main())


def test_in_a_browser_a_person_logs_in_with_the_institution_and_out(tmp_path: Path) -> None:
    path = chromium()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])

    async def body(issuer: str) -> None:
        async with Federation(tmp_path, settings(issuer)) as f:
            complaints: list[str] = []
            async with serving(f.app, port) as url, tab(path, complaints) as page:
                await page.goto(url)
                await page.click("text=Log in with your institution")
                await page.click("text=Cancel")  # at the provider
                await page.wait_for_selector("text=You are not logged in")
                assert "let nobody in" in await page.inner_text("[role=alert]")
                assert complaints  # the status of 401 is one, and the provider asks for a font from elsewhere
                await page.click("text=Log in again")
                await page.fill("input[name=login]", "ada")
                await page.fill("input[name=password]", "x")
                await page.click("button[type=submit]")
                await page.click("button[type=submit]")  # agrees to tell the groups
                await page.wait_for_selector("text=Sign out")
                assert f"ada ({urlsplit(issuer).netloc})" in await page.inner_text(".who")
                assert "data scientist" in (await page.inner_text(".who")).lower()
                assert await page.evaluate("location.hash") in ("", "#/")  # the code stays in no address
                token = await page.evaluate("sessionStorage.getItem('hanse.token')")
                f.tokens["ada"] = token
                assert await f.ok("ada", "GET", "/api/me")
                complaints.clear()
                await page.click("text=Sign out")
                await page.wait_for_selector("text=Log in with your institution")
                assert await page.evaluate("sessionStorage.length") == 0
                await f.until(lambda found: any(event.kind == "account.logout" for event in found))
                await f.refused("ada", "GET", "/api/me", None, 401)
                f.it.chronicle.close_streams()
            assert complaints == []

    with providing(f"http://127.0.0.1:{port}/login/callback") as issuer:
        asyncio.run(asyncio.wait_for(body(issuer), 2 * PATIENCE))


def test_without_a_provider_there_is_no_such_login(tmp_path: Path) -> None:
    async def main() -> None:
        async with Federation(tmp_path) as f:
            assert await f.ok(None, "GET", "/api/login") == {"oidc": False, "issuer": None}
            for method, path, body in (("GET", "/login", None), ("POST", "/api/login/device", {})):
                await f.refused(None, method, path, body, 404)

    asyncio.run(main())


# ---------------------------------------------------------------- tokens that are not believed

KEY, OTHER = RSAKey.generate_key(2048, {"kid": "k"}), RSAKey.generate_key(2048, {"kid": "k"})


def provider() -> Provider:
    """One whose keys are known; nothing is asked of it."""
    made = Provider("https://id.example", "hanse")
    made._keys, made._keys_at = KeySet([KEY]), time.monotonic()
    return made


def token(key: Any = KEY, algorithm: str = "RS256", **claims: Any) -> str:
    now = int(time.time())
    sound = {"iss": "https://id.example", "aud": "hanse", "sub": "1", "iat": now, "exp": now + 60, "nonce": "n"}
    said = {name: value for name, value in {**sound, **claims}.items() if value is not None}
    return str(jwt.encode({"alg": algorithm, "kid": "k"}, said, key, algorithms=[algorithm]))


def test_what_is_sound_is_believed() -> None:
    assert provider().claims(token(), "n")["sub"] == "1"
    assert provider().claims(token(aud=["hanse"], azp="hanse"), "n")["sub"] == "1"


TIMES = ("exp", "iat", "nbf")  # of now: workers that collect tests a second apart would call them otherwise


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"iss": "https://id.example/"},
        {"iss": None},
        {"aud": "another"},
        {"aud": ["hanse", "another"]},
        {"aud": None},
        {"azp": "another"},
        {"exp": int(time.time()) - 3600},
        {"exp": None},
        {"iat": None},
        {"iat": int(time.time()) + 3600},
        {"nbf": int(time.time()) + 3600},
        {"sub": ""},
        {"sub": None},
        {"sub": "x" * 300},
        {"nonce": "other"},
        {"nonce": None},
    ],
    ids=lambda claims: " ".join(
        f"{name}-{str(value)[:12]}" if name not in TIMES else name for name, value in claims.items()
    ),
)
def test_claims_that_do_not_fit_are_not_believed(claims: dict[str, Any]) -> None:
    with pytest.raises(NotAuthenticated):
        provider().claims(token(**claims), "n")


def test_signatures_that_do_not_fit_are_not_believed() -> None:
    public = KEY.as_pem(private=False)
    plain = token().split(".")
    head = urlsafe_b64encode(b'{"alg":"HS256","kid":"k"}').decode().rstrip("=")
    taken = hmac.new(public, f"{head}.{plain[1]}".encode(), hashlib.sha256).digest()
    none = ".".join(["eyJhbGciOiJub25lIn0", plain[1], ""])
    for wrong in (
        token(OTHER),
        ".".join([head, plain[1], urlsafe_b64encode(taken).decode().rstrip("=")]),  # the public key taken for a secret
        token(OctKey.import_key(SECRET), "HS256"),
        none,
        ".".join([plain[0], plain[1][:-2] + "xx", plain[2]]),
        "",
        "a.b.c",
        "x" * 10_000,
    ):
        with pytest.raises(NotAuthenticated):
            provider().claims(wrong, "n")


@pytest.mark.parametrize("issuer_", ["http://id.example", "id.example", "ftp://id.example", "https://"])
def test_a_provider_is_asked_over_tls(issuer_: str) -> None:
    with pytest.raises(ConfigError):
        Provider(issuer_, "hanse")


def test_a_provider_that_calls_itself_something_else_is_not_believed(issuer: str) -> None:
    with pytest.raises(HanseError):
        Provider(issuer.replace("127.0.0.1", "localhost"), "hanse").address(BACK, "s", "n", "v" * 43)


class Liar(BaseHTTPRequestHandler):
    """A provider on this machine that answers what ``says`` has for a path: status and bytes."""

    says: ClassVar[dict[str, tuple[int, bytes]]] = {}
    asked: ClassVar[list[tuple[str, str, bytes]]] = []

    def answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.asked.append((self.path, self.headers.get("authorization", ""), sent))
        status, raw = self.says.get(self.path, (404, b"{}"))
        self.send_response(status)
        self.send_header("content-length", str(len(raw)))
        if status == 302:
            self.send_header("location", "http://127.0.0.1:1/")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(raw)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def liar() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    names = ("token", "device_authorization", "authorization")
    about = {"issuer": url, "jwks_uri": f"{url}/keys", **{f"{name}_endpoint": f"{url}/{name}" for name in names}}
    Liar.says = {"/.well-known/openid-configuration": (200, json.dumps(about).encode())}
    Liar.asked = []
    yield url
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((200, b"{" + b" " * (2 << 20) + b"}"), NotNow),
        ((200, b"[]"), NotNow),
        ((200, b"<html>"), NotNow),
        ((502, b"{}"), NotNow),
        ((302, b""), NotNow),
        ((200, b"{}"), NotAuthenticated),
        ((200, b'{"id_token": "a.b.c", "expires_in": "soon"}'), NotNow),
        (
            (400, json.dumps({"error": "invalid_grant", "error_description": 'Ungültig: "x"\r\nTrace'}).encode()),
            NotAuthenticated,
        ),
        ((200, b'{"id_token": 5}'), NotAuthenticated),
    ],
    ids=lambda given: str(given)[:30],
)
def test_what_a_provider_answers_is_bounded_and_never_a_traceback(
    liar: str, answer: tuple[int, bytes], error: type[HanseError]
) -> None:
    Liar.says["/token"] = answer
    with pytest.raises(error) as found:
        Provider(liar, "hanse", "s").exchange(BACK, "c", "n", "v" * 43)
    assert "\n" not in found.value.message
    with pytest.raises(error):
        Provider(liar, "hanse", "s").poll_device("d")


@pytest.mark.parametrize("secret", ["", "s"])
def test_a_client_says_who_it_is_once(liar: str, secret: str) -> None:
    """With its secret in a header, or its name among what it sends: twice is an error by RFC 6749, 3.2."""
    Liar.says["/device_authorization"] = (200, b'{"device_code": "d", "user_code": "u", "verification_uri": "v"}')
    Liar.says["/token"] = (
        400,
        json.dumps({"error": "authorization_pending", "error_description": "wait.\r\nTrace"}).encode(),
    )
    asked = Provider(liar, "hanse", secret)
    assert asked.begin_device()["device_code"] == "d"
    with pytest.raises(Pending):
        asked.poll_device("d")
    for path, shown, sent in Liar.asked:
        if path in ("/device_authorization", "/token"):
            names = [pair.partition("=")[0] for pair in sent.decode().split("&")]
            assert len(names) == len({*names})
            assert ("client_id" in names) == (not secret)
            assert shown.startswith("Basic ") == bool(secret)


def test_settings_say_who_gets_in() -> None:
    read = CoordinatorSettings.read
    whole = ["oidc_issuer=https://id.example", "oidc_client_id=hanse", "oidc_roles=a=operator"]
    assert read(whole, {"OIDC_CLIENT_SECRET": "s"}).oidc_secret == "s"
    assert "s3cret" not in repr(read(whole, {"OIDC_CLIENT_SECRET": "s3cret"}))
    for wrong in (whole[:2], [*whole[:2], "oidc_roles=a=king"], [*whole[:2], "oidc_roles=operator"]):
        with pytest.raises(ConfigError):
            read(wrong)


def test_what_is_under_way_ends_by_itself_and_is_bounded() -> None:
    now = [0.0]
    kept: Expiring[int] = Expiring(10.0, 2, lambda: now[0])
    first = kept.put(1)
    kept.put(2)
    with pytest.raises(TooMany):
        kept.put(3)
    now[0] = 10.5
    assert kept.take(first) is None
    assert kept.take(kept.put(3)) == 3
    assert json.dumps(kept.look("none")) == "null"
