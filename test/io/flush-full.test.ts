/**
 * A device that has less room than its file system believes, as thin ones: ext4 on a sparse file on
 * a tmpfs that is full. The flush says "no space left", and the next one may say nothing of it.
 */
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { HoldfastError } from '../../src/core/errors.js';
import { MIB } from '../../src/core/units.js';
import type { DiskFile } from '../../src/io/disk.js';
import { type OpenedDisk, openNodeDisk } from '../../src/io/node/disk.js';
import { run } from '../fixtures/processes.js';

const root = mkdtempSync(join(tmpdir(), 'holdfast-thin-'));
const mounted: string[] = [];

t.teardown(async () => {
  for (const path of mounted.reverse()) await run('umount', '-l', path);
  rmSync(root, { recursive: true });
});

async function mount(...args: string[]): Promise<string> {
  const path = join(root, `mnt${mounted.length}`);
  mkdirSync(path);
  await run('mount', ...args, path);
  mounted.push(path);
  return path;
}

function opened(directory: string): Promise<OpenedDisk> {
  return new Promise((resolve, reject) => {
    openNodeDisk(directory, (error, disk) => (disk === null ? reject(error) : resolve(disk)));
  });
}

function flushed(file: DiskFile): Promise<HoldfastError | null> {
  return new Promise((resolve) => file.datasync(false, resolve));
}

t.test('a flush that finds no space is the end of the disk, not a full disk', async (t) => {
  const below = await mount('-t', 'tmpfs', '-o', 'size=24m', 'none');
  const image = join(below, 'image');
  writeFileSync(image, '');
  truncateSync(image, 200 * MIB);
  await run('mkfs.ext4', '-q', '-F', '-O', '^has_journal', image);
  const { disk, release } = await opened(await mount('-o', 'loop', image));
  const file = disk.open('file', 'new');
  const bytes = Buffer.alloc(MIB, 1);
  for (let at = 0; at < 60 * MIB; at += MIB) file.writeSync([bytes], at);
  const error = await flushed(file);
  t.equal(error?.code, 'DISK_FAILED');
  t.match(error?.message, /flush.*file: /);
  t.comment(error?.message);
  file.close();
  release();
});
