// BullMQ: Lua scripts on lists and hashes, crash-safe by lock and stalled check. Modes: benches/peers/README.md.
import { Queue, QueueEvents, Worker } from 'bullmq';

const [mode, count, extra] = [process.argv[2], Number(process.argv[3]), process.argv[4]];
const CALLERS = 64;
const SIZE = Number(process.env.BENCH_PAYLOAD ?? 100);
const BULK = Math.min(1000, Math.max(1, Math.floor(2e6 / SIZE)));
const url = new URL(process.env.REDIS_URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const options = { attempts: 3 };

const nanos = () => process.hrtime.bigint();
const payload = () => `${nanos()};`.padEnd(SIZE - 2, 'x');
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const callers = (each) => Promise.all(Array.from({ length: CALLERS }, async () => {
  for (let i = 0; i < Math.floor(count / CALLERS); i++) await each();
}));

function work(keep) {
  const spans = [];
  let begun, cpu;
  const handler = async (job) => {
    if (!begun) [begun, cpu] = [nanos(), process.cpuUsage()];
    spans.push(Number(nanos() - BigInt(job.data.split(';')[0])) / 1000);
    if (spans.length === count) {
      const [seconds, used] = [Number(nanos() - begun) / 1e9, process.cpuUsage(cpu)];
      const sorted = spans.slice(Math.floor(count / 10)).sort((a, b) => a - b); // the first tenth warms up
      const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
      setTimeout(() => { // the last acknowledgements go out
        say({ count, seconds, cpu: (used.user + used.system) / 1e6, p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999) });
        process.exit(0);
      }, 300);
    }
    return job.data.length;
  };
  new Worker('bench', handler, { connection, concurrency: 100, removeOnComplete: keep ? { count: 1e6 } : { count: 0 } });
  say({ ready: true });
}

async function feed(add, rate) {
  const begun = nanos();
  const sends = [];
  for (let n = 0; n < count; n++) {
    const early = (n / rate) * 1000 - Number(nanos() - begun) / 1e6;
    if (early > 1) await new Promise((done) => setTimeout(done, early));
    sends.push(add());
  }
  await Promise.all(sends);
}

if (mode === 'work') work(extra === 'keep');
else {
  const queue = new Queue('bench', { connection });
  await queue.waitUntilReady();
  const add = () => queue.add('noop', payload(), options);
  let events;
  if (mode === 'cycle') {
    events = new QueueEvents('bench', { connection });
    await events.waitUntilReady();
  }
  const begun = nanos();
  if (mode === 'one') for (let i = 0; i < count; i++) await add();
  else if (mode === 'many') await callers(add);
  else if (mode === 'bulk') {
    for (let left = count; left > 0; left -= BULK) {
      await queue.addBulk(Array.from({ length: Math.min(left, BULK) }, () => ({ name: 'noop', data: payload(), opts: options })));
    }
  } else if (mode === 'cycle') await callers(async () => (await add()).waitUntilFinished(events));
  else if (mode === 'feed') await feed(add, Number(extra));
  else throw new Error(`no mode ${mode}`);
  say({ count, seconds: Number(nanos() - begun) / 1e9 });
  process.exit(0);
}
