/** Bytes that rot on a node's disk: found by `holdfast scrub`, and good again afterwards. */
import { closeSync, openSync, readdirSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { cannotMount } from '../fuse/mounted.js';
import { MountBed, shell } from './mount-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
const ROTTEN_AT = 1 << 20;

t.setTimeout(300_000);

const bed = await MountBed.start();
t.teardown(() => bed.close());
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

t.test('a rotten page of a sealed copy is found, and written again from another one', async (t) => {
  await mounted(`dd if=/dev/urandom of=${directory}/data bs=1M count=8 conv=fsync`);
  await mounted(`md5sum ${directory}/data`);
  const [node] = bed.cluster.nodes;
  const path = largestSegment(node?.directory ?? '');
  t.ok(statSync(path).size > 2 * ROTTEN_AT, path);
  const file = openSync(path, 'r+');
  writeSync(file, Buffer.alloc(4096, 0x5a), 0, 4096, ROTTEN_AT);
  closeSync(file);
  const before = await bed.holdfast('volume', 'check', 'db');
  t.not(before.code, 0, 'there is something to find');
  const scrubbed = await bed.holdfast('scrub', 'db', '--json');
  t.equal(scrubbed.code, 0, scrubbed.stderr);
  const { copies, bytes, failures } = JSON.parse(scrubbed.lines[0] ?? '{}');
  t.ok(copies >= 3 && bytes > 3 * 8 * ROTTEN_AT, `${copies} copies, ${bytes} bytes`);
  t.same(failures, []);
  const after = await bed.holdfast('volume', 'check', 'db');
  t.equal(after.code, 0, after.lines.join('\n'));
  const bad = await bed.holdfast('scrub', 'nothing');
  t.equal(bad.code, 12);
  t.match(bad.stderr, /no volume is named "nothing"/);
  await bed.assertNothingLeft();
});
