/**
 * Three nodes, etcd and a writer as real processes. Every second one of them gets SIGKILL and comes
 * back (a successor takes the volume over). At the end everything acknowledged must be there, in
 * order, byte for byte. HOLDFAST_TEST_SECONDS changes how long; HOLDFAST_TEST_SEED repeats the
 * choice of victims.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Cluster } from '../fixtures/cluster.js';
import { History } from '../fixtures/history.js';
import { endAll, type Process } from '../fixtures/processes.js';

t.setTimeout(400_000);

const SECONDS = Number(process.env.HOLDFAST_TEST_SECONDS ?? 60);
const SEED = Number(process.env.HOLDFAST_TEST_SEED ?? Date.now() % 1_000_000);
const DEPTH = 16;
/**
 * A takeover waits for the read lease of the one before (2 s); etcd and nodes need to come back.
 */
const SERVING_MS = 60_000;

function chooser(seed: number): (count: number) => number {
  let state = seed >>> 0;
  return (count) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * count);
  };
}

async function replayed(cluster: Cluster): Promise<string[]> {
  const reader = cluster.worker();
  await reader.line(/^serving /, SERVING_MS);
  reader.write('replay');
  await reader.line(/^Z |^E /, 120_000);
  const { lines } = reader;
  await reader.kill();
  return lines;
}

t.test('every acknowledged record survives SIGKILL of anything, every second', async (t) => {
  t.comment(`seed ${SEED}, ${SECONDS} s`);
  t.teardown(endAll);
  const cluster = await Cluster.start();
  t.teardown(() => cluster.close());
  const history = new History();
  const choose = chooser(SEED);
  const epochs: string[] = [];
  const startWriter = (): Process => {
    const process = cluster.worker((line) => {
      if (!history.note(line)) epochs.push(line);
    });
    process.write(`load ${DEPTH}`);
    return process;
  };
  let writer = startWriter();
  await writer.until('first acknowledgement', SERVING_MS, () =>
    history.acknowledged.size > 0 ? true : undefined,
  );
  const kills = { node: 0, etcd: 0, writer: 0 };
  const end = Date.now() + SECONDS * 1000;
  while (Date.now() < end) {
    await sleep(1_000);
    const victim = choose(5);
    const node = cluster.nodes[victim];
    if (node !== undefined) {
      kills.node += 1;
      await node.restart();
    } else if (victim === 3) {
      kills.etcd += 1;
      const member = cluster.etcd.members[0];
      await member?.kill();
      member?.start();
    } else {
      kills.writer += 1;
      await writer.kill();
      writer = startWriter();
    }
  }
  await cluster.etcd.members[0]?.ready();
  const before = history.acknowledged.size;
  await writer.until('an acknowledgement after the last kill', SERVING_MS, () =>
    history.acknowledged.size > before ? true : undefined,
  );
  await writer.kill();
  t.comment(`${history.acknowledged.size} records acknowledged; killed ${JSON.stringify(kills)}`);
  t.ok(history.acknowledged.size > SECONDS * 10, 'enough was written to mean something');
  t.ok(epochs.filter((line) => line.startsWith('serving')).length > kills.writer / 2, 'takeovers');
  const lines = await replayed(cluster);
  t.same(history.faults(lines).slice(0, 10), [], 'all acknowledged records, in order, same bytes');
  t.ok(lines.length > history.acknowledged.size, 'the replay ended');
  await cluster.close();
  t.equal(await endAll(), 0, 'no process is left behind');
});

t.test('a paused owner that wakes up can neither append nor serve reads', async (t) => {
  t.teardown(endAll);
  const cluster = await Cluster.start();
  t.teardown(() => cluster.close());
  const old = cluster.worker();
  await old.line(/^serving /, SERVING_MS);
  old.write('append one');
  const [, , segment, page] = (await old.line(/^A /, 10_000)).split(' ');
  old.write(`read ${segment} ${page}`);
  await old.line(/^D /, 10_000);
  old.signal('SIGSTOP');
  const next = cluster.worker();
  await next.line(/^serving /, SERVING_MS);
  next.write('append two');
  t.match(await next.line(/^A /, 10_000), /^A 1 /, 'the log goes on behind the first record');
  const seen = old.lines.length;
  // Both are waiting when it wakes: the read must not be answered before the lease was looked at.
  old.write(`read ${segment} ${page}`);
  old.write('append stale');
  old.signal('SIGCONT');
  await old.until('two refusals', 30_000, () =>
    old.lines.slice(seen).filter((line) => line.startsWith('E ')).length >= 2 ? true : undefined,
  );
  t.same(
    old.lines.slice(seen).filter((line) => !line.startsWith('stopped')),
    ['E FENCED', 'E FENCED'],
    'it says why',
  );
  next.write(`read ${segment} ${page}`);
  await next.line(/^D /, 10_000);
  next.write('replay');
  t.equal(await next.line(/^Z /, 30_000), 'Z 2', 'nothing of the old owner came after');
  await Promise.all([old.kill(), next.kill()]);
  await cluster.close();
  t.equal(await endAll(), 0, 'no process is left behind');
});
