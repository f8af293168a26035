/** `holdfast up` with a mount, detached and not: what it leaves behind is the data alone. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { parseMountTable } from '../../src/io/node/fuse-device-mounts.js';
import { endAll, holdfastBin, type Process, run, startNode } from '../fixtures/processes.js';

const SLOW_MS = 90_000;
const canMount = process.geteuid?.() === 0 && existsSync('/dev/fuse');
const options = canMount ? {} : { skip: 'needs root and /dev/fuse' };

t.setTimeout(300_000);
t.afterEach(async () => {
  await endAll();
});

interface Place {
  readonly dir: string;
  readonly mnt: string;
  start(...more: string[]): Process;
  /** Runs a command of this place to its end. */
  holdfast(...args: string[]): Promise<{ code: number | null; out: string; err: string }>;
}

function place(t: Test): Place {
  const dir = mkdtempSync(join(tmpdir(), 'hfm-'));
  const mnt = join(dir, 'mnt');
  t.teardown(async () => {
    await endAll();
    if (isMounted(mnt)) await run('umount', '-l', mnt).catch(() => {});
    for (const pid of processesOf(dir)) process.kill(pid, 'SIGKILL');
    await sleep(200);
    rmSync(dir, { recursive: true, force: true, maxRetries: 20 });
  });
  const env = { HOLDFAST_RUN_DIR: join(dir, 'run') };
  const at = ['--data-dir', join(dir, 'data')];
  const start = (...more: string[]): Process =>
    startNode(holdfastBin, ['up', ...at, '--mount', mnt, ...more], { env });
  const holdfast = async (...args: string[]) => {
    const child = startNode(holdfastBin, args, { env, cwd: dir });
    const { code } = await child.exited;
    return { code, out: child.lines.join('\n'), err: child.stderr };
  };
  return { dir, mnt, start, holdfast };
}

function isMounted(directory: string): boolean {
  const table = parseMountTable(readFileSync('/proc/self/mountinfo', 'utf8'));
  return table.some(({ mountPoint }) => mountPoint === directory);
}

/** Processes that have the directory in their command line: all that these tests start do. */
function processesOf(dir: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => commandOf(pid).includes(dir));
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

/** Nothing but the data is left. */
async function nothingLeft(t: Test, { dir, mnt }: Place): Promise<void> {
  for (let i = 0; i < 50 && processesOf(dir).length > 0; i++) await sleep(100);
  t.same(processesOf(dir), [], 'no process');
  t.notOk(isMounted(mnt), 'no mount');
  t.notOk(existsSync(mnt), 'no directory that was not there before');
  const mounts = join(dir, 'run', 'mounts');
  t.same(existsSync(mounts) ? readdirSync(mounts) : [], [], 'no state of a mount');
}

t.test('the demo volume is mounted, and keeps its files between two runs', options, async (t) => {
  const here = place(t);
  const first = here.start('--json');
  const ready = JSON.parse(await first.line(/^\{/, SLOW_MS));
  t.match(ready, { mount: here.mnt, notMounted: null, volumes: ['demo', 'events'] });
  writeFileSync(join(here.mnt, 'kept'), 'as it was');
  first.signal('SIGINT');
  t.equal((await first.exited).code, 0, first.stderr);
  await nothingLeft(t, here);

  const second = here.start();
  await second.line(/To try next/, SLOW_MS);
  t.equal(readFileSync(join(here.mnt, 'kept'), 'utf8'), 'as it was');
  t.match(second.lines.join('\n'), /is mounted at .*\/mnt\.[\s\S]*echo hello > /);
  t.equal(await second.stop(60_000), 0, second.stderr);
  await nothingLeft(t, here);
});

t.test('Ctrl-C at any moment of the start leaves nothing', options, async (t) => {
  const here = place(t);
  for (const ms of [150, 700, 1500, 3000, 5000]) {
    const up = here.start();
    await sleep(ms);
    up.signal('SIGINT');
    await up.exited;
    t.notMatch(up.stderr, /at .*\.js:\d+/, `after ${ms} ms: no stack trace`);
    await nothingLeft(t, here);
  }
  const whole = here.start('--json');
  await whole.line(/^\{/, SLOW_MS);
  t.equal(await whole.stop(60_000), 0, 'and it starts the next time');
});

t.test('detached: comes back when all runs; down stops it in order, twice', options, async (t) => {
  const here = place(t);
  const at = ['--data-dir', join(here.dir, 'data')];
  const up = await here.holdfast('up', ...at, '--mount', here.mnt, '--detach', '--json');
  t.equal(up.code, 0, up.err);
  const { pid, mount } = JSON.parse(up.out);
  t.equal(mount, here.mnt);
  writeFileSync(join(here.mnt, 'kept'), 'as it was');
  t.equal((await here.holdfast('status', ...at)).code, 0);
  const twice = await here.holdfast('up', ...at, '--detach');
  t.equal(twice.code, 18, 'it says so, also through the process that detaches');
  t.match(twice.err, new RegExp(`already runs on .*pid ${pid}`));

  const removed = await here.holdfast('volume', 'rm', 'demo', '--purge', ...at);
  t.equal(removed.code, 18, 'nobody loses a mounted volume');
  t.match(removed.err, new RegExp(`mounted at ${here.mnt} on .*holdfast umount`));
  const grown = await here.holdfast('volume', 'expand', 'demo', '--size', '2GiB', ...at);
  t.equal(grown.code, 0, grown.err);
  const bytes = (): number => {
    const { blocks, bsize } = statfsSync(here.mnt);
    return blocks * bsize;
  };
  for (let i = 0; i < 50 && bytes() < 2 ** 31; i++) await sleep(100);
  t.equal(bytes(), 2 ** 31, 'a mount learns that its volume has grown');
  const shown = await here.holdfast('volume', 'show', 'demo', '--json', ...at);
  t.match(JSON.parse(shown.out), { sizeBytes: 2 ** 31, mounted: { mountPoint: here.mnt } });
  t.ok(JSON.parse(shown.out).usedBytes > 0);

  const other = join(here.dir, 'other');
  mkdirSync(other);
  t.equal((await here.holdfast('volume', 'create', 'other', '--size', '1GiB', ...at)).code, 0);
  t.equal((await here.holdfast('mount', 'other', other, ...at)).code, 0);

  const down = await here.holdfast('down', ...at);
  t.equal(down.code, 0, down.err);
  t.match(down.out, `! ${other} ("other") is still mounted`);
  t.notMatch(down.out, `! ${here.mnt} `);
  const back = await here.holdfast('up', ...at, '--no-mount', '--detach', '--json');
  t.equal(back.code, 0, back.err);
  t.equal((await here.holdfast('umount', other)).code, 0, 'it goes on with the next one');
  t.match((await here.holdfast('down', ...at)).out, /^stopped 3 nodes/);
  t.match(down.out, new RegExp(`unmounted ${here.mnt}, stopped 3 nodes .*pid ${pid}`));
  await nothingLeft(t, here);
  const again = await here.holdfast('down', ...at);
  t.equal(again.code, 0);
  t.match(again.out, /nothing runs on/);
});

/** An up that is killed with something uncommitted; its nodes end with it, its mount does not. */
async function killed(here: Place, name: string): Promise<void> {
  const up = here.start('--json');
  t.match(JSON.parse(await up.line(/^\{/, SLOW_MS)), { mount: here.mnt });
  writeFileSync(join(here.mnt, name), 'as it was');
  await up.kill();
  const isLeft = (): boolean => processesOf(here.dir).some((pid) => /node-\d/.test(commandOf(pid)));
  for (let i = 0; i < 150 && isLeft(); i++) await sleep(100);
}

t.test('a mount that a killed up left goes on with the next one', options, async (t) => {
  const here = place(t);
  const at = ['--data-dir', join(here.dir, 'data')];
  await killed(here, 'first');
  t.ok(isMounted(here.mnt));
  const refused = await here.holdfast('down', ...at);
  t.equal(refused.code, 21, 'nothing is dropped unasked');
  t.match(refused.err, /still mounted, but its nodes do not run.*--force/);
  await killed(here, 'second');
  const forced = await here.holdfast('down', ...at, '--force');
  t.equal(forced.code, 0, forced.err);
  for (let i = 0; i < 50 && processesOf(here.dir).length > 0; i++) await sleep(100);
  t.same(processesOf(here.dir), []);
  t.notOk(isMounted(here.mnt));
  const last = here.start('--json');
  await last.line(/^\{/, SLOW_MS);
  t.equal(readFileSync(join(here.mnt, 'first'), 'utf8'), 'as it was');
  t.equal(await last.stop(60_000), 0, last.stderr);
});

t.test('what cannot be mounted is said, and all else works', options, async (t) => {
  const here = place(t);
  mkdirSync(here.mnt);
  writeFileSync(join(here.mnt, 'mine'), 'not to be hidden');
  const full = here.start('--json');
  const ready = JSON.parse(await full.line(/^\{/, SLOW_MS));
  t.match(ready, { mount: null, notMounted: /is not empty.*--mount DIR/ });
  t.equal(await full.stop(60_000), 0);
  t.equal(readFileSync(join(here.mnt, 'mine'), 'utf8'), 'not to be hidden');
  const told = here.start('--no-mount');
  await told.line(/"demo" is not mounted: as told by --no-mount/, SLOW_MS);
  t.equal(await told.stop(60_000), 0);
});
