"""Tasks of asyncio that sleep side by side while others wait for answers; a time-out is real."""

import asyncio
import sys
import time

import httpx
import uvloop

from tests.api.dialects.driver.bots.exchange import BASE, HEADERS, buy


async def trade(client: httpx.AsyncClient, quantity: str, seconds: float) -> None:
    while True:
        answer = await client.post(f"{BASE}/api/v3/order", headers=HEADERS, content=buy(quantity))
        assert answer.is_success, answer.text
        now = (await client.get(f"{BASE}/api/v3/time")).json()["serverTime"]
        assert now == int(time.time() * 1000), (now, time.time())
        await asyncio.sleep(seconds)


async def main() -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        began = time.monotonic()
        try:
            await asyncio.wait_for(asyncio.get_running_loop().create_future(), 0.05)
        except TimeoutError:
            # uvloop counts whole milliseconds.
            assert 0.04 < time.monotonic() - began < 60
        await asyncio.gather(*(trade(client, f"0.00{n}", 300.0 * n) for n in (1, 2, 3)))


if "uvloop" in sys.argv:
    uvloop.run(main())
else:
    asyncio.run(main())
