/** A disk that does not answer holds up its own share of the thread pool, and no other disk. */
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { DISK_MAX_THREADS, NODE_SPARE_THREADS } from '../../src/core/limits.js';
import { MIB } from '../../src/core/units.js';
import { DiskTurns } from '../../src/io/node/disk-turns.js';
import { distRoot, endAll, Process, run } from '../fixtures/processes.js';

const READY_MS = 30_000;
/** Long enough for a loaded machine, and far below forever. */
const WORK_MS = 10_000;

t.teardown(endAll);

t.test(
  'turns: never more than a disk’s share at once, in the order in which they came',
  async (t) => {
    const turns = new DiskTurns();
    const started: number[] = [];
    for (let i = 0; i < DISK_MAX_THREADS * 3; i++) turns.take(() => started.push(i));
    t.equal(started.length, DISK_MAX_THREADS);
    while (started.length < DISK_MAX_THREADS * 3) {
      const before = started.length;
      turns.give();
      t.equal(started.length, before + 1);
    }
    for (let i = 0; i < DISK_MAX_THREADS; i++) turns.give();
    for (let i = 0; i <= DISK_MAX_THREADS; i++) turns.take(() => started.push(started.length));
    t.same(
      started,
      Array.from({ length: DISK_MAX_THREADS * 4 }, (_, i) => i),
    );
  },
);

/** A filesystem of its own, if this user may mount one; unmounted at the end. */
async function mounted(t: Test, root: string): Promise<string | null> {
  const image = join(root, 'image');
  const path = join(root, 'mounted');
  mkdirSync(path);
  writeFileSync(image, '');
  truncateSync(image, 64 * MIB);
  try {
    await run('mkfs.ext4', '-q', '-F', image);
    await run('mount', '-o', 'loop', image, path);
  } catch {
    return null;
  }
  t.teardown(() => run('umount', path));
  return path;
}

t.test('many writes that hang on one disk, and the other one works', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'hf-turns-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const second = join(root, 'second');
  mkdirSync(second);
  const first = await mounted(t, root);
  if (first === null) {
    t.pass('mounting is not allowed here');
    return;
  }
  // As cli/holdfast.cts says for two disks.
  const env = { UV_THREADPOOL_SIZE: `${2 * DISK_MAX_THREADS + NODE_SPARE_THREADS}` };
  const worker = `${distRoot}test/fixtures/two-disks.js`;
  const disks = new Process(process.execPath, [worker, first, second], { env });
  const says = (one: Process, line: string, ms = READY_MS): Promise<true> =>
    one.until(line, ms, () => one.lines.includes(line) || undefined);
  await says(disks, 'ready');
  // It thaws by itself when this process ends, however that ends.
  const script = 'fsfreeze --freeze "$1" && echo frozen && read -r _; fsfreeze --unfreeze "$1"';
  const freezer = new Process('sh', ['-c', script, 'sh', first]);
  try {
    await says(freezer, 'frozen');
    disks.write('flood');
    await sleep(200);
    disks.write('work');
    await t.resolves(says(disks, 'work', WORK_MS), 'the second disk works');
    t.notOk(disks.lines.includes('flood'), 'the first one hung all the time');
  } finally {
    freezer.write('thaw');
    await freezer.exited;
  }
  await says(disks, 'flood');
  await disks.kill();
});
