// Runs one case of the peers' benchmark once on BullMQ and prints one line of JSON:
//
//     node benches/peers/bullmq.mjs CASE TASKS CONCURRENCY URL [PROCESSES]
//
// measure.py says what the cases and the fields are, deploy/peers.sh installs what it needs.
// CONCURRENCY is that of one Worker, PROCESSES (1, unless given) how many processes have one
// each: its documentation ("Parallelism and Concurrency") has many tasks in one process where
// they wait, and more processes where they compute. On two cores, which they share with
// Redis, two were no faster than one.
//
// All is queued before the clock starts, with the workers connected, and not running yet.
//
// What was chosen, and why:
// - removeOnComplete {count: 0} ("Auto-removal of jobs"): nothing is kept, the least to write.
// - A chain is a flow ("Flows"), each task the parent of the one before: one script finishes a
//   task and fetches the next. Its users also have each task add the next one: that is a second
//   script per hop, and slower.
// - ioredis, its default client ("Connections"). node-redis was no faster. ioredis' automatic
//   pipelining is left off: its maintainer doubts that it works here, and users saw jobs fail
//   (taskforcesh/bullmq#457 and #1127, OptimalBits/bull#2276).
// - Locks are renewed and stalled jobs looked for, as by default: without them a task is lost
//   with its worker.
import { fork } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(import.meta.url);
const QUEUE = 'bench';
// The name of the task after which no other comes, in a fan and a chain.
const LAST = 'last';
const CASES = ['drain', 'fan', 'chain'];
const LONGEST_RUN_MS = 600_000;
const STOP_MS = 10_000;

function fail(message) {
  console.error(`bullmq.mjs: ${message}`);
  process.exit(1);
}

function load() {
  try {
    const require = createRequire(new URL('../../.tools/peers/package.json', import.meta.url));
    return {
      ...require('bullmq'),
      Redis: require('ioredis'),
      version: require('bullmq/package.json').version,
    };
  } catch (error) {
    return fail(`BullMQ cannot be loaded: run \`make peers\` (${error.message.split('\n')[0]})`);
  }
}

const { FlowProducer, Queue, Redis, Worker, version } = load();
// BullMQ asks for it: a worker waits for Redis, however long it takes.
const connect = (url) => new Redis(url, { maxRetriesPerRequest: null });
// One clock for all processes, unlike performance.now().
const now = () => Number(process.hrtime.bigint()) / 1e9;

// A process with one Worker: says that it is ready, runs when told so, and says what it has done
// when that may have been all: in a drain when it found nothing left to fetch, and from then on
// after each task.
async function runWorker(kind, url, concurrency) {
  process.on('disconnect', () => process.exit(1));
  let executed = 0;
  let last = now();
  let empty = false;
  const worker = new Worker(QUEUE, async () => {}, {
    connection: connect(url),
    concurrency,
    autorun: false,
    removeOnComplete: { count: 0 },
  });
  const report = () => process.send({ executed, at: last });
  worker.on('completed', (job) => {
    executed += 1;
    last = now();
    if (empty || job.name === LAST) report();
  });
  worker.on('drained', () => {
    if (kind !== 'drain') return;
    empty = true;
    report();
  });
  worker.on('failed', (job, error) => fail(`task ${job?.id} failed: ${error.message}`));
  worker.on('error', (error) => fail(`a worker: ${error.message}`));
  process.on('message', async (message) => {
    if (message === 'go') worker.run();
    if (message === 'stop') {
      await worker.close();
      process.send({ executed, at: last }, () => process.exit(0));
    }
  });
  await worker.waitUntilReady();
  report();
}

// Queues the tasks of a case and returns how many there are.
async function queue(kind, tasks, url) {
  const connection = connect(url);
  if (kind === 'drain') {
    // "Adding jobs in bulk".
    const producer = new Queue(QUEUE, { connection });
    await producer.addBulk(Array.from({ length: tasks }, () => ({ name: 'task', data: {} })));
    await producer.close();
    await connection.quit();
    return tasks;
  }
  const task = (name, children) => ({ name, queueName: QUEUE, data: {}, children });
  let tree;
  if (kind === 'fan') {
    tree = task(LAST, Array.from({ length: tasks }, () => task('task')));
  } else {
    for (let at = 1; at <= tasks; at += 1) tree = task(at < tasks ? 'task' : LAST, tree && [tree]);
  }
  const producer = new FlowProducer({ connection });
  await producer.add(tree);
  await producer.close();
  await connection.quit();
  return kind === 'fan' ? tasks + 1 : tasks;
}

// What Redis has spent: commands, those in scripts included, and seconds of its main thread.
async function spent(redis) {
  const info = await redis.info('everything');
  const field = (name) => Number(new RegExp(`^${name}:([0-9.]+)`, 'm').exec(info)[1]);
  return {
    commands: field('total_commands_processed'),
    cpu: field('used_cpu_user_main_thread') + field('used_cpu_sys_main_thread'),
  };
}

// The latest report of each worker, as soon as `enough` accepts them.
function reports(workers, enough) {
  return new Promise((resolve) => {
    const latest = new Map();
    for (const worker of workers) {
      worker.removeAllListeners('message');
      worker.on('message', (report) => {
        latest.set(worker, report);
        if (enough([...latest.values()])) resolve([...latest.values()]);
      });
    }
  });
}

// Ends the workers; returns what they have done.
async function stop(workers) {
  const last = reports(workers, (all) => all.length === workers.length);
  const gone = workers.map((worker) => {
    worker.removeAllListeners('exit');
    worker.send('stop');
    const timer = setTimeout(() => worker.kill('SIGKILL'), STOP_MS);
    return new Promise((resolve) => worker.once('exit', resolve)).finally(() => clearTimeout(timer));
  });
  await Promise.all(gone);
  return Promise.race([last, []]);
}

const count = (all) => all.reduce((sum, { executed }) => sum + executed, 0);

async function main([kind, tasks, concurrency, url, processes]) {
  const redis = new Redis(url, { retryStrategy: null, lazyConnect: true });
  redis.on('error', (error) => fail(`cannot reach Redis at ${url}: ${error.message}; start one and pass its URL`));
  await redis.connect();
  const keys = await redis.dbsize();
  if (keys > 0) fail(`${url} holds ${keys} keys; pass an empty database, since keys of others would be counted`);

  const workers = Array.from({ length: processes }, () => fork(PROGRAM, ['--worker', kind, url, concurrency]));
  for (const worker of workers) worker.once('exit', (code) => fail(`a worker ended with ${code}: see its message above`));
  const late = setTimeout(() => fail(`not done within ${LONGEST_RUN_MS / 1000} s; pass fewer tasks`), LONGEST_RUN_MS);
  await reports(workers, (all) => all.length === processes);
  const total = await queue(kind, tasks, url);

  const before = await spent(redis);
  // In a fan and a chain only the worker of the last task reports.
  const finished = reports(workers, (all) => kind !== 'drain' || count(all) >= total);
  const began = now();
  for (const worker of workers) worker.send('go');
  const seconds = Math.max(...(await finished).map(({ at }) => at)) - began;
  const after = await spent(redis);
  clearTimeout(late);
  const executed = count(await stop(workers));
  await redis.quit();
  if (executed < total) fail(`only ${executed} of ${total} tasks were run`);
  console.log(JSON.stringify({
    peer: 'bullmq',
    version,
    case: kind,
    tasks,
    concurrency,
    processes,
    executed,
    seconds: Number(seconds.toFixed(6)),
    rate: Number((tasks / seconds).toFixed(1)),
    ...(kind === 'chain' ? { ms_per_hop: Number(((seconds * 1000) / tasks).toFixed(4)) } : {}),
    // Minus the INFO that began the count.
    redis_commands: after.commands - before.commands - 1,
    redis_cpu_seconds: Number((after.cpu - before.cpu).toFixed(6)),
  }));
}

const words = process.argv.slice(2);
if (words[0] === '--worker') {
  await runWorker(words[1], words[2], Number(words[3]));
} else {
  const [kind, tasks, concurrency, url, processes = '1'] = words;
  const numbers = [tasks, concurrency, processes].map(Number);
  if (!CASES.includes(kind) || !url || !numbers.every((n) => Number.isInteger(n) && n > 0)) {
    fail(`usage: bullmq.mjs ${CASES.join('|')} TASKS CONCURRENCY URL [PROCESSES]`);
  }
  await main([kind, numbers[0], numbers[1], url, numbers[2]]);
}
