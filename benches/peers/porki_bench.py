"""Runs one case of the peers' benchmark once on porki and prints one line of JSON:

    .tools/peers/venv/bin/python benches/peers/porki_bench.py CASE TASKS CONCURRENCY URL

measure.py says what the cases and the fields are, deploy/peers.sh installs what it needs.
CONCURRENCY is the number of agents of one role, each a process as with `porki run --role agent`.
Its cost per task grows with the number of tasks: pass 50 or 200, not 10,000.

The agents are porki's own, with what its command line gives them, but for these, all of which
make it faster:
- the model is StubLLMClient, which porki's own tests use: it answers at once. `porki run` can
  only start a program, thrice per task, and looks each half second whether that has ended;
- --loop-interval 0: by default an agent sleeps for a second after each task;
- the tasks are of the phase "integration", so that they become "done" at once and are looked
  at no more. Others become "dev_done" and are read again in each turn;
- its log is at ERROR."""

import itertools
import logging
import multiprocessing
import sys
import tempfile
import time
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path

# Before what lies beside this is imported: no compiled files beside the sources.
sys.dont_write_bytecode = True

import redis
from measure import LONGEST_RUN_SECONDS, Clock, arguments, connect, end_with_parent, fail
from porki.cache import RedisStore
from porki.llm import StubLLMClient
from porki.models import DagModel, TaskEdge, TaskNode
from porki.runtime import AgentRuntime

GOAL = "bench"
ROLE = "worker"
INSTRUCTIONS = "INSTRUCTIONS.md"
HEARTBEAT = "heartbeat.md"
START_SECONDS = 60
STOP_SECONDS = 10


class BenchAgent(AgentRuntime):
    """porki's agent, which waits with its first turn until all is queued, and tells on a pipe
    that it is ready and then which task it has recorded as done, and when."""

    def __init__(self, *, go, pipe, **options):
        super().__init__(**options)
        self._go, self._pipe = go, pipe
        self._waited = False

    def _run_cycle(self):
        if not self._waited:
            self._waited = True
            self._pipe.send("ready")
            self._go.wait()
        super()._run_cycle()

    def _record_result(self, node, execution, summary):
        super()._record_result(node, execution, summary)
        self._pipe.send((node.id, time.monotonic()))


def run_agent(number, url, folder, go, pipe):
    """One agent, until the process is ended."""
    end_with_parent()
    logging.basicConfig(level=logging.ERROR)
    agent = BenchAgent(
        go=go,
        pipe=pipe,
        agent_name=f"agent-{number}",
        agent_role=ROLE,
        goal_id=GOAL,
        instructions_path=folder / INSTRUCTIONS,
        heartbeat_path=folder / HEARTBEAT,
        redis_store=RedisStore(redis.Redis.from_url(url)),
        llm_client=StubLLMClient(),
        loop_interval=0,
        # As `porki run` has them.
        lease_ttl=timedelta(seconds=30),
        heartbeat_refresh_interval=timedelta(seconds=300),
        instructions_refresh_interval=timedelta(seconds=300),
    )
    agent.run()


def plan(case, tasks):
    """The tasks of a case as porki's orchestrator would write them."""
    names = [f"task-{number:06}" for number in range(tasks)]
    edges = []
    if case == "chain":
        edges = [TaskEdge(source=a, target=b) for a, b in itertools.pairwise(names)]
    elif case == "fan":
        edges = [TaskEdge(source=name, target="last") for name in names]
        names.append("last")
    nodes = [
        TaskNode(id=name, title=name, priority=0, metadata={"phase": "integration", "required_role": ROLE})
        for name in names
    ]
    return DagModel(goal_id=GOAL, nodes=nodes, edges=edges)


def start(count, url, folder, go):
    """Starts the agents; returns the pipes on which they tell, when all are ready."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    for number in range(count):
        pipe, end = context.Pipe(duplex=False)
        agent = context.Process(target=run_agent, args=(number, url, folder, go, end), daemon=True)
        agent.start()
        # Only the agent may hold its end, or its death would not close the pipe.
        end.close()
        pipes.append(pipe)
    deadline = time.monotonic() + START_SECONDS
    for _ in range(count):
        hear(pipes, deadline, "all were ready")
    return pipes


def hear(pipes, deadline, awaited):
    """What one agent tells next; `awaited` says what for, should none."""
    heard = wait(pipes, max(0.0, deadline - time.monotonic()))
    if not heard:
        fail(f"porki's agents took too long until {awaited}: see their messages above, or pass fewer tasks")
    try:
        return heard[0].recv()
    except EOFError:
        return fail(f"one of porki's agents ended before {awaited}: see its messages above")


def wait_for_all(pipes, total):
    """How many runs it took until each of the tasks had run, and when the last was recorded."""
    deadline = time.monotonic() + LONGEST_RUN_SECONDS
    seen = {}
    executed = 0
    while len(seen) < total:
        task, at = hear(pipes, deadline, f"all {total} tasks were done")
        executed += 1
        seen.setdefault(task, at)
    return executed, max(seen.values())


def stop(agents):
    """Ends the agents, which know no other end than a signal."""
    for agent in agents:
        agent.terminate()
    for agent in agents:
        agent.join(STOP_SECONDS)
        if agent.is_alive():
            agent.kill()
            agent.join()


def main():
    args = arguments()
    client = connect(args.url)
    go = multiprocessing.get_context("spawn").Event()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / INSTRUCTIONS).write_text("Do the tasks.\n", encoding="utf-8")
        (folder / HEARTBEAT).write_text("", encoding="utf-8")
        try:
            pipes = start(args.concurrency, args.url, folder, go)
            dag = plan(args.case, args.tasks)
            RedisStore(client).write_dag(dag)
            clock = Clock(client)
            go.set()
            executed, ended = wait_for_all(pipes, len(dag.nodes))
            clock.report("porki", args, executed, ended)
        finally:
            stop(multiprocessing.active_children())


if __name__ == "__main__":
    main()
