"""The rival of bench_mail_door.py: Redis Streams by redis-py. ``redis_streams.py PORT PAIRS SECONDS``.

Each sender awaits one XADD after the other. Each receiver reads its own stream with XREADGROUP … BLOCK and
acknowledges all it got with one XACK before it reads again. Prints messages a second and latencies in ms.
"""

import asyncio
import json
import statistics
import sys
import time

import redis.asyncio as redis
import uvloop

BODY = b"x" * 298
PORT, PAIRS, SECONDS = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])


async def send(client: redis.Redis, number: int, until: float) -> int:
    sent = 0
    while time.perf_counter() < until:
        await client.xadd(f"s{number}", {"at": repr(time.perf_counter()), "body": BODY})
        sent += 1
    return sent


async def receive(client: redis.Redis, number: int, late: list[float]) -> None:
    stream = f"s{number}"
    while True:
        got = await client.xreadgroup("g", "c", {stream: ">"}, count=50, block=10_000)
        now = time.perf_counter()
        if not got:
            continue
        entries = got[0][1] if isinstance(got, list) else next(iter(got.values()))[0]
        late.extend(now - float(fields[b"at"]) for _, fields in entries)
        await client.xack(stream, "g", *(name for name, _ in entries))


async def main() -> None:
    # Without its time limit, which is shorter than the receivers' wait.
    clients = [
        redis.Redis(port=PORT, single_connection_client=True, socket_timeout=None) for _ in range(2 * PAIRS)
    ]
    for client in clients:
        await client.initialize()
    await clients[0].flushall()
    for number in range(PAIRS):
        await clients[0].xgroup_create(f"s{number}", "g", mkstream=True)
    late: list[float] = []
    receivers = [asyncio.create_task(receive(clients[PAIRS + n], n, late)) for n in range(PAIRS)]
    cpu, begun = time.process_time(), time.perf_counter()
    sent = sum(await asyncio.gather(*(send(clients[n], n, begun + SECONDS) for n in range(PAIRS))))
    while len(late) < sent:
        for one in receivers:
            if one.done():
                one.result()
        await asyncio.sleep(0.001)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    for task in receivers:
        task.cancel()
    await asyncio.gather(*receivers, return_exceptions=True)
    for client in clients:
        await client.aclose()
    found = statistics.quantiles(late, n=100)
    print(json.dumps({
        "rate": sent / seconds, "p50": found[49] * 1e3, "p99": found[98] * 1e3, "client": cpu / sent * 1e6,
    }))  # fmt: skip


uvloop.run(main())
