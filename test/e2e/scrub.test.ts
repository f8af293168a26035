/**
 * Bytes that rot on a node's disk: found by `holdfast scrub`, by the schedule of the nodes, or by
 * whoever reads them, and good again afterwards.
 */
import { closeSync, openSync, readdirSync, readSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { DiskScrub } from '../../src/metadata/scrub-progress.js';
import { cannotMount } from '../fuse/mounted.js';
import { MountBed, shell } from './mount-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
const ROTTEN_AT = 1 << 20;
const ROT = Buffer.alloc(4096, 0x5a);
const REPAIRED_MS = 60_000;

t.setTimeout(300_000);

const bed = await MountBed.start();
t.teardown(() => bed.close());
t.equal((await bed.holdfast('cluster', 'set', '--scrub-interval', 'off')).code, 0);
const directory = bed.directory('mnt');

/** Mounts, runs a script there, and unmounts: the next mount seals what was written. */
async function mounted(script: string): Promise<void> {
  await bed.mount('db', directory);
  const { status, text } = await shell(script);
  t.equal(status, 0, text);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
}

function largestSegment(data: string): string {
  const segments = join(data, 'segments');
  const files = readdirSync(segments).flatMap((sub) =>
    readdirSync(join(segments, sub)).map((name) => join(segments, sub, name)),
  );
  const sizes = files
    .filter((path) => path.endsWith('.data'))
    .map((path) => [statSync(path).size, path] as const);
  return sizes.sort(([a], [b]) => b - a)[0]?.[1] ?? '';
}

/** Bytes of a page that some node has sealed are others than they were. Gives: whether still. */
function rot(node: number): () => boolean {
  const path = largestSegment(bed.cluster.nodes[node]?.directory ?? '');
  t.ok(statSync(path).size > 2 * ROTTEN_AT, path);
  const file = openSync(path, 'r+');
  writeSync(file, ROT, 0, ROT.length, ROTTEN_AT);
  closeSync(file);
  return () => {
    const file = openSync(path, 'r');
    const page = Buffer.alloc(ROT.length);
    readSync(file, page, 0, page.length, ROTTEN_AT);
    closeSync(file);
    return page.equals(ROT);
  };
}

/**
 * `volume check` tells of a rotten copy, unless the node mended it first: check's own reads, of
 * structures before pages, set it to work.
 */
async function isFound(isRotten: () => boolean): Promise<boolean> {
  const { code } = await bed.holdfast('volume', 'check', 'db');
  return code === 20 || (code === 0 && !isRotten());
}

/** Waits until a node tells that it has repaired a copy by itself. */
async function untilRepaired(node: number): Promise<void> {
  const address = `127.0.0.1:${bed.cluster.nodes[node]?.port}`;
  const deadline = Date.now() + REPAIRED_MS;
  for (;;) {
    const { lines, stderr } = await bed.holdfast('node', 'show', address, '--json');
    if (lines[0] === undefined) throw new Error(stderr);
    const scrub = JSON.parse(lines[0]).scrub as DiskScrub[];
    if (scrub.some(({ repaired }) => repaired > 0)) return;
    if (Date.now() > deadline) throw new Error(`not repaired: ${JSON.stringify(scrub)}`);
    await sleep(500);
  }
}

t.test('a rotten page of a sealed copy is found, and written again from another one', async (t) => {
  // The first pass of the schedule may be under way, and be there first.
  t.equal((await bed.holdfast('cluster', 'set', '--scrub-interval', 'off')).code, 0);
  await mounted(`dd if=/dev/urandom of=${directory}/data bs=1M count=8 conv=fsync`);
  await mounted(`md5sum ${directory}/data`);
  const isRotten = rot(0);
  t.ok(await isFound(isRotten), 'there is something to find');
  const scrubbed = await bed.holdfast('scrub', 'db', '--json');
  t.equal(scrubbed.code, 0, scrubbed.stderr);
  const { copies, bytes, failures } = JSON.parse(scrubbed.lines[0] ?? '{}');
  t.ok(copies >= 3 && bytes > 3 * 8 * ROTTEN_AT, `${copies} copies, ${bytes} bytes`);
  t.same(failures, []);
  t.notOk(isRotten(), 'the page is another one');
  const after = await bed.holdfast('volume', 'check', 'db');
  t.equal(after.code, 0, after.lines.join('\n'));
  const bad = await bed.holdfast('scrub', 'nothing');
  t.equal(bad.code, 12);
  t.match(bad.stderr, /no volume is named "nothing"/);
  await bed.assertNothingLeft();
});

t.test('rot that somebody reads is repaired, without any schedule', async (t) => {
  t.ok(await isFound(rot(1)), 'one copy of three is bad');
  await untilRepaired(1);
  t.equal((await bed.holdfast('volume', 'check', 'db')).code, 0);
});

t.test('rot that nobody reads is found on a schedule, and repaired', async (t) => {
  const isRotten = rot(2);
  const set = await bed.holdfast('cluster', 'set', '--scrub-interval', '1s', '--json');
  t.match(JSON.parse(set.lines[0] ?? ''), { scrubIntervalMs: 1_000, scrubBytesPerSecond: 1 << 24 });
  await untilRepaired(2);
  t.notOk(isRotten(), 'the page is another one');
  t.equal((await bed.holdfast('volume', 'check', 'db')).code, 0);
  const shown = await bed.holdfast('node', 'show', `127.0.0.1:${bed.cluster.nodes[2]?.port}`);
  t.match(shown.lines.join('\n'), /^scrub +[0-9a-f]{32} .*1 rotten copies repaired$/m);
  const status = await bed.holdfast('status');
  t.match(
    status.lines.join('\n'),
    /^scrub: every 1 second, 16 MiB .*[23] rotten copies were repaired$/m,
  );
  for (const wrong of [
    ['--scrub-interval', '0'],
    ['--scrub-rate', '0'],
    ['--scrub-interval', 'x'],
  ]) {
    t.equal((await bed.holdfast('cluster', 'set', ...wrong)).code, 2, wrong.join(' '));
  }
  await bed.assertNothingLeft();
});
