"""``make chaos SEED=1 MINUTES=60``: a federation of real processes under faults that a seed chooses, and afterwards the
proof that nothing was lost: same bytes or a reasoned end.

The references are computed first, undisturbed. Then runs of all kinds follow one another, two at a time, while one
fault after the other happens. At the end all runs get the time to end; the coordinator is stopped and started once
more, and looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from tests.chaos import proof
from tests.chaos.faults import FAULTS, Skipped
from tests.chaos.postgres import Postgres
from tests.chaos.world import NODES, World, shared_memory

Json = Any
_EVERYONE = {"min_completed": 3, "min_available_nodes": 3, "max_failed_rounds": 1000, "sample_id_column": None}
_LEARN = {**_EVERYONE, "target_column": "disease"}
KINDS: dict[str, dict[str, Json]] = {
    "averaging": {**_LEARN, "model_name": "logistic_regression", "federated_strategy": "fedavg", "num_rounds": 25},
    "exact": {**_LEARN, "model_name": "logistic_regression"},
    "boosting": {**_LEARN, "model_name": "xgboost", "num_rounds": 20, "model_options": {"max_depth": 4}},
    "secure": {**_LEARN, "model_name": "xgboost", "gathering": "secure", "model_options": {"subsample": 0.7}},
    "forest": {**_LEARN, "model_name": "random_forest", "num_rounds": 3, "model_options": {"n_estimators": 12}},
    "bytes": {**_EVERYONE, "federated_strategy": "probe", "num_rounds": 30, "model_options": {"bytes": 700_000}},
}
_AT_ONCE = 2
_PATIENCE_S = 240.0  # for a run to end once nothing happens any more
_ENDED = ("completed", "failed", "rejected", "expired", "cancelled")


async def propose(world: World, name: str) -> str:
    """The id of a run of this kind; "" where the coordinator does not take it now."""
    settings = {**KINDS[name], "name": name}
    if name == "bytes":
        settings["expected_client_ids"] = list(NODES)
    try:
        return str((await world.ask("POST", "/api/training/start", settings, "ada"))["session_id"])
    except RuntimeError as error:
        if str(error)[:3] not in ("409", "503", "500"):
            raise AssertionError(f"{name} was refused: {error}") from None
        return ""
    except httpx.HTTPError:
        return ""


async def state(world: World, run: str) -> str:
    try:
        return str((await world.ask("GET", f"/api/training/sessions/{run}"))["state"])
    except (httpx.HTTPError, RuntimeError):
        return ""


async def ended(world: World, run: str, seconds: float) -> str:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = await state(world, run)
        if found in _ENDED:
            return found
        await asyncio.sleep(0.2)
    return await state(world, run)


async def undisturbed(world: World) -> dict[str, str]:
    """SHA-256 of the result of each kind of run, when nothing happens."""
    found = {}
    for name in KINDS:
        run = await propose(world, name)
        assert run, f"{name} was not taken"
        assert await ended(world, run, _PATIENCE_S) == "completed", await world.ask(
            "GET", f"/api/training/sessions/{run}"
        )
        session = await world.ask("GET", f"/api/training/sessions/{run}")
        found[name] = session["result"]["sha256"]
    return found


async def work(world: World, dice: random.Random, proposed: dict[str, str], over: asyncio.Event) -> None:
    """Keeps runs going until it is over."""
    while not over.is_set():
        name = dice.choice(sorted(KINDS))
        run = await propose(world, name)
        if not run:
            await asyncio.sleep(0.5)
            continue
        proposed[run] = name
        while not over.is_set() and await state(world, run) not in _ENDED:
            await asyncio.sleep(0.3)


async def chaos(seed: int, minutes: float, folder: Path, postgres: Postgres | None = None) -> int:
    dice, happened, skipped = random.Random(seed), Counter[str](), set[str]()
    before, wrong = shared_memory(), list[str]()
    proposed: dict[str, str] = {}
    began = time.monotonic()
    me = asyncio.current_task()
    assert me is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)  # all that was started ends with it
    async with World(folder, postgres) as world:
        await world.online()
        references = await undisturbed(world)
        print(f"seed {seed}, {minutes:g} minutes; undisturbed: {json.dumps(references)}", flush=True)
        over = asyncio.Event()
        workers = [
            asyncio.create_task(work(world, random.Random(f"{seed}/{number}"), proposed, over))
            for number in range(_AT_ONCE)
        ]
        begin = time.monotonic()
        try:
            while time.monotonic() - begin < 60 * minutes:
                fault = dice.choice(FAULTS)
                try:
                    said = await fault(world, dice)
                except Skipped as error:
                    skipped.add(f"{fault.__name__}: {error}")
                    continue
                happened[fault.__name__] += 1
                print(f"{time.monotonic() - begin:7.1f} s  {sum(happened.values()):4}  {said}", flush=True)
                for task in workers:
                    if task.done():
                        task.result()
                for process in world.nodes.values():
                    if not process.alive:
                        print(f"           {process.name} had ended: {process.last_words()}", flush=True)
                        if not process.ended_by_its_disk:  # which a service manager starts again; all else is a fault
                            wrong.append(f"{process.name} ended by itself: {process.last_words()}")
                        process.start()
                await asyncio.sleep(dice.uniform(0.2, 3))
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
            print(f"{time.monotonic() - begin:7.1f} s  broken off: {wrong[-1]}", flush=True)
        over.set()
        await asyncio.gather(*workers, return_exceptions=True)
        print("nothing happens any more; runs may end", flush=True)
        for process in (world.coordinator, *world.nodes.values()):
            if not process.alive:  # it broke off in the middle of a fault
                process.start()
        with contextlib.suppress(AssertionError):
            await world.online()
        for run in proposed:
            await ended(world, run, _PATIENCE_S)
        await asyncio.to_thread(world.coordinator.end)
        world.coordinator.start()
        await world.up()
        found, ends = await proof.runs(world, references, proposed)
        wrong += found
        wrong += await proof.told_apart(world)
        for process in (*world.nodes.values(), world.coordinator):
            await asyncio.to_thread(process.end)
        wrong += [*proof.chains(world), *proof.ledgers(world), *proof.left_behind(world, before), *proof.logs(world)]
    print(f"{sum(happened.values())} faults in {(time.monotonic() - began) / 60:.1f} minutes: {dict(happened)}")
    print(f"{len(proposed)} runs taken, {sum(ends.values())} found: {ends}")
    for line in sorted(skipped):
        print(f"left out: {line}")
    for line in wrong:
        print(f"WRONG: {line}")
    print(
        "0 lost: same bytes or a reasoned end, logs and ledgers whole, nothing left behind" if not wrong else "FAILED"
    )
    return int(bool(wrong))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite", help="of the coordinator")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hanse-chaos-")) / "world"
    try:
        with Postgres() if given.database == "postgresql" else contextlib.nullcontext() as postgres:
            return asyncio.run(chaos(given.seed, given.minutes, folder, postgres))
    finally:
        if given.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder.parent, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
