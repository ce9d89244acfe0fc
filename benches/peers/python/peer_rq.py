"""RQ: SimpleWorker, which its documentation names as the fast one (no fork per job)."""
import logging
import time

from redis import Redis
from rq import Queue, SimpleWorker

import driver
from rq_handler import noop

logging.disable(logging.CRITICAL)
connection = Redis.from_url(driver.URL)
queue = Queue("bench", connection=connection)


class Peer:
    def one(self, text, ttl=0):
        return queue.enqueue(noop, text, result_ttl=ttl)

    def bulk(self, texts):
        queue.enqueue_many([Queue.prepare_data(noop, (text,), result_ttl=0) for text in texts])

    def cycle(self, text):
        self.one(text, 60).latest_result(timeout=60)

    def work(self, _keep):
        SimpleWorker([queue], connection=connection).work(logging_level="CRITICAL")


driver.main(Peer())
