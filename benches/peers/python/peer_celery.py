"""Celery: one process, acks_late so that a crash loses nothing (after its visibility timeout)."""
import logging
import sys

from celery import Celery

import driver

logging.disable(logging.CRITICAL)
KEEP = "cycle" in sys.argv or "keep" in sys.argv
app = Celery("bench", broker=driver.URL, backend=driver.URL if KEEP else None)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=not KEEP,
    worker_prefetch_multiplier=128,
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop(text):
    driver.hit(text)
    return len(text)


class Peer:
    def one(self, text):
        noop.delay(text)

    def cycle(self, text):
        noop.delay(text).get(timeout=60)

    def work(self, _keep):
        app.worker_main(["worker", "--pool=solo", "--without-gossip", "--without-mingle", "--loglevel=CRITICAL"])


driver.main(Peer())
