/** A mount that another mount namespace has a copy of, as a container started meanwhile does. */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { dropCopies } from '../fixtures/copied-mounts.js';
import { cannotMount } from '../fuse/mounted.js';
import { isMounted, MountBed, type Result, shell, until } from './mount-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
t.setTimeout(300_000);

const bed = await MountBed.start();
t.teardown(() => bed.close());
t.afterEach(() => bed.assertNothingLeft());
const directory = bed.directory('mnt');

/** Runs a script in a mount namespace of its own, once it is told to go on. */
class Elsewhere {
  readonly #go = join(bed.root, 'go');
  readonly result: Promise<Result>;

  constructor(script: string) {
    const wait = `touch ${this.#go}; while [ -e ${this.#go} ]; do sleep 0.1; done`;
    const there = `${dropCopies(bed.root)}; ${wait}; ${script}`;
    this.result = shell(`exec unshare -m --propagation private sh -c '${there}'`);
  }

  async begun(): Promise<void> {
    await until('the other namespace is there', () => existsSync(this.#go));
  }

  goOn(): void {
    rmSync(this.#go);
  }
}

t.test('umount ends the copies too, with all that was written through them', async (t) => {
  await bed.mount('db', directory, '--commit-interval', '60');
  const elsewhere = new Elsewhere(`cat ${directory}/f; echo ended`);
  await elsewhere.begun();
  t.equal((await shell(`echo by all > ${directory}/f`)).status, 0);
  const before = Date.now();
  const { code, stderr } = await bed.holdfast('umount', directory);
  t.equal(code, 0, stderr);
  t.ok(Date.now() - before < 15_000, `${Date.now() - before} ms`);
  t.match(bed.log('db'), /It was aborted: .*another mount namespace/);
  elsewhere.goOn();
  t.match((await elsewhere.result).text, /not connected[\s\S]*ended/, 'its users get ENOTCONN');
  await bed.mount('db', directory);
  t.equal((await shell(`cat ${directory}/f`)).text, 'by all');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('lazily, the copies are left alone, and the volume with them', async (t) => {
  const { live } = await bed.mount('db', directory);
  const elsewhere = new Elsewhere(`cat ${directory}/f`);
  await elsewhere.begun();
  t.equal((await bed.holdfast('umount', '--lazy', directory)).code, 0);
  t.notOk(isMounted(directory));
  elsewhere.goOn();
  t.equal((await elsewhere.result).text, 'by all', 'it goes on there');
  await until('the daemon ends with its last user', () => !existsSync(`/proc/${live.pid}`));
});

t.test('another mount of it in this namespace is named, and keeps it', async (t) => {
  await bed.mount('db', directory);
  const second = bed.directory('second');
  t.equal((await shell(`mount --bind ${directory} ${second}`)).status, 0);
  const { code, stderr } = await bed.holdfast('umount', directory);
  t.equal(code, 21, stderr);
  t.ok(stderr.includes(`also mounted at ${second}`), stderr);
  t.equal((await shell(`cat ${second}/f`)).text, 'by all');
  t.equal((await shell(`umount ${second}`)).status, 0);
  await until('the state is gone', () => bed.states.length === 0);
});

t.test('a block volume whose device is in use is ended by a second umount', async (t) => {
  const made = await bed.holdfast('volume', 'create', 'disk', '--size', '64MiB', '--kind', 'block');
  t.equal(made.code, 0, made.stderr);
  const place = bed.directory('disk');
  const mounted = await bed.holdfast('mount', 'disk', place, '--json');
  t.equal(mounted.code, 0, mounted.stderr);
  const { device } = JSON.parse(mounted.lines.at(-1) ?? '{}');
  const user = join(bed.root, 'user');
  const use = `exec 3< ${device}; touch ${user}; while [ -e ${user} ]; do sleep 0.1; done`;
  const used = shell(use);
  await until('somebody has it open', () => existsSync(user));
  const first = await bed.holdfast('umount', place);
  t.equal(first.code, 22, first.stderr);
  const [, below = ''] = /: holdfast umount (\S+)\s*$/.exec(first.stderr) ?? [];
  t.match(below, /\/block\/[0-9a-f]{32}$/, first.stderr);
  t.equal((await bed.holdfast('umount', below)).code, 22, 'it is still in use');
  rmSync(user);
  await used;
  const second = await bed.holdfast('umount', below);
  t.equal(second.code, 0, second.stderr);
});
