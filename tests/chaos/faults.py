"""What happens to the federation: one function each, that does it and lets it pass. A fault that cannot happen on this
machine raises ``Skipped``."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable

import psutil

from tests.chaos.world import NODES, World, fill

Fault = Callable[[World, random.Random], Awaitable[str]]
OTHER_RELEASE = "7.3.0"


class Skipped(Exception):
    """This machine cannot do it."""


async def coordinator_killed(world: World, dice: random.Random) -> str:
    world.coordinator.end(signal.SIGKILL)
    await asyncio.sleep(dice.uniform(0, 2))
    world.coordinator.start()
    await world.up()
    return "the coordinator was killed and started again"


async def coordinator_stopped(world: World, dice: random.Random) -> str:
    await asyncio.to_thread(world.coordinator.end)
    await asyncio.sleep(dice.uniform(0, 2))
    world.coordinator.start()
    await world.up()
    return "the coordinator was stopped and started again"


async def node_killed(world: World, dice: random.Random) -> str:
    name = dice.choice(NODES)
    world.nodes[name].end(signal.SIGKILL)
    await asyncio.sleep(dice.uniform(0, 3))
    world.nodes[name].start()
    return f"{name} was killed and started again"


async def node_stopped(world: World, dice: random.Random) -> str:
    name = dice.choice(NODES)
    await asyncio.to_thread(world.nodes[name].end)
    await asyncio.sleep(dice.uniform(0, 3))
    world.nodes[name].start()
    return f"{name} was stopped and started again"


async def worker_killed(world: World, dice: random.Random) -> str:
    name = dice.choice(NODES)
    killed = 0
    for worker in world.workers(name):
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()
            killed += 1
    return f"{killed} workers of {name} were killed"


async def frozen(world: World, dice: random.Random) -> str:
    process = dice.choice([world.coordinator, *world.nodes.values()])
    seconds = dice.uniform(0.2, 6)
    if process.popen is None or not process.alive:
        raise Skipped(f"{process.name} was not there")
    process.popen.send_signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    process.popen.send_signal(signal.SIGCONT)
    return f"{process.name} was frozen for {seconds:.1f} s"


async def line_cut(world: World, dice: random.Random) -> str:
    names = dice.sample(NODES, dice.randint(1, len(NODES)))
    for _ in range(dice.randint(1, 4)):
        for name in names:
            world.line[name].cut()
        await asyncio.sleep(dice.uniform(0.05, 0.5))
    return f"the lines of {', '.join(sorted(names))} were cut"


async def line_dead(world: World, dice: random.Random) -> str:
    name, seconds = dice.choice(NODES), dice.uniform(0.5, 8)
    world.line[name].dead = True
    await asyncio.sleep(seconds)
    world.line[name].dead = False
    return f"the line of {name} carried nothing for {seconds:.1f} s"


async def disk_full(world: World, dice: random.Random) -> str:
    if not world.disks:
        raise Skipped("no disk can be mounted here")
    disk, seconds = dice.choice(world.disks), dice.uniform(0.2, 4)
    filler = await asyncio.to_thread(fill, disk)
    await asyncio.sleep(seconds)
    filler.unlink()
    return f"the disk {disk.name} was full for {seconds:.1f} s"


async def killed_on_a_full_disk(world: World, dice: random.Random) -> str:
    if world.hub not in world.disks:
        raise Skipped("no disk can be mounted here")
    filler = await asyncio.to_thread(fill, world.hub)
    await asyncio.sleep(dice.uniform(0, 1))
    world.coordinator.end(signal.SIGKILL)
    filler.unlink()
    world.coordinator.start()
    await world.up()
    return "the coordinator was killed while its disk was full"


async def clock_jumps(world: World, dice: random.Random) -> str:
    if not world.tricks.there:
        raise Skipped("no C compiler is here")
    seconds = dice.choice([-86_400, -3600, -60, 60, 3600, 5 * 86_400])
    with world.tricks.clock(seconds):
        await asyncio.sleep(dice.uniform(0.5, 4))
    return f"all clocks jumped by {seconds} s and back"


async def disk_slow(world: World, dice: random.Random) -> str:
    if not world.tricks.there:
        raise Skipped("no C compiler is here")
    milliseconds = dice.choice([20, 100, 400])
    with world.tricks.slow(milliseconds):
        await asyncio.sleep(dice.uniform(1, 5))
    return f"each write to a disk took {milliseconds} ms more"


async def disk_fails(world: World, dice: random.Random) -> str:
    if not world.tricks.there:
        raise Skipped("no C compiler is here")
    seconds = dice.uniform(0.2, 3)
    with world.tricks.failing():
        await asyncio.sleep(seconds)
    return f"no write to a disk was carried through for {seconds:.1f} s (EIO)"


async def started_with_a_wrong_clock(world: World, dice: random.Random) -> str:
    """As the board's clock has it, until the machine hears of the time."""
    if not world.tricks.there:
        raise Skipped("no C compiler is here")
    process, days = dice.choice([world.coordinator, *world.nodes.values()]), dice.choice([-2, 5, 600])
    await asyncio.to_thread(process.end)
    with world.tricks.clock(days * 86_400):
        process.start()
        if process is world.coordinator:
            await world.up()
        await asyncio.sleep(dice.uniform(0.5, 2))
    return f"{process.name} was started while all clocks were {days} days off"


async def upgraded(world: World, dice: random.Random) -> str:
    """A node comes back as another release for a while."""
    name = dice.choice(NODES)
    await asyncio.to_thread(world.nodes[name].end)
    world.nodes[name].start(OTHER_RELEASE)
    await asyncio.sleep(dice.uniform(2, 6))
    await asyncio.to_thread(world.nodes[name].end)
    world.nodes[name].start()
    return f"{name} was of release {OTHER_RELEASE} for a while"


async def second_process(world: World, dice: random.Random) -> str:
    process = dice.choice([world.coordinator, *world.nodes.values()])
    if not process.alive:
        raise Skipped(f"{process.name} was not there")
    said = await asyncio.to_thread(process.second)
    assert "running in this folder already" in said or process.ended_by_its_disk, said
    return f"a second {process.name} was refused"


async def database_killed(world: World, dice: random.Random) -> str:
    if world.postgres is None:
        raise Skipped("the coordinator has a database of its own (--database postgresql)")
    world.postgres.signal(signal.SIGKILL)
    await asyncio.sleep(dice.uniform(0, 3))
    await asyncio.to_thread(world.postgres.start)
    await world.up()
    return "PostgreSQL was killed and started again"


async def database_frozen(world: World, dice: random.Random) -> str:
    if world.postgres is None:
        raise Skipped("the coordinator has a database of its own (--database postgresql)")
    seconds = dice.uniform(0.2, 6)
    world.postgres.signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    world.postgres.signal(signal.SIGCONT)
    return f"PostgreSQL was frozen for {seconds:.1f} s"


FAULTS: tuple[Fault, ...] = (
    coordinator_killed,
    coordinator_stopped,
    node_killed,
    node_stopped,
    worker_killed,
    frozen,
    line_cut,
    line_dead,
    disk_full,
    killed_on_a_full_disk,
    clock_jumps,
    disk_slow,
    disk_fails,
    started_with_a_wrong_clock,
    upgraded,
    second_process,
    database_killed,
    database_frozen,
)
