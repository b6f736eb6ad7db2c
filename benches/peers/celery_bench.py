"""Runs one case of the peers' benchmark once on Celery and prints one line of JSON:

    .tools/peers/venv/bin/python benches/peers/celery_bench.py CASE TASKS CONCURRENCY URL

measure.py says what the cases and the fields are, deploy/peers.sh installs what it needs.
CONCURRENCY is the number of processes of one worker (`-c`), by its default pool, prefork.
The tasks are queued first, in a queue that the worker, though up, does not consume yet. Then
it is told to ("Workers Guide", Queues: Adding consumers), and the clock starts."""

import os
import select
import subprocess
import sys
import time

# Before what lies beside this is imported: no compiled files beside the sources.
sys.dont_write_bytecode = True

from measure import LONGEST_RUN_SECONDS, Clock, arguments, connect, fail

HERE = os.path.dirname(os.path.abspath(__file__))
# Longer than Celery's own warm shutdown takes with nothing to do.
STOP_SECONDS = 20
REPLY_SECONDS = 30


def start_worker(args, fd):
    """A worker that consumes no task yet."""
    from celery_app import IDLE_QUEUE

    options = [
        "--pool=prefork",
        f"--concurrency={args.concurrency}",
        f"--queues={IDLE_QUEUE}",
        "--loglevel=WARNING",
        # A lone worker has nobody to talk to.
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    ]
    python = [sys.executable, "-B", "-W", "ignore:You're running the worker with superuser"]
    return subprocess.Popen(
        [*python, "-m", "celery", "--quiet", "--app", "celery_app", "worker", *options],
        cwd=HERE,
        env={**os.environ, "BENCH_FD": str(fd)},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        pass_fds=[fd],
    )


def stop_worker(worker):
    """Ends the worker, which ends its processes."""
    worker.terminate()
    try:
        worker.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def read_signs(worker, fd, deadline, awaited):
    """What the worker wrote next on its pipe; `awaited` says what for, should it fail."""
    ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
    if not ready:
        fail(f"Celery's worker took too long until {awaited}: see its messages above")
    signs = os.read(fd, 65536)
    if not signs:
        fail(f"Celery's worker ended before {awaited}, with {worker.wait()}: see its messages above")
    return signs


def queue(case, tasks):
    """Queues the tasks of a case and returns how many there are."""
    from celery import chord
    from celery_app import app, hop, noop, noop_without_result

    if case == "fan":
        # "Canvas", Chords: needs results, since they are what tells that all are done.
        chord((noop.si() for _ in range(tasks)), noop.s()).apply_async()
        return tasks + 1
    if case == "chain":
        # Each task sends the next. A chain as in "Canvas" carries all that is left of it in each
        # message: about the same with 100 tasks, four times as slow with 1,000.
        hop.delay(tasks - 1)
        return tasks
    # "Calling Tasks", Connections: one producer for many messages.
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(tasks):
            noop_without_result.apply_async(producer=producer)
    return tasks


def main():
    args = arguments()
    client = connect(args.url)
    os.environ["BENCH_REDIS_URL"] = args.url
    deadline = time.monotonic() + LONGEST_RUN_SECONDS
    signs, fd = os.pipe()
    worker = start_worker(args, fd)
    # Only the worker may hold its end, or its death would not close the pipe.
    os.close(fd)
    try:
        while b"r" not in read_signs(worker, signs, deadline, "it was ready"):
            pass
        total = queue(args.case, args.tasks)

        from celery_app import IDLE_QUEUE, QUEUE, app, noop_without_result

        if not app.control.add_consumer(QUEUE, reply=True, limit=1, timeout=REPLY_SECONDS):
            fail(f"Celery's worker did not answer within {REPLY_SECONDS} s when told to consume the tasks")
        clock = Clock(client)
        # Its call to Redis waits for a second for the queues that it had. So that this second
        # is not counted, one more task ends it.
        noop_without_result.apply_async(queue=IDLE_QUEUE)
        done = 0
        while done < total + 1:
            done += read_signs(worker, signs, deadline, f"all {total} tasks were done").count(b".")
        ended = time.monotonic()
        clock.report("celery", args, done - 1, ended)
    finally:
        stop_worker(worker)


if __name__ == "__main__":
    main()
