"""What the programs for Celery and porki share: their arguments, their clock, and the one
line of JSON that they print, which is also that of bullmq.mjs:

    peer, version   who was measured
    case            drain: TASKS tasks that nothing holds back
                    fan:   TASKS tasks, and one more that waits for all of them
                    chain: TASKS tasks, each of which waits for the one before
    tasks, concurrency   as asked for; what concurrency means is said in each program
    processes       of BullMQ only: how many workers of that concurrency there were
    executed        how many times a task was run: more than there are, where one ran twice
    seconds         from "all is queued and the workers are connected" to "the last is done"
    rate            tasks per second
    ms_per_hop      milliseconds per task, for a chain only
    redis_commands  commands that Redis ran in that time, those inside scripts included
    redis_cpu_seconds    processor time of Redis' main thread in that time
"""

import argparse
import ctypes
import json
import os
import signal
import sys
import time
from importlib import metadata

import redis

CASES = ("drain", "fan", "chain")

# A run that takes longer has gone wrong: a peer waits for ever where it lost a task.
LONGEST_RUN_SECONDS = 600

PR_SET_PDEATHSIG = 1


def fail(message):
    """Ends the program with what went wrong, on stderr."""
    sys.exit(f"{os.path.basename(sys.argv[0])}: {message}")


def arguments():
    """The case, the number of tasks, the concurrency and the URL that the program was given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=CASES)
    parser.add_argument("tasks", type=int)
    parser.add_argument("concurrency", type=int)
    parser.add_argument("url", help="an empty Redis of the caller's, redis://HOST:PORT/DB")
    args = parser.parse_args()
    if args.tasks < 1 or args.concurrency < 1:
        parser.error("the number of tasks and the concurrency must be 1 or more")
    # So that every way to be ended but SIGKILL also ends what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return args


def connect(url):
    """A connection to the Redis of the caller, which must be empty."""
    client = redis.Redis.from_url(url)
    try:
        keys = client.dbsize()
    except redis.RedisError as error:
        fail(f"cannot reach Redis at {url}: {error}; start one and pass its URL")
    if keys:
        fail(f"{url} holds {keys} keys; pass an empty database, since keys of others would be counted")
    return client


def end_with_parent():
    """Lets the kernel send SIGTERM to this process when the one that started it is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Clock:
    """Time, and what Redis spent, from its making to `report`."""

    def __init__(self, client):
        self._client = client
        self._commands, self._cpu = self._spent()
        self.began = time.monotonic()

    def _spent(self):
        info = self._client.info("everything")
        cpu = info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"]
        return info["total_commands_processed"], cpu

    def report(self, peer, args, executed, ended):
        """Prints the line. `ended` is the `time.monotonic()` at which the last task was done."""
        commands, cpu = self._spent()
        seconds = ended - self.began
        line = {
            "peer": peer,
            "version": metadata.version(peer),
            "case": args.case,
            "tasks": args.tasks,
            "concurrency": args.concurrency,
            "executed": executed,
            "seconds": round(seconds, 6),
            "rate": round(args.tasks / seconds, 1),
        }
        if args.case == "chain":
            line["ms_per_hop"] = round(seconds * 1000 / args.tasks, 4)
        # Minus the INFO that began the count.
        line["redis_commands"] = commands - self._commands - 1
        line["redis_cpu_seconds"] = round(cpu - self._cpu, 6)
        print(json.dumps(line), flush=True)
