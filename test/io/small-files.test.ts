/** Both twins of SmallFiles keep its contract; the real one also when its writer is killed. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { NodeSmallFiles } from '../../src/io/node/small-files.js';
import { smallFilesContract } from '../contract/small-files.js';
import { MemoryFiles } from '../fixtures/memory-files.js';

const root = mkdtempSync(join(tmpdir(), 'hf-files-'));
t.teardown(() => rmSync(root, { recursive: true, force: true }));
let made = 0;

function fresh(): string {
  made += 1;
  return join(root, `${made}`, 'docker');
}

smallFilesContract('NodeSmallFiles', () => {
  const directory = fresh();
  return { files: new NodeSmallFiles(directory), again: () => new NodeSmallFiles(directory) };
});
smallFilesContract('MemoryFiles', () => {
  const files = new MemoryFiles();
  return { files, again: () => files };
});

t.test('what a writer left unfinished is no file', async (t) => {
  const directory = fresh();
  const files = new NodeSmallFiles(directory);
  files.write('db', 'whole');
  const [name] = readdirSync(directory);
  t.equal(name, 'db');
  writeFileSync(join(directory, '.new-db'), 'ha', { mode: 0o600 });
  t.same(files.list(), ['db']);
  t.equal(files.read('db'), 'whole');
  files.write('db', 'next');
  t.same(readdirSync(directory), ['db'], 'it is used up by the next write');
  t.equal(statSync(join(directory, 'db')).mode & 0o777, 0o600, 'for root alone');
});

t.test('names that would leave the directory', async (t) => {
  const files = new NodeSmallFiles(fresh());
  for (const name of ['../x', '.x', 'a/b', '']) t.throws(() => files.write(name, 'x'), name);
});

t.test('where there is no room a shorter text still replaces a longer one', async (t) => {
  const directory = fresh();
  mkdirSync(directory, { recursive: true });
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', directory]).status !== 0) {
    t.pass('mounting is not allowed here');
    return;
  }
  t.teardown(() => spawnSync('umount', [directory]));
  const files = new NodeSmallFiles(directory);
  files.write('db', '{"callers":["one","two"]}');
  const fill = () => writeFileSync(join(directory, 'fill'), Buffer.alloc(128 * 1024));
  t.throws(fill, { code: 'ENOSPC' });
  files.write('db', '{"callers":["two"]}');
  t.same(JSON.parse(files.read('db') ?? ''), { callers: ['two'] });
  t.throws(() => files.write('db', 'x'.repeat(30)), { code: 'UNAVAILABLE', message: /ENOSPC/ });
  t.throws(() => files.write('other', 'x'), { code: 'UNAVAILABLE' });
  t.same(files.list(), ['db', 'fill']);
  t.same(JSON.parse(files.read('db') ?? ''), { callers: ['two'] });
});

t.test('a directory that cannot be made', async (t) => {
  const path = join(root, 'file');
  writeFileSync(path, '');
  const files = new NodeSmallFiles(join(path, 'docker'));
  t.throws(() => files.write('db', 'x'), { code: 'UNAVAILABLE', message: /cannot be used/ });
});
