"""The page: what it loads, what it calls, how it is served; in a browser where there is one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import re
import shutil
import socket
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hanse.coordinator
import hanse.experiment.federation
import hanse.experiment.proposal
import hanse.experiment.results
from hanse.coordinator.access import TABLE
from hanse.coordinator.chronicle import AUDITED
from hanse.table import Column, Table
from tests.waiting import PATIENCE, eventually

from .federation import Federation

FOLDER = Path(hanse.coordinator.__file__).parent / "page"
FILES = sorted(FOLDER.iterdir())
SCRIPTS = [f for f in FILES if f.suffix == ".js"]
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
NAMESPACE = "http://www.w3.org/2000/svg"  # a name, never fetched
METHODS = {"get": "GET", "text": "GET", "save": "GET", "follow": "GET", "post": "POST", "remove": "DELETE"}
EVIL = '<img src=x onerror="window.stolen=1"><script>window.stolen=1</script>'
MARKUP = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "srcdoc", "javascript:"]
MARKUP += ["createContextualFragment", "new Function", 'setAttribute("style"', "localStorage", "document.cookie"]
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]


def words(path: Path) -> str:
    return path.read_text("utf-8")


def calls() -> set[tuple[str, str]]:
    """(method, route) of each call in the scripts; "" where the method stands elsewhere."""
    found = set()
    for script in SCRIPTS:
        for match in re.finditer(r"""(?:\bapi\.(\w+)\(\s*(?:api\.path\(\s*)?)?["'`](/api/[^"'`?]*)""", words(script)):
            found.add((METHODS.get(match[1] or "", ""), match[2]))
    return found


def test_what_the_page_says_to_type_in_python_is_there() -> None:
    """It said connect(...).result(...), which there never was."""
    told = re.search(r'hanse\.connect\("[^"]*"\)\.(\w+)\("[^"]*"\)\.(\w+)\(\)\.(\w+)\(\)', words(FOLDER / "run.js"))
    assert told is not None
    of = (hanse.experiment.federation.Federation, hanse.experiment.proposal.Experiment, hanse.experiment.results.Result)
    assert [hasattr(kind, name) for kind, name in zip(of, told.groups(), strict=True)] == [True] * 3


def test_every_route_that_the_page_calls_exists(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            schema = await f.ok(None, "GET", "/openapi.json")
            same = {re.sub(r"\{\w+\}", "{}", path): methods for path, methods in schema["paths"].items()}
            table = {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in TABLE}
            found = calls()
            assert len(found) > 20
            for method, route in found:
                plain = re.sub(r"\{\w+\}", "{}", route)
                assert plain in same, f"the page calls {route}, which is no route"
                if method:
                    assert method.lower() in same[plain], f"the page calls {method} {route}"
                    assert (method, plain) in table

    asyncio.run(body())


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_nothing_comes_from_elsewhere(file: Path) -> None:
    """Hospital networks are closed."""
    text = words(file).replace(NAMESPACE, "")
    assert not re.search(r"\b(https?|wss?|ftp)://", text)
    assert not re.search(r"""["'(=]\s*//\w""", text)
    assert "@import" not in text
    assert file.suffix in TYPES


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []
        self._in = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._in = tag

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in in ("script", "style") and data.strip():
            self.inline.append(data)


def test_a_strict_content_security_policy_refuses_nothing_of_it() -> None:
    parser = Tags()
    parser.feed(words(FOLDER / "index.html"))
    assert parser.inline == []
    for tag, attributes in parser.tags:
        assert tag not in ("style", "iframe", "object", "embed", "base")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        for name in ("src", "href"):
            target = attributes.get(name)
            if target and not target.startswith("#"):
                assert target.startswith("/page/")
                assert (FOLDER / target.removeprefix("/page/")).is_file()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda f: f.name)
def test_text_from_others_is_never_markup(script: Path) -> None:
    text = words(script)
    for way in MARKUP:
        assert way not in text, way
    assert not re.search(r"\beval\s*\(", text)
    assert not re.search(r"set(Timeout|Interval)\(\s*[\"'`]", text)
    for name in re.findall(r"""(?:from|import)\s*\(?\s*["'](.*?)["']""", text):
        assert name.startswith("./"), name
        assert (FOLDER / name).is_file(), name


def test_files_are_served_with_their_types_and_nothing_else_is(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            browser = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
            index = await f.call(None, "GET", "/", headers=browser)
            assert index.status_code == 200
            assert index.content == (FOLDER / "index.html").read_bytes()  # no data in it, whoever asks
            pages = [("/", index)] + [(p.name, await f.call(None, "GET", f"/page/{p.name}")) for p in FILES]
            for name, answer in pages:
                assert answer.status_code == 200, name
                assert answer.headers["content-type"].startswith(TYPES[Path(name).suffix or ".html"]), name
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert "default-src 'self'" in answer.headers["content-security-policy"]
                assert "inline" not in answer.headers["content-security-policy"]
                assert "script-src" not in answer.headers["content-security-policy"]  # so 'self' and nothing inline
            docs = await f.call(None, "GET", "/docs")
            (style,) = re.findall("<style>(.*?)</style>", docs.text)
            mark = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
            assert f"style-src 'sha256-{mark}'" in docs.headers["content-security-policy"]
            assert "inline" not in docs.headers["content-security-policy"]
            for name in ("..%2fapp.py", "%2e%2e/app.py", "app.py", "../settings.py", "index.html%00.js"):
                answer = await f.call(None, "GET", f"/page/{name}")
                assert answer.status_code in (401, 403, 404), name
                assert b"import" not in answer.content
            program = await f.ok(None, "GET", "/")
            assert program["name"]
            routes = {re.sub(r"\{\w+\}", "{}", route) for _, route in calls()}
            for (method, route), roles in TABLE.items():
                if roles and re.sub(r"\{\w+\}", "{}", route) in routes:
                    answer = await f.call(None, method, re.sub(r"\{\w+\}", "x", route), {})
                    assert answer.status_code == 401, route

    asyncio.run(body())


def test_what_happens_in_a_run_is_said_in_words() -> None:
    """What has no words is shown as JSON."""
    words = (Path(hanse.coordinator.__file__).parent / "page" / "run.js").read_text().partition("const SAYS = {")[2]
    said = set(re.findall(r'^ *"?([a-z.]+)"?: \(|[,{] "?([a-z.]+)"?: \(', words.partition("\n};")[0], re.MULTILINE))
    kinds = {kind for kind in AUDITED if kind.partition(".")[0] in ("run", "consent", "proposal", "task")}
    assert {"run.state", "proposal.refused"} <= kinds
    assert kinds <= {name for pair in said for name in pair}


# ---------------------------------------------------------------- in a browser


def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    pytest.importorskip("playwright", reason="playwright is not installed (pip install playwright)")
    return found


@contextlib.asynccontextmanager
async def serving(app: Any, port: int = 0) -> AsyncIterator[str]:
    import uvicorn

    with socket.create_server(("127.0.0.1", port)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error", timeout_graceful_shutdown=1))
        task = asyncio.ensure_future(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@contextlib.asynccontextmanager
async def tab(path: str, complaints: list[str]) -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=path, args=QUIET)
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)

        def said(message: Any) -> None:
            if message.type in ("error", "warning"):
                complaints.append(message.text)

        def asked(request: Any) -> None:
            if not request.url.startswith(("http://127.0.0.1", "blob:")):
                complaints.append(request.url)

        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", asked)
        try:
            yield page
        finally:
            await browser.close()


TOLD_OF_THE_END = """import('/page/model.js').then((model) => model.state.recent.some(
    (one) => one.kind === 'run.state' && JSON.stringify(one.detail).includes('completed')))"""
LABELS_OF_STEPS = """([rounds, each, cell]) => import('/page/charts.js').then((charts) => charts.stepLabels(
    [...Array(9).fill({}), ...Array.from({ length: rounds * each }, (_, i) => ({ round: 1 + Math.floor(i / each) }))],
    cell))"""
LEARNS = {"model_name": "logistic_regression", "federated_strategy": "fedavg", "target_column": "disease"}


def site(seed: int) -> Table:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=60)
    return Table({"x": Column.numeric(x), "disease": Column.numeric((x > 0).astype(float))})


def test_in_a_browser_an_owner_agrees_and_watches(tmp_path: Path) -> None:
    """Signs in, compares the hash, agrees, sees the run live, and is not harmed by names made of markup."""
    path = chromium()

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            node = await f.node("a", {"t": site(1)}, tags={"t": [EVIL[:30]]})
            await f.node("b", {"t": site(2)}, consent="node")
            session = await f.propose(name=EVIL, purpose=EVIL, num_rounds=2, **LEARNS)
            complaints: list[str] = []
            async with serving(f.app) as url, tab(path, complaints) as page:
                await page.goto(url)
                await page.fill("#token", f.tokens["owner-a"])
                await page.press("#token", "Enter")
                await page.wait_for_selector("text=Your browser computed this hash")
                assert await page.inner_text(".consent h3") == EVIL
                await page.click("text=Accept…")
                shown = await page.inner_text(".confirm .hash")
                assert shown.replace(" ", "") == session["code_hash"]
                await page.click("text=Yes, accept this hash")
                await page.wait_for_selector("text=Nothing waits for you.")
                await f.until(lambda _: bool(node.approved))  # the node hears of it a moment later
                assert node.approved == {session["session_id"]: session["code_hash"]}
                await page.click(".runs a")
                await page.wait_for_selector(".given >> text=hanse node approve")
                assert await page.locator(".chart").count() == 0  # nothing to draw yet
                for rounds, each, cell in ((36, 3, 7), (15, 1, 40), (400, 1, 7), (3, 40, 7)):
                    labels = await page.evaluate(LABELS_OF_STEPS, [rounds, each, cell])
                    assert [words for _, words in labels[:2]] == ["prepare", 1]
                    apart = [(b - a) * cell for (a, _), (b, _) in itertools.pairwise(labels)]
                    assert min(apart) >= 24, labels  # none over another
                await page.click(".crumb a")
                released = asyncio.Event()

                async def late(route: Any) -> None:
                    await released.wait()
                    await route.continue_()

                # The run ends while the page is reading it: what was read of it before is not the last word.
                await page.route("**/api/analytics/session/*", late)
                async with page.expect_response(f"**/sessions/{session['session_id']}"):
                    await page.click(".runs a")
                await f.nodes["b"].decide(session["session_id"], "accept")
                await eventually(lambda: page.evaluate(TOLD_OF_THE_END))
                released.set()
                await page.wait_for_selector(".head .tag.completed")  # nobody reloads
                await page.wait_for_selector("text=round 2 of 2")
                assert await page.locator(".cell.ok").count() >= 2 * 2
                assert await page.evaluate("window.stolen") is None
                assert await page.locator("main img").count() == 0
                assert await page.locator("text=Download model").count() == 0  # not for owners
                await page.set_viewport_size({"width": 380, "height": 780})
                wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                assert await page.evaluate(wide) == 0
                assert await page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0
                await page.click("text=Sign out")
                await page.wait_for_selector("#token")
                assert await page.evaluate("sessionStorage.length") == 0
                f.it.chronicle.close_streams()
            assert complaints == []

    asyncio.run(asyncio.wait_for(body(), 2 * PATIENCE))


def test_in_a_browser_a_study_is_begun_and_its_owner_is_shown_what_is_new(tmp_path: Path) -> None:
    path = chromium()

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            for node, country in (("a", "CH"), ("b", "")):
                await f.node(node, {"t": site(1)}, country=country)
            complaints: list[str] = []
            async with serving(f.app) as url:
                async with tab(path, complaints) as page:
                    await page.goto(url)
                    await page.fill("#token", f.tokens["op"])
                    await page.press("#token", "Enter")
                    await page.wait_for_selector("text=Switzerland (CH)")
                    released = asyncio.Event()

                    async def late(route: Any) -> None:
                        await released.wait()
                        await route.continue_()

                    await page.route("**/api/statistics", late)
                    await page.click("nav >> text=Statistics")
                    await page.wait_for_selector(".loading")
                    await page.evaluate(
                        "import('/page/model.js').then((model) => model.changed())"
                    )  # something happens
                    await page.evaluate(
                        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
                    )
                    released.set()
                    await page.wait_for_selector("#s-statistic")
                    await page.click("nav >> text=Operate")
                    await page.fill("#study-name", "heart")
                    await page.fill("#study-purpose", EVIL)
                    await page.check("[name=people][value=sci]")
                    await page.check("[name=nodes][value=a]")
                    await page.fill("#study-ends", "2099-12-31")
                    await page.fill("#study-epsilon", "8")
                    await page.click("text=Begin it")
                    await page.wait_for_selector("text=The study heart is open.")
                    made = f.store.studies.get("heart")
                    assert ([*made.people.values()], made.nodes) == (["sci"], ("a",))
                    assert (made.most_epsilon, made.purpose) == (8.0, EVIL)
                    asked = {**LEARNS, "study": "heart", "privacy": {"epsilon": 3.0, "ranges": {"x": [-4, 4]}}}
                    first = await f.propose(**asked, num_rounds=1)
                    await page.click("nav >> text=Overview")
                    await page.wait_for_selector("text=ε 3 of 8 spent")  # nobody reloads
                    await f.consent(first, "a")
                    await f.state(first["session_id"], "completed")
                    await f.propose(**asked, num_rounds=2, purpose=EVIL)
                    f.it.chronicle.close_streams()
                f.it.chronicle.closed = False
                async with tab(path, complaints) as page:
                    await page.goto(url)
                    await page.fill("#token", f.tokens["owner-a"])
                    await page.press("#token", "Enter")
                    await page.wait_for_selector("text=since the last that was agreed to for a")
                    assert "setting num_rounds: 2, before 1" in await page.inner_text(".changes")
                    assert "Differentially private with epsilon 3" in await page.inner_text(".consent .facts")
                    await page.click(f"text={first['session_id']}")
                    async with page.expect_download() as coming:
                        await page.click("text=Download evidence")
                    got = await coming.value
                    assert got.suggested_filename == f"{first['session_id']}.evidence.zip"
                    assert await page.evaluate("window.stolen") is None
                    f.it.chronicle.close_streams()
            assert complaints == []

    asyncio.run(asyncio.wait_for(body(), 2 * PATIENCE))


def a_row(i: int) -> str:
    """One of them over two lines."""
    city = f'"Ul{chr(10) if i == 4 else " "}m {i % 2}"'
    return f"{20 + i if i % 7 else 0},{('true', 'false', 'NA')[i % 3]},{city},{'yes' if i % 5 else 'no'}"


ROWS = "\n".join(['age,smoker,city,"sick, now"', *map(a_row, range(40)), ""])
PROFILE = "clade_name\ts1\ts2\ts3\ts4\nk__A\t0\t1.5\t0\t2\nk__B\t1\t0\t3e1\t\nk__C\t0\t0\t0\t7\n"
METADATA = "sample\tdisease\tage\ns3\tcase\t40\ns1\tcontrol\t50\ns9\tcase\t60\ns2\tcase\t70\n"
AS_TOLD = "[...document.querySelectorAll('#main dl.card dd')].map((one) => one.innerText)"
LABELS = """Object.fromEntries([...document.querySelectorAll('#f-classes tbody tr')].map(
    (row) => [row.cells[0].innerText, +row.cells[1].innerText]))"""


def test_in_a_browser_a_file_is_looked_at_and_not_sent(tmp_path: Path) -> None:
    """The figures are those of the node that reads the same file."""
    path = chromium()
    from hanse.readers import csv, profile
    from hanse.summary import summary

    (tmp_path / "set").mkdir()
    rows, told = tmp_path / "rows.csv", tmp_path / "set" / "x_profiles.tsv"
    rows.write_text(ROWS, "utf-8")
    told.write_text(PROFILE, "utf-8")
    (tmp_path / "set" / "x_metadata.tsv").write_text(METADATA, "utf-8")
    bad = {
        'a,b\n1,"2\n': "never closed",
        "a,b\r1,2\r3,4\r": "lines end with a carriage return alone",
        "caf\u00e9\n1\n": "is not UTF-8",
        "a,b\n1\n": "line 2 has 1 cells, the header has 2",
        "a,b\n1,2\n\n3,4\n": "line 3 has 1 cells, the header has 2",
        "a;b\n1;2\n": "separated by something else than commas",
        "a,a\n1,2\n": 'two columns are called "a"',
    }

    async def body() -> None:
        async with Federation(tmp_path / "home") as f:
            f.people("a")
            complaints: list[str] = []
            async with serving(f.app) as url, tab(path, complaints) as page:
                await page.goto(url)
                await page.fill("#token", f.tokens["owner-a"])
                await page.press("#token", "Enter")
                await page.click("text=Look at a file")
                await page.wait_for_selector("text=No file is chosen yet.")
                sent: list[str] = []
                page.on("request", lambda request: sent.append(f"{request.url} {request.post_data or ''}"))

                async def figures(target: str) -> list[str]:
                    await page.wait_for_selector("#f-target")
                    await page.select_option("#f-target", target)
                    await page.wait_for_selector("#f-classes")
                    return [one.split("%")[0].strip() for one in await page.evaluate(AS_TOLD)]

                async def agrees(table: Table, target: str, metadata: list[str]) -> None:
                    expected = summary(table, target, 1, metadata)
                    told = await figures(target)
                    assert told[:2] == [str(expected["num_samples"]), str(expected["num_features"])]
                    assert abs(float(told[2]) / 100 - expected["data_sparsity"]) <= 0.005 + 1e-9
                    assert abs(float(told[3]) / 100 - expected["feature_coverage"]) <= 0.005 + 1e-9
                    assert await page.evaluate(LABELS) == expected["class_distribution"]

                await page.set_input_files("#f-rows", rows)
                await agrees(csv.read(rows), "sick, now", [])
                assert await page.locator("text=keeps this back").count() == 1  # 8 of "no"
                await page.set_input_files("#f-rows", told)
                await page.set_input_files("#f-metadata", tmp_path / "set" / "x_metadata.tsv")
                await page.wait_for_selector("text=3 samples are in both files")
                table, report = profile.load(tmp_path / "set")
                await agrees(table, "disease", list(report.metadata_columns))
                await page.reload()
                for number, (text, says) in enumerate(bad.items()):
                    (tmp_path / f"bad{number}.csv").write_bytes(text.encode("latin-1"))
                    await page.set_input_files("#f-rows", tmp_path / f"bad{number}.csv")
                    await page.wait_for_selector(f"text={says}")
                assert not [one for one in sent if "Ul" in one or "control" in one or "POST" in one]
                assert all(one.endswith(" ") for one in sent)  # no request had a body
                await page.click("text=Sign out")
                await page.wait_for_selector("#token")
                f.it.chronicle.close_streams()
            assert complaints == []

    asyncio.run(asyncio.wait_for(body(), 2 * PATIENCE))
