"""What all Python peers share: the modes, the tally of the worker, the JSON line (benches/peers/README.md).

A peer is an object with `one(payload)`, and where it can `bulk(payloads)` and `cycle(payload)`, all plain or all
`async`; and `work(keep)`, which runs its worker in this process.
"""
import asyncio
import inspect
import json
import os
import resource
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

URL = os.environ.get("REDIS_URL", "")
SIZE = int(os.environ.get("BENCH_PAYLOAD", 100))
CALLERS, BULK = 64, min(1000, max(1, 2_000_000 // SIZE))
lock, spans, begun, wanted = threading.Lock(), [], None, 0


def cpu():
    """CPU seconds of this process and of its ended children."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def payload():
    return f"{time.monotonic_ns()};".ljust(SIZE - 2, "x")


def say(**line):
    # Celery redirects sys.stdout into its log.
    print(json.dumps(line), file=sys.__stdout__, flush=True)


def hit(text):
    """What every handler calls."""
    global begun
    now = time.monotonic_ns()
    with lock:
        begun = begun or (now, cpu())
        spans.append((now - int(text.split(";")[0])) / 1000)
        if len(spans) != wanted:
            return
        rest = sorted(spans[len(spans) // 10 :])  # the first tenth warms up
    at = lambda share: rest[min(len(rest) - 1, int(len(rest) * share))]
    line = dict(count=wanted, seconds=(now - begun[0]) / 1e9, cpu=cpu() - begun[1])
    line |= dict(p50_us=at(0.5), p99_us=at(0.99), p999_us=at(0.999))
    # The last acknowledgements go out before the process ends.
    threading.Timer(0.3, lambda: (say(**line), os._exit(0))).start()


def _threads(each, count):
    def caller():
        for _ in range(count // CALLERS):
            each(payload())

    with ThreadPoolExecutor(CALLERS) as pool:
        for done in [pool.submit(caller) for _ in range(CALLERS)]:
            done.result()


def _feed(each, count, rate):
    start = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        sends = []
        for n in range(count):
            early = start + n / rate - time.monotonic()
            if early > 0.001:
                time.sleep(early)
            sends.append(pool.submit(lambda: each(payload())))
        for done in sends:
            done.result()


def _sync(peer, mode, count, extra):
    if mode == "one":
        for _ in range(count):
            peer.one(payload())
    elif mode == "many":
        _threads(peer.one, count)
    elif mode == "cycle":
        _threads(peer.cycle, count)
    elif mode == "bulk":
        for first in range(0, count, BULK):
            peer.bulk([payload() for _ in range(first, min(count, first + BULK))])
    elif mode == "feed":
        _feed(peer.one, count, float(extra))


async def _async(peer, mode, count, extra):
    async def callers(each):
        async def caller():
            for _ in range(count // CALLERS):
                await each(payload())

        await asyncio.gather(*(caller() for _ in range(CALLERS)))

    await peer.start()
    start = time.monotonic()
    if mode == "one":
        for _ in range(count):
            await peer.one(payload())
    elif mode in ("many", "cycle"):
        await callers(peer.one if mode == "many" else peer.cycle)
    elif mode == "feed":
        sends = []
        for n in range(count):
            early = start + n / float(extra) - time.monotonic()
            if early > 0.001:
                await asyncio.sleep(early)
            sends.append(asyncio.create_task(peer.one(payload())))
        await asyncio.gather(*sends)
    say(count=count, seconds=time.monotonic() - start)


def main(peer):
    global wanted
    mode, count = sys.argv[1], int(sys.argv[2])
    extra = sys.argv[3] if len(sys.argv) > 3 else ""
    if mode == "work":
        wanted = count
        say(ready=True)
        peer.work(extra == "keep")
    elif inspect.iscoroutinefunction(peer.one):
        asyncio.run(_async(peer, mode, count, extra))
    else:
        start = time.monotonic()
        _sync(peer, mode, count, extra)
        say(count=count, seconds=time.monotonic() - start)
