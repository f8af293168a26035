/**
 * The power-cut test: what was acknowledged before the cut must be on the disks, not in a page
 * cache. See fixtures/cut-images.ts for how a cut is made. The same test with fdatasync taken out
 * of the node must lose records, or it would prove nothing; so that is tested as well.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { breakProgram, noFlush } from '../fixtures/broken-program.js';
import { Cluster, type ClusterOptions } from '../fixtures/cluster.js';
import { CutImages } from '../fixtures/cut-images.js';
import { History } from '../fixtures/history.js';
import { endAll } from '../fixtures/processes.js';

t.setTimeout(400_000);

const ROUNDS = 3;
const LOAD_MS = 3_000;
/** Everything is on one disk that has just started: far longer than it takes. */
const TAKE_OVER_MS = 30_000;
const IMAGE_MIB = 512;
const NAMES = ['etcd', 'node0', 'node1', 'node2'];

interface Outcome {
  readonly acknowledged: number;
  readonly faults: readonly string[];
}

async function replayed(cluster: Cluster): Promise<string[]> {
  const reader = cluster.worker();
  await reader.line(/^serving |^stopped /, TAKE_OVER_MS);
  reader.write('replay');
  await reader.line(/^Z |^E /, 120_000);
  await reader.kill();
  return reader.lines;
}

/** Loads a cluster, cuts the power, starts everything from the copies, and compares. */
async function cutOnce(program: string | null): Promise<Outcome> {
  const images = await CutImages.create(NAMES, IMAGE_MIB);
  try {
    const history = new History();
    const options: ClusterOptions = { directoryOf: (name) => images.live(name) };
    const cluster = await Cluster.start(program === null ? options : { ...options, program });
    let open: () => Promise<(name: string) => string>;
    let before: History;
    try {
      const writer = cluster.worker((line) => void history.note(line));
      writer.write('load 8');
      await writer.until('first acknowledgement', 60_000, () =>
        history.acknowledged.size > 0 ? true : undefined,
      );
      await sleep(LOAD_MS);
      before = history.snapshot();
      open = await images.cut([writer.pid, ...cluster.pids()]);
      await writer.kill();
    } finally {
      await cluster.powerOff();
    }
    try {
      await cluster.powerOn(await open());
      const faults = before.faults(await replayed(cluster));
      return { acknowledged: before.acknowledged.size, faults };
    } catch (error) {
      // What cannot even be started, or taken over, from what was left has lost its records too.
      return { acknowledged: before.acknowledged.size, faults: [String(error)] };
    } finally {
      await cluster.close();
    }
  } finally {
    await images.close();
  }
}

t.test('records acknowledged before a power cut are there after it', async (t) => {
  t.teardown(endAll);
  for (let round = 1; round <= ROUNDS; round++) {
    const { acknowledged, faults } = await cutOnce(null);
    t.comment(`round ${round}: ${acknowledged} records acknowledged before the cut`);
    t.ok(acknowledged > 100, 'enough was written to mean something');
    t.same(faults.slice(0, 5), [], 'everything acknowledged is there');
  }
  t.equal(await endAll(), 0, 'no process is left behind');
});

t.test('without fdatasync the same test fails, so it sees what it is for', async (t) => {
  t.teardown(endAll);
  const broken = breakProgram(noFlush(2_500));
  t.teardown(broken.remove);
  const { acknowledged, faults } = await cutOnce(broken.program);
  t.comment(`${acknowledged} records acknowledged before the cut; then: ${faults[0]}`);
  t.ok(acknowledged > 100, 'it ran until the cut');
  t.not(faults.length, 0, 'records were lost');
  t.equal(await endAll(), 0, 'no process is left behind');
});
