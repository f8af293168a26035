/** Short-circuit reads with real processes: nodes on the mount's machine are read past. */
import { closeSync, openSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openFiles } from '../fixtures/processes.js';
import { cannotMount } from '../fuse/mounted.js';
import { MountBed, shell } from './mount-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
t.setTimeout(300_000);

const PAGES = 2048;
const PAGE_BYTES = 4096;

const bed = await MountBed.start();
t.teardown(() => bed.close());
const directory = bed.directory('mnt');

/** The SHA-256 of the file as it is read past the kernel's cache. */
async function digest(): Promise<string> {
  const { text } = await shell(`dd if=${directory}/f iflag=direct bs=64k status=none | sha256sum`);
  return text.split(' ')[0] ?? '';
}

async function localPages(): Promise<number> {
  const [mount] = await bed.mounts();
  const socket = join(bed.runDirectory, 'mounts', mount?.mount ?? '', 'control');
  const { text } = await shell(`curl -sS --unix-socket ${socket} http://mount/metrics`);
  const found = /^holdfast_mount_local_read_pages_total\{.*\} (\d+)$/m.exec(text);
  if (found === null) throw new Error(text);
  const pages = Number(found[1]);
  t.equal(mount?.live?.localReadPages, pages, 'the status says the same');
  return pages;
}

/** Overwrites eight bytes in the middle of every page but the first one of a segment. */
function spoil(path: string): void {
  const fd = openSync(path, 'r+');
  const { size } = statSync(path);
  for (let at = PAGE_BYTES; at < size; at += PAGE_BYTES) writeSync(fd, 'SPOILED!', at + 2000);
  closeSync(fd);
}

t.test('reads come from files of this machine, and no rot in them gets out', async (t) => {
  await bed.mount('db', directory);
  const write = `head -c ${PAGES * PAGE_BYTES} /dev/urandom | tee ${directory}/f | sha256sum`;
  const [right] = (await shell(`${write}; sync ${directory}/f`)).text.split(' ');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  let files: string[] = [];
  // A busy machine reads late, and then leaves its files alone for a while: another chance.
  for (let tries = 0, share = 0; share < 0.8; tries++) {
    const { live } = await bed.mount('db', directory);
    const before = await localPages();
    t.equal(await digest(), right, 'cold');
    share = ((await localPages()) - before) / PAGES;
    t.ok(share > 0.8 || tries < 8, `${share} of the pages without the nodes`);
    files = openFiles(live.pid).filter((path) => path.endsWith('.data'));
    t.equal((await bed.holdfast('umount', directory)).code, 0);
    if (tries === 8) return;
  }
  t.ok(files.length > 0);
  for (const path of files) spoil(path);
  await bed.mount('db', directory);
  t.equal(await digest(), right, 'the other copies answer');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  await bed.assertNothingLeft();
});
