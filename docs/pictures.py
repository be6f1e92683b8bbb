"""Makes the pictures of the README anew: ``make docs``.

It runs the demo's federation and takes its picture, and, where Chromium and playwright are installed, a
screenshot of a run's page.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import pandas  # noqa: E402

import hanse  # noqa: E402
from demo import __main__ as demo  # noqa: E402
from demo import hospitals  # noqa: E402
from demo.comparison import compare  # noqa: E402
from demo.federation import Federation  # noqa: E402
from demo.federation import hanse as command  # noqa: E402
from demo.picture import draw  # noqa: E402

IMAGES = ROOT / "docs" / "images"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hanse-docs-") as folder:
        home = Path(folder)
        files = hospitals.write(home / "data")
        with Federation(home) as federation:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda name: demo.join(federation, name, files[name]), files))
            for process in federation.nodes.values():
                process.wait_ready()
            token = federation.account("demo-scientist", "data_scientist")
            demo.OUT = home
            results = {name: demo.learn(federation, token, name) for name in demo.MODELS}
            tables = {name: compare(files, result.config, result) for name, result in results.items()}
            draw(results, tables, IMAGES / "demo.png")
            screenshot(federation, token)
        statistics(files)


def statistics(files: Mapping[str, Path]) -> None:
    """What the four hospitals say of their patients together, without pooling them."""
    sites = {name: pandas.read_csv(path) for name, path in files.items()}
    analytics = hanse.simulate(sites).analytics()
    columns = [c for c in analytics.count() if c in ("age", "trestbps", "chol", "thalach", "sex", "disease")]
    analytics.overview(columns).plot().savefig(IMAGES / "statistics.png", dpi=110)


def screenshot(federation: Federation, token: str) -> None:
    """The page of a run."""
    browser = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        browser = None
    if browser is None:
        print("no Chromium with playwright here: the screenshot of the page stays as it was")
        return
    with hanse.connect(federation.url, token) as connected:
        experiment = connected.experiment(
            model="logistic_regression",
            target=hospitals.TARGET,
            sample_id_column=hospitals.SAMPLE_ID,
            tags=["heart"],
            rounds=40,
            name="Heart disease",
            purpose="Find narrowed coronary vessels without a catheter.",
            expected_client_ids=sorted(federation.nodes),
            seed=2026,
        ).propose()
        for node in federation.nodes:
            command("node", "approve", experiment.run_id, "--home", str(federation.home / node))
        experiment.wait(progress=False)
        with sync_playwright() as driver:
            chromium = driver.chromium.launch(executable_path=browser, args=QUIET)
            page = chromium.new_page(viewport={"width": 1280, "height": 1100}, device_scale_factor=1.25)
            page.goto(f"{federation.url}/")
            page.locator("input[type=password]").first.fill(token)
            page.keyboard.press("Enter")
            page.goto(f"{federation.url}/#/runs/{experiment.run_id}")
            page.wait_for_timeout(3000)
            page.screenshot(path=str(IMAGES / "page.png"))
            chromium.close()


if __name__ == "__main__":
    main()
