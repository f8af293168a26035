/** Files that another process names: regular ones are read, and nothing else is even opened. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { PAGE_BYTES } from '../../src/core/units.js';
import type { LocalFile } from '../../src/io/local-files.js';
import { nodeLocalFiles } from '../../src/io/node/local-files.js';
import { openFiles } from '../fixtures/processes.js';

const files = nodeLocalFiles();
const open = (path: string): Promise<LocalFile | null> =>
  new Promise((resolve) => files.open(path, resolve));

/** How many descriptors lead below a directory: those that were left open. */
function openBelow(directory: string): number {
  return openFiles(process.pid).filter((path) => path.startsWith(`${directory}/`)).length;
}

/** Closing is asynchronous. */
async function untilClosed(directory: string): Promise<void> {
  for (let left = 3_000; openBelow(directory) > 0 && left > 0; left--) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Null: the read was not taken. */
function read(
  file: LocalFile,
  into: Buffer,
  position: number,
  isFresh = false,
): Promise<number | null> {
  return new Promise((resolve) => {
    let returned = false;
    const isTaken = file.read(into, position, isFresh, (bytesRead) => {
      if (!returned) throw new Error('called back before returning');
      resolve(bytesRead);
    });
    returned = true;
    if (!isTaken) resolve(null);
  });
}

function directoryOf(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-local-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  return directory;
}

test('a regular file is read, as far as it goes', async (t) => {
  const directory = directoryOf(t);
  const path = join(directory, 'a.data');
  const bytes = Buffer.alloc(3 * PAGE_BYTES, 'abc');
  writeFileSync(path, bytes);
  const file = await open(path);
  if (file === null) throw new Error('not opened');
  const into = Buffer.alloc(2 * PAGE_BYTES);
  // The second time in place.
  for (let i = 0; i < 2; i++) {
    into.fill(0);
    t.equal(await read(file, into, PAGE_BYTES), into.length);
    t.ok(into.equals(bytes.subarray(PAGE_BYTES)));
  }
  for (let i = 0; i < 2; i++) t.equal(await read(file, into, 2 * PAGE_BYTES), PAGE_BYTES);
  for (let i = 0; i < 2; i++) t.equal(await read(file, into, 9 * PAGE_BYTES), 0);
  t.equal(openBelow(directory), 1);
  file.close();
  file.close();
  await untilClosed(directory);
  t.equal(openBelow(directory), 0);
});

test('what is not a regular file is not opened, waited for or followed', async (t) => {
  const directory = directoryOf(t);
  const at = (name: string): string => join(directory, name);
  writeFileSync(at('file'), 'file');
  mkdirSync(at('directory'));
  symlinkSync('file', at('link'));
  execFileSync('mkfifo', [at('fifo')]);
  for (const name of ['directory', 'link', 'fifo', 'missing', 'file/below']) {
    t.equal(await open(at(name)), null, name);
  }
  t.equal(await open('/dev/null'), null, 'a device');
  await untilClosed(directory);
  t.equal(openBelow(directory), 0, 'no descriptor is left');
});

test('closed while it is read: nobody is called, and the descriptor goes', async (t) => {
  const directory = directoryOf(t);
  const path = join(directory, 'a.data');
  writeFileSync(path, Buffer.alloc(PAGE_BYTES));
  const file = await open(path);
  const into = Buffer.alloc(PAGE_BYTES);
  const called = (): void => {
    t.fail('called back');
  };
  t.equal(file?.read(into, 0, false, called), true);
  file?.close();
  await untilClosed(directory);
  t.equal(openBelow(directory), 0);
});

test('only so many reads wait for disks; more are left to the nodes', async (t) => {
  const directory = directoryOf(t);
  const path = join(directory, 'a.data');
  const many = 1_000;
  writeFileSync(path, Buffer.alloc((many + 1) * PAGE_BYTES));
  const file = await open(path);
  if (file === null) throw new Error('not opened');
  const all = Array.from({ length: many }, (_, i) =>
    read(file, Buffer.alloc(PAGE_BYTES), i * PAGE_BYTES),
  );
  const taken = (await Promise.all(all)).filter((bytesRead) => bytesRead !== null);
  t.ok(taken.length >= 1 && taken.length < many / 2, `${taken.length} of ${many}`);
  t.ok(taken.every((bytesRead) => bytesRead === PAGE_BYTES));
  t.equal(await read(file, Buffer.alloc(PAGE_BYTES), many * PAGE_BYTES), PAGE_BYTES, 'then again');
  const fresh = Array.from({ length: many }, (_, i) =>
    read(file, Buffer.alloc(PAGE_BYTES), i * PAGE_BYTES, true),
  );
  t.notOk((await Promise.all(fresh)).includes(null), 'none that is fresh waits');
  const again = Array.from({ length: many }, (_, i) =>
    read(file, Buffer.alloc(PAGE_BYTES), i * PAGE_BYTES),
  );
  t.notOk((await Promise.all(again)).includes(null), 'nor what was read just before');
  file.close();
});
