"""DBOS without a queue: two processes that start workflows in themselves, some at once, and wait for each.

The way of a web server whose handlers start workflows. There is no way from event to handler to speak of."""

import asyncio
from functools import partial

from dbos import DBOS

from benchmarks.peers import agent, dbos_peer
from benchmarks.peers.shares import Pool, Shares

IN_FLIGHT = 16


@DBOS.workflow()
async def async_one() -> None:
    """One step that does nothing."""
    await dbos_peer.async_step()


@DBOS.workflow()
async def async_ten() -> None:
    """Ten steps that do nothing."""
    for _ in range(10):
        await dbos_peer.async_step()


KINDS = {"one": async_one, "ten": async_ten, "parallel": dbos_peer.parallel}


def starter() -> Shares:
    """An executor, and its event loop."""
    dbos_peer.launch()
    loop = asyncio.new_event_loop()

    async def start(kind: str, count: int) -> None:
        left = iter(range(count))

        async def one_after_the_other() -> None:
            for _ in left:
                handle = await DBOS.start_workflow_async(KINDS[kind])
                await handle.get_result()

        await asyncio.gather(*(one_after_the_other() for _ in range(IN_FLIGHT)))

    return {kind: lambda count, kind=kind: loop.run_until_complete(start(kind, count)) for kind in KINDS}


def works() -> dict[str, agent.Work]:
    """What can be asked for."""
    pool = Pool(starter)
    return {kind: partial(pool.rate, kind) for kind in KINDS}


if __name__ == "__main__":
    agent.main(dbos_peer.prepare, lambda: None, works)
