/**
 * The parts of `holdfast up` that need no nodes: its file, its lock, and how things are written.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parseLabels, table } from '../../src/cli/text.js';
import { embeddedIn, findUpFile, readUpFile, writeUpFile } from '../../src/cli/up-file.js';
import { holdUpLock } from '../../src/cli/up-lock.js';
import type { ClusterId } from '../../src/core/ids.js';
import { formatSize } from '../../src/core/sizes.js';
import { holdfastBin, startNode } from '../fixtures/processes.js';
import { holdfast, Place } from './node-fixture.js';

const CLUSTER = 'c'.repeat(32) as ClusterId;

function directory(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'hfu-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

t.test('up.json: what is written is read, also after the directory was moved', async (t) => {
  const dir = directory(t);
  const addresses = ['127.0.0.1:1', '127.0.0.1:2'];
  t.equal(findUpFile(dir), null);
  t.throws(() => readUpFile(dir), { code: 'INVALID_ARGUMENT' });
  writeUpFile(dir, {
    metadata: embeddedIn(dir),
    nodes: 2,
    cluster: CLUSTER,
    addresses,
    mount: null,
  });
  const wanted = { metadata: embeddedIn(dir), nodes: 2, cluster: CLUSTER, addresses, mount: null };
  t.match(findUpFile(dir), { ...wanted, secretFile: join(dir, 'secret') });
  const etcd = 'etcd://127.0.0.1:2379';
  writeUpFile(dir, { ...wanted, metadata: etcd });
  t.equal(findUpFile(dir)?.metadata, etcd);
});

t.test('up.json: one that cannot be understood is no empty directory', async (t) => {
  const dir = directory(t);
  for (const text of ['', '{}', '{"version":2}', 'null']) {
    writeFileSync(join(dir, 'up.json'), text);
    t.throws(() => findUpFile(dir), { code: 'MALFORMED' }, text);
  }
});

t.test('one holdfast up a directory; a lock that was left behind is none', async (t) => {
  const dir = directory(t);
  const lock = await holdUpLock(dir);
  await t.rejects(holdUpLock(dir), { code: 'CONFLICT', message: /pid \d+/ });
  lock.release();
  writeFileSync(join(dir, 'up.sock'), '');
  (await holdUpLock(dir)).release();
});

t.test('what is asked wrongly of holdfast up leaves nothing behind', async (t) => {
  const dir = join(directory(t), 'new');
  for (const args of [
    ['--nodes', '0'],
    ['--nodes', '17', '--detach'],
    ['--metadata', 'nonsense'],
  ]) {
    const ended = await holdfast(['up', '--data-dir', dir, ...args]);
    t.equal(ended.code, 2, ended.err);
    t.notOk(existsSync(dir), args.join(' '));
  }
});

t.test('what is near by is not looked at where the cluster was named', async (t) => {
  const place = await Place.make(t);
  const near = place.directory('holdfast-data');
  writeFileSync(join(near, 'up.json'), 'damaged');
  const list = async (...args: string[]) => {
    const child = startNode(holdfastBin, ['volume', 'ls', ...args], { cwd: place.root });
    return { ...(await child.exited), err: child.stderr };
  };
  t.equal((await list()).code, 10, 'MALFORMED');
  const named = await list('--metadata', place.metadata);
  t.equal(named.code, 0, named.err);
});

t.test('sizes, labels and tables', async (t) => {
  t.same([0, 512, 1024, 1536, 10 * 1024 ** 3, 1023 * 1024].map(formatSize), [
    '0 B',
    '512 B',
    '1 KiB',
    '1.5 KiB',
    '10 GiB',
    '1023 KiB',
  ]);
  t.same(parseLabels(['a=b', 'c=d=e', 'f=']), { a: 'b', c: 'd=e', f: '' });
  t.throws(() => parseLabels(['=b']), { code: 'INVALID_ARGUMENT' });
  t.equal(table(['A', 'BB'], [['ccc', 'd']]), 'A    BB\nccc  d');
});
