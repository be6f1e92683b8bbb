"""Logins by an OpenID provider: a real one, in a process of its own; and what is not believed, of one that lies."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import queue
import re
import shutil
import subprocess
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest

pytest.importorskip("authlib")
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

from hanse.coordinator.logins import Expiring
from hanse.coordinator.oidc import Provider
from hanse.coordinator.settings import CoordinatorSettings
from hanse.errors import ConfigError, HanseError, NotAuthenticated, TooMany

from .federation import Federation

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
    where = modules()
    running = subprocess.Popen(
        ["node", str(HERE / "provider.mjs"), str(where), BACK],
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
        end = time.monotonic() + 60
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
    with httpx.Client(follow_redirects=False, timeout=20) as browser:
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


def test_a_code_is_typed_for_a_command_line(tmp_path: Path, issuer: str) -> None:
    async def main() -> None:
        async with Federation(tmp_path, settings(issuer)) as f:
            said = await f.ok(None, "POST", "/api/login/device")
            assert "device_code" not in said
            body = {"login": said["login"]}
            assert (await f.call(None, "POST", "/api/login/device/token", body)).status_code == 202
            done = await asyncio.to_thread(at_the_provider, said["verification_uri_complete"], "ada")
            assert "Success" in done or "success" in done, done[:500]
            answer = await f.call(None, "POST", "/api/login/device/token", body)
            assert answer.status_code == 200, answer.text
            f.tokens["ada"] = answer.json()["token"]
            assert (await f.ok("ada", "GET", "/api/me"))["account"]["role"] == "data_scientist"
            await f.refused(None, "POST", "/api/login/device/token", body, 401)
            await f.refused(None, "POST", "/api/login/device/token", {"login": "x"}, 401)

    asyncio.run(main())


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
