"""dramatiq: one process, 8 threads as documented, retries on, messages acknowledged after the run."""
import logging
import sys
import threading

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

import driver

logging.disable(logging.CRITICAL)
KEEP = "cycle" in sys.argv or "keep" in sys.argv
broker = RedisBroker(url=driver.URL)
if KEEP:
    broker.add_middleware(Results(backend=RedisBackend(url=driver.URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(**({"store_results": True} if KEEP else {}))
def noop(text):
    driver.hit(text)
    return len(text)


class Peer:
    one = staticmethod(noop.send)

    def cycle(self, text):
        noop.send(text).get_result(block=True, timeout=60_000)

    def work(self, _keep):
        dramatiq.Worker(broker, worker_threads=8).start()
        threading.Event().wait()


driver.main(Peer())
