"""Celery's application for celery_bench.py, which starts its worker and tells it the rest in
its environment: BENCH_REDIS_URL, and BENCH_FD, a pipe on which the worker says "r" when it is
ready and one "." for each task that is done. A pipe, so that counting costs Redis nothing."""

import os

from celery import Celery
from celery.signals import task_postrun, worker_init, worker_ready
from measure import end_with_parent

URL = os.environ["BENCH_REDIS_URL"]
# Where the tasks wait: the worker is told to consume it when the clock starts.
QUEUE = "bench"
# What it consumes until then.
IDLE_QUEUE = "idle"

app = Celery("celery_app", broker=URL, backend=URL)
app.conf.update(
    task_default_queue=QUEUE,
    # "Optimizing", Prefetch Limits: with many short tasks let this be large, "64, or 128".
    worker_prefetch_multiplier=128,
    # "Optimizing": acknowledged early, as is the default. So a task that a killed worker had
    # fetched is lost: less than the others promise, and cheaper for Celery.
    task_acks_late=False,
    # Its defaults, named since they decide the speed: no events, no rate limits, no tracking.
    worker_send_task_events=False,
    worker_disable_rate_limits=True,
    task_track_started=False,
    broker_connection_retry_on_startup=True,
)


@app.task
def noop(*_):
    """Does nothing. The last of a chord is handed the results of the others."""


# "Tasks", Ignore results you don't want: nobody reads them in a drain or a chain.
@app.task(ignore_result=True)
def noop_without_result():
    """Does nothing, and nobody is told."""


@app.task(ignore_result=True)
def hop(more):
    """Does nothing but send the next of a chain, of which there are `more`."""
    if more:
        hop.delay(more - 1)


if "BENCH_FD" in os.environ:
    FD = int(os.environ["BENCH_FD"])

    @worker_init.connect
    def _on_start(**_):
        end_with_parent()

    @worker_ready.connect
    def _on_ready(**_):
        os.write(FD, b"r")

    # After the result is stored and the next link of the chain, or the chord's last, is sent.
    @task_postrun.connect
    def _on_done(**_):
        os.write(FD, b".")
