"""Celery tasks that share a region: each delivery is worked on once, whatever process gets it.

The region is opened before the worker forks its processes, and each of them uses the same handle. A broker
may deliver a task twice; ``cache.add`` lets one of the deliveries through, and if that one fails it takes
its mark back, so that a later delivery can try again. A mark can be evicted, or a process killed before it
takes it back: this saves work, and what must not happen twice needs a database.
"""

from __future__ import annotations

import os

from celery import Celery
from pycache import Cache

BROKER = os.environ["TASKS_BROKER_DIR"]

app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": BROKER, "data_folder_out": BROKER, "control_folder": BROKER}

cache: Cache[str, int] = Cache("tasks", size="16MiB")

# Longer than a broker waits until it delivers again.
DELIVERED_SECONDS = 3600


@app.task
def bill(order: str) -> None:
    """Bills an order, unless that was done or is being done."""
    mark = f"billed:{order}"
    if not cache.add(mark, os.getpid(), ttl=DELIVERED_SECONDS):
        cache.incr("repeated", default=0)
        return
    try:
        cache.incr("bills", default=0)  # the work
    except BaseException:
        cache.delete(mark)
        raise
