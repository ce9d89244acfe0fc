"""taskiq on taskiq-redis: the stream broker, which acknowledges; 100 tasks at once in one process."""
import asyncio
import logging
import sys

from taskiq import SimpleRetryMiddleware
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

import driver

logging.disable(logging.CRITICAL)
broker = RedisStreamBroker(url=driver.URL, queue_name="bench").with_middlewares(SimpleRetryMiddleware())
if "cycle" in sys.argv or "keep" in sys.argv:
    broker = broker.with_result_backend(RedisAsyncResultBackend(driver.URL, result_ex_time=60))


@broker.task(task_name="noop", retry_on_error=True, max_retries=3)
async def noop(text: str) -> int:
    driver.hit(text)
    return len(text)


class Peer:
    async def start(self):
        await broker.startup()

    async def one(self, text):
        await noop.kiq(text)

    async def cycle(self, text):
        await (await noop.kiq(text)).wait_result(check_interval=0.002, timeout=60)

    def work(self, _keep):
        asyncio.run(self._work())

    async def _work(self):
        broker.is_worker_process = True
        await run_receiver_task(broker, max_async_tasks=100, run_startup=True)


driver.main(Peer())
