/** The keeper with daemons that are shell scripts: what it leaves behind after each way to end. */
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Keeper } from '../../src/io/mount-host.js';
import { NodeMountHost } from '../../src/io/node/mount-host.js';
import { KEEPER_SCRIPT, StateFile } from '../../src/lifecycle/keeper.js';

const MOUNT = '0123456789abcdef';

interface Kept {
  readonly keeper: Keeper;
  readonly state: string;
  readonly lines: string[];
  readonly ended: Promise<number | string>;
  log(): string;
}

/** Starts a keeper whose daemon is a shell script with the state directory as $1. */
function keep(t: Test, script: string, wasMounted: boolean): Kept {
  const root = mkdtempSync(join(tmpdir(), 'hf-keeper-'));
  const host = new NodeMountHost({ runDirectory: root, program: [] });
  host.state.create(MOUNT, {});
  // A device number that no file system has.
  if (wasMounted) host.state.write(MOUNT, StateFile.DEVICE, '0:999999\n');
  const state = host.state.path(MOUNT);
  const logFile = host.state.logFile('db');
  const fd = openSync('/dev/null', 'r');
  const lines: string[] = [];
  let onExit: (status: number | string) => void = () => {};
  const ended = new Promise<number | string>((resolve) => {
    onExit = resolve;
  });
  const daemon = join(root, 'daemon');
  writeFileSync(daemon, script);
  host.state.write(MOUNT, StateFile.PROGRAM, `/bin/sh\n${daemon}\n`);
  const args = [state, join(root, 'nowhere')];
  const keeper = host.startKeeper(
    { script: KEEPER_SCRIPT, args, descriptor: { fd }, logFile },
    { onLine: (line) => lines.push(line), onExit: (status) => onExit(status) },
  );
  closeSync(fd);
  t.teardown(() => {
    keeper.kill();
    rmSync(root, { recursive: true, force: true });
  });
  return { keeper, state, lines, ended, log: () => readFileSync(logFile, 'utf8') };
}

t.setTimeout(60_000);

t.test('a daemon that ends in order leaves nothing', async (t) => {
  const { state, ended, lines } = keep(t, 'test -e /proc/self/fd/3 && echo "has $PWD"', true);
  t.equal(await ended, 0);
  t.notOk(existsSync(state));
  t.same(lines, ['has /'], 'it had the descriptor, away from all mounts');
});

t.test('a daemon that fails before it was mounted leaves nothing', async (t) => {
  const { state, ended } = keep(t, 'exit 12', false);
  t.equal(await ended, 12);
  t.notOk(existsSync(state));
});

t.test('a daemon that dies later leaves a reason', async (t) => {
  const { state, ended, log } = keep(t, 'touch "$1/control"; kill -9 $$', true);
  t.equal(await ended, 137);
  t.equal(readFileSync(join(state, StateFile.ENDED), 'utf8').trim(), '137');
  t.notOk(existsSync(join(state, StateFile.CONTROL)));
  t.match(log(), /nowhere ended with status 137/);
});

t.test('what the launcher says reaches the daemon, and so does its end', async (t) => {
  const script = 'read line; echo "said $line"; cat > /dev/null; echo gone > "$1/saw"; exit 3';
  const { keeper, state, ended, lines } = keep(t, script, true);
  keeper.write('mounted');
  while (lines.length === 0) await sleep(10);
  t.same(lines, ['said mounted']);
  keeper.end();
  t.equal(await ended, 3);
  t.equal(readFileSync(join(state, 'saw'), 'utf8'), 'gone\n');
});

t.test('SIGTERM is passed on, and waited for', async (t) => {
  const script = `trap 'sleep 0.5; exit 0' TERM; echo ready; while :; do sleep 0.1; done`;
  const { keeper, state, ended, lines } = keep(t, script, true);
  while (lines.length === 0) await sleep(10);
  process.kill(keeper.pid, 'SIGTERM');
  await sleep(100);
  t.ok(existsSync(state), 'it waits for its daemon');
  process.kill(keeper.pid, 'SIGHUP');
  t.equal(await ended, 0);
  t.notOk(existsSync(state));
});

t.test('a signal that cannot be kept is passed on all the same', async (t) => {
  const script = `mkdir "$1/stop"; trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done`;
  const { keeper, ended, lines } = keep(t, script, true);
  while (lines.length === 0) await sleep(10);
  process.kill(keeper.pid, 'SIGTERM');
  t.equal(await ended, 0);
});

/** Daemon scripts that note that they ran, and have served the mount before. */
const RAN = 'echo x >> "$1/ran"; : > "$1/init.json"; ';

function runs(state: string): number {
  return readFileSync(join(state, 'ran'), 'utf8').length / 2;
}

t.test('a daemon that dies after it has served is followed by another', async (t) => {
  const second = '[ "$(wc -l < "$1/ran")" -lt 3 ] || exec sleep 5';
  const { keeper, state, log } = keep(t, `${RAN}${second}; kill -9 $$`, true);
  while (!existsSync(join(state, 'ran')) || runs(state) < 3) await sleep(10);
  t.match(log(), /died with status 137[\s\S]*died with status 137/);
  t.ok(existsSync(state));
  process.kill(keeper.pid, 'SIGTERM');
  while (!existsSync(join(state, StateFile.STOP))) await sleep(10);
  t.pass('a signal to end it is kept for the next one');
});

t.test('daemons that die one after the other are given up', async (t) => {
  const { state, ended, log } = keep(t, `${RAN}echo x > "$1/intents"; exit 70`, true);
  t.equal(await ended, 70);
  t.equal(runs(state), 10);
  t.match(log(), /10 daemons of \S+ have died one after the other: it is given up/);
  t.ok(existsSync(join(state, StateFile.INTENTS)), 'what was answered is not thrown away');
});

t.test('one that has served for a moment in between is no part of a series', async (t) => {
  const script = `${RAN}[ "$(wc -l < "$1/ran")" -ne 5 ] || : > "$1/settled"; exit 70`;
  const { state, ended } = keep(t, script, true);
  t.equal(await ended, 70);
  t.equal(runs(state), 14);
});

t.test('a daemon that ends by itself is not followed', async (t) => {
  const { state, ended } = keep(t, `${RAN}: > "$1/over"; exit 17`, true);
  t.equal(await ended, 17);
  t.equal(runs(state), 1);
});

t.test('one that is killed after it has said how it ends has ended so', async (t) => {
  const inOrder = keep(t, `${RAN}printf 0 > "$1/over"; kill -9 $$`, true);
  t.equal(await inOrder.ended, 0);
  t.notOk(existsSync(inOrder.state));
  const badly = keep(t, `${RAN}printf 17 > "$1/over"; kill -9 $$`, true);
  t.equal(await badly.ended, 17);
  t.equal(readFileSync(join(badly.state, StateFile.ENDED), 'utf8').trim(), '17');
});

t.test('a mount is handed over to what is the program then', async (t) => {
  const next = '/bin/sh\\n-c\\necho "y $1" > "$1/next"; : > "$1/over"; exit 18\\nnext\\n';
  const script = `${RAN}printf '${next}' > "$1/program"; exit 75`;
  const { state, ended } = keep(t, script, true);
  t.equal(await ended, 18);
  t.equal(readFileSync(join(state, 'next'), 'utf8'), `y ${state}\n`);
});

t.test('an adoption that may succeed later is tried again', async (t) => {
  const script = `${RAN}[ "$(wc -l < "$1/ran")" -lt 3 ] && exit 74; : > "$1/over"; exit 19`;
  const { state, ended } = keep(t, script, true);
  t.equal(await ended, 19);
  t.equal(runs(state), 3);
});
