/**
 * The metadata is lost, on real nodes with a volume that has been overwritten until the cleaner has
 * deleted the first segments of its log: rebuilt from the disks alone it is opened at its newest
 * checkpoint and holds what it held. An export that the volume has outgrown is seen to be old. A
 * program that goes on writing meanwhile loses nothing that it was told to be durable.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { nodeClock } from '../../src/io/node/clock.js';
import { nodeRandom } from '../../src/io/node/random.js';
import { readCluster } from '../../src/metadata/cluster.js';
import { ROOT } from '../../src/metadata/keys.js';
import type { VolumeRecord } from '../../src/metadata/model.js';
import { openMetadata } from '../../src/metadata/open.js';
import type { MetadataStore } from '../../src/metadata/store.js';
import { cannotMount } from '../fuse/mounted.js';
import { isMounted, MountBed, until } from './mount-bed.js';
import { python } from './python.js';

const skip = cannotMount();
if (skip !== false) {
  t.comment(skip);
  process.exit(0);
}
t.setTimeout(400_000);

const DELETED_MS = 60_000;
const bed = await MountBed.start();
t.teardown(() => bed.close());
t.afterEach(() => bed.assertNothingLeft());
const mountPoint = bed.directory('db');

/** What stays, and a file that is written again and again. */
const WRITE = `
import os
os.makedirs('kept', exist_ok=True)
for i in range(200):
    with open('kept/%d' % i, 'wb') as f:
        f.write(os.urandom(1000 + i * 100))
for turn in range(4):
    f = os.open('again', os.O_RDWR | os.O_CREAT)
    for i in range(72):
        os.pwrite(f, os.urandom(1 << 20), i << 20)
    os.fsync(f)
    os.close(f)
`;
const MORE = `
import os
with open('more', 'wb') as f:
    f.write(os.urandom(70 << 20))
    os.fsync(f.fileno())
`;
/** Writes numbers until it cannot, and says how many are there for sure. */
const COUNT = `
import os, time
f = os.open('numbers', os.O_WRONLY | os.O_CREAT)
count = 0
try:
    while True:
        os.pwrite(f, b'%08d' % count, count * 8)
        os.fsync(f)
        count += 1
        time.sleep(0.02)
except OSError:
    print(count)
`;
const COUNTED = `
data = open('numbers', 'rb').read()
numbers = [int(data[at:at + 8]) for at in range(0, len(data), 8)]
print(len(numbers) if numbers == list(range(len(numbers))) else numbers)
`;
/** One line for all that is there. */
const DIGEST = `
import hashlib, os
whole = hashlib.sha256()
for at, directories, files in sorted(os.walk('.')):
    directories.sort()
    for name in sorted(files):
        path = os.path.join(at, name)
        whole.update(path.encode() + b' ' + open(path, 'rb').read())
print(whole.hexdigest())
`;

async function withStore<T>(work: (store: MetadataStore) => Promise<T>): Promise<T> {
  const parts = { clock: nodeClock, random: nodeRandom, env: {} };
  const store = await openMetadata(bed.cluster.etcd.url, parts);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

/** All that etcd holds goes, whatever it was. */
const loseMetadata = (): Promise<void> =>
  withStore(async (store) => {
    const { entries } = await store.range(ROOT);
    for (let at = 0; at < entries.length; at += 50) {
      const some = entries.slice(at, at + 50);
      await store.transact(
        [],
        some.map(({ key }) => ({ type: 'delete', key })),
      );
    }
  });

async function record(): Promise<VolumeRecord> {
  const { lines, stderr } = await bed.holdfast('volume', 'show', 'db', '--json');
  if (lines[0] === undefined) throw new Error(stderr);
  return JSON.parse(lines[0]) as VolumeRecord;
}

async function untilDeleted(): Promise<VolumeRecord> {
  const deadline = Date.now() + DELETED_MS;
  for (;;) {
    const found = await record();
    const total = [...found.sealed, ...found.pendingDelete].length;
    if (found.root !== null && found.pendingDelete.length === 0 && total <= 3) return found;
    if (Date.now() > deadline) throw new Error(`${total} segments are still there`);
    await sleep(500);
  }
}

const addresses = bed.cluster.nodes.flatMap(({ port }) => ['--node', `127.0.0.1:${port}`]);
const { cluster } = await withStore(readCluster);

t.test('a volume whose first segments were deleted is rebuilt with its checkpoint', async (t) => {
  await bed.mount('db', mountPoint);
  await python(WRITE, mountPoint, 200);
  const before = await untilDeleted();
  const digest = await python(DIGEST, mountPoint, 60);
  t.equal((await bed.holdfast('umount', mountPoint)).code, 0);
  await loseMetadata();
  const rebuilt = await bed.holdfast('metadata', 'rebuild', '--cluster', cluster, ...addresses);
  t.equal(rebuilt.code, 0, `${rebuilt.stderr} ${rebuilt.lines.join('\n')}`);
  const after = await record();
  t.ok((after.root?.lsn ?? 0) >= (before.root?.lsn ?? Number.NaN), 'at the newest checkpoint');
  await bed.mount('db', mountPoint);
  t.equal(await python(DIGEST, mountPoint, 60), digest, 'what was there is there');
  await python(MORE, mountPoint, 60);
  t.equal((await bed.holdfast('umount', mountPoint)).code, 0);
  const check = await bed.holdfast('volume', 'check', 'db');
  t.equal(check.code, 0, `${check.stderr} ${check.lines.join('\n')}`);
});

t.test('a volume is left out and comes back with a later rebuild', async (t) => {
  await bed.mount('db', mountPoint);
  const digest = await python(DIGEST, mountPoint, 60);
  t.equal((await bed.holdfast('umount', mountPoint)).code, 0);
  const { volume } = await record();
  t.equal((await bed.holdfast('volume', 'create', 'second', '--size', '1GiB')).code, 0);
  const other = bed.directory('second');
  await bed.mount('second', other);
  t.equal((await bed.holdfast('umount', other)).code, 0);
  await loseMetadata();
  const args = ['metadata', 'rebuild', '--cluster', cluster, ...addresses];
  const unknown = await bed.holdfast(...args, '--without', 'db');
  t.equal(unknown.code, 2);
  t.match(unknown.stderr, /--without db: the nodes have nothing of such a volume/);
  const rebuilt = await bed.holdfast(...args, '--without', volume);
  t.equal(rebuilt.code, 0, rebuilt.stderr);
  t.match(rebuilt.lines.join('\n'), `${volume}: left out`);
  t.equal((await bed.holdfast('volume', 'show', 'db')).code, 12);
  await bed.mount('second', other);
  t.equal((await bed.holdfast('umount', other)).code, 0);
  const again = await bed.holdfast(...args, '--force');
  t.equal(again.code, 0, again.stderr);
  const beside = await bed.holdfast(...args, '--force', '--without', volume);
  t.equal(beside.code, 0, beside.stderr);
  await bed.mount('db', mountPoint);
  t.equal(await python(DIGEST, mountPoint, 60), digest, 'what was there is there');
  t.equal((await bed.holdfast('umount', mountPoint)).code, 0);
});

t.test('an export of the same epoch that the volume has outgrown', async (t) => {
  const file = join(bed.root, 'export.json');
  await bed.mount('db', mountPoint);
  t.equal((await bed.holdfast('metadata', 'export', file)).code, 0);
  await python(MORE.replace('more', 'much-more'), mountPoint, 60);
  const digest = await python(DIGEST, mountPoint, 60);
  t.equal((await bed.holdfast('umount', mountPoint)).code, 0);
  await loseMetadata();
  const refused = await bed.holdfast('metadata', 'import', file);
  t.equal(refused.code, 27, refused.stderr);
  t.match(refused.stderr, /volume "db" was exported before .* nothing was changed.*rebuild/);
  const taken = await bed.holdfast('metadata', 'import', file, '--accept-loss');
  t.equal(taken.code, 0, taken.stderr);
  t.match(taken.lines.join('\n'), /! volume "db" was exported before .*metadata rebuild/);
  const args = ['--cluster', cluster, ...addresses, '--force'];
  const rebuilt = await bed.holdfast('metadata', 'rebuild', ...args);
  t.equal(rebuilt.code, 0, rebuilt.stderr);
  t.match(rebuilt.lines.join('\n'), /as generation 6/, 'above that of the import');
  await bed.mount('db', mountPoint);
  t.equal(await python(DIGEST, mountPoint, 60), digest, 'and nothing was lost');
  t.equal((await bed.holdfast('umount', mountPoint)).code, 0);
});

t.test('a volume that stays mounted is shut out; what was acknowledged is there', async (t) => {
  const args = ['metadata', 'rebuild', '--cluster', cluster, ...addresses];
  await bed.mount('db', mountPoint);
  let isOver = false;
  const counting = python(COUNT, mountPoint, 120).finally(() => {
    isOver = true;
  });
  const used = await bed.holdfast(...args);
  t.equal(used.code, 2, used.stderr);
  t.match(used.stderr, /holds metadata already; nothing was changed.*--force/);
  const seen = await bed.holdfast(...args, '--dry-run');
  t.equal(seen.code, 0, seen.stderr);
  await sleep(500);
  t.equal(isOver, false, 'neither shuts anybody out');
  const rebuilt = await bed.holdfast(...args, '--force');
  t.equal(rebuilt.code, 0, `${rebuilt.stderr} ${rebuilt.lines.join('\n')}`);
  const count = Number(await counting);
  t.ok(count > 10, `${count} numbers`);
  await bed.holdfast('umount', mountPoint);
  await until('its mount is gone', () => !isMounted(mountPoint));
  await bed.mount('db', mountPoint);
  t.ok(Number(await python(COUNTED, mountPoint, 60)) >= count);
  t.equal((await bed.holdfast('umount', mountPoint)).code, 0);
});
