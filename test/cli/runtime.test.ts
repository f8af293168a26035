/** `holdfast runtime`: which versions go; and the managed plugin's start, which installs one. */
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { pruneRuntimes } from '../../src/cli/runtime.js';
import { holdfast } from './node-fixture.js';

t.setTimeout(240_000);

function temporary(t: Test): string {
  const root = mkdtempSync(join(tmpdir(), 'hf-runtime-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  return root;
}

/** As if it had been installed yesterday. */
function addVersion(root: string, name: string): void {
  mkdirSync(join(root, name, 'bin'), { recursive: true });
  const yesterday = Date.now() / 1000 - 86_400;
  utimesSync(join(root, name), yesterday, yesterday);
}

/** A process with such a word in its command line. */
async function running(t: Test, word: string): Promise<number> {
  const code = 'process.stdout.write("x"); setTimeout(() => {}, 60_000)';
  const child = spawn(process.execPath, ['-e', code, word], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  await new Promise((resolve) => child.stdout.once('data', resolve));
  return child.pid ?? 0;
}

t.test('what is used stays, also where it is seen at another path', async (t) => {
  const place = temporary(t);
  const root = join(place, 'runtime');
  const runs = join(place, 'run');
  const before = process.env.HOLDFAST_RUN_DIR;
  process.env.HOLDFAST_RUN_DIR = runs;
  t.teardown(() => {
    if (before === undefined) delete process.env.HOLDFAST_RUN_DIR;
    else process.env.HOLDFAST_RUN_DIR = before;
  });
  for (const name of ['0.0.1-runs', '0.0.2-kept', '0.0.3-script', '0.0.4-unused']) {
    addVersion(root, name);
  }
  mkdirSync(join(runs, 'mounts', 'a'), { recursive: true, mode: 0o700 });
  const words = ['/usr/bin/node', join(root, '0.0.3-script', 'dist/src/cli/main.js'), ''];
  writeFileSync(join(runs, 'mounts', 'a', 'program'), words.join('\n'));
  await running(t, join(root, '0.0.2-kept', 'bin/node'));
  const pid = await running(t, join(root, '0.0.1-runs', 'bin/node'));
  t.same(pruneRuntimes(`/proc/${pid}/root${root}`, null), ['0.0.4-unused']);
  t.same(readdirSync(root), ['0.0.1-runs', '0.0.2-kept', '0.0.3-script']);
});

t.test('an install elsewhere than at the own place of the machine removes nothing', async (t) => {
  const root = join(temporary(t), 'runtime');
  addVersion(root, '0.0.1-unused');
  const { code, out, err } = await holdfast(['runtime', 'install', '--dir', root, '--json']);
  t.equal(code, 0, err);
  t.match(JSON.parse(out), { isNew: true, removed: [] });
  t.ok(existsSync(join(root, '0.0.1-unused')));
  const pruned = await holdfast(['runtime', 'prune', '--dir', root, '--json']);
  t.same(JSON.parse(pruned.out), { removed: ['0.0.1-unused'] }, 'but for who asks for that');
});

const START = fileURLToPath(new URL('../../../deploy/docker/plugin/start', import.meta.url));

t.test('the managed plugin looks at the state of the machine, and prunes there', async (t) => {
  const place = temporary(t);
  const [machine, bin, log] = ['machine', 'bin', 'log'].map((name) => join(place, name)) as [
    string,
    string,
    string,
  ];
  mkdirSync(join(machine, 'run/holdfast'), { recursive: true });
  mkdirSync(bin);
  // One line each: what the shell is told to run has several.
  const note = (name: string): string =>
    `echo "${name} $(echo "$*" | tr '\\n' ' ')[$HOLDFAST_RUN_DIR]" >> ${log}\n`;
  const program = `${machine}/var/lib/holdfast/runtime/1/bin/holdfast`;
  const answers = `case "$1" in runtime) echo '{"program":"${program}"}' ;; esac\n`;
  writeFileSync(join(bin, 'holdfast'), `#!/bin/sh\n${note('holdfast')}${answers}`, { mode: 0o755 });
  writeFileSync(join(bin, 'nsenter'), `#!/bin/sh\n${note('nsenter')}`, { mode: 0o755 });
  const text = readFileSync(START, 'utf8')
    .replace('machine=/proc/1/root', `machine=${machine}`)
    .replace('holdfast=/opt/holdfast/bin/holdfast', `holdfast=${join(bin, 'holdfast')}`);
  const server = createServer().listen(join(machine, 'run/holdfast/agent.sock'));
  t.teardown(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  const env = { PATH: `${bin}:${process.env.PATH}`, HOLDFAST_MACHINE: 'alpha' };
  const child = spawn('sh', ['-c', text], { env, stdio: 'ignore' });
  const code = await new Promise((resolve) => child.once('exit', resolve));
  t.equal(code, 0);
  const state = join(machine, 'run/holdfast');
  const lines = (): string[] => readFileSync(log, 'utf8').trim().split('\n');
  // It runs in the background.
  while (!lines().some((line) => / agent .* \[\]$/.test(line))) await sleep(20);
  const runtime = `${machine}/var/lib/holdfast/runtime`;
  const install = `holdfast runtime install --dir ${runtime} --json [${state}]`;
  t.equal(lines()[0], install, 'it sees what keepers would start');
  const there = '/var/lib/holdfast/runtime/1/bin/holdfast';
  const prune = `nsenter -t 1 -m -u -i ${there} runtime prune []`;
  t.ok(lines().includes(prune), `what goes is decided by the machine: ${lines().join('; ')}`);
  const plugin = lines().find((line) => line.startsWith('holdfast docker-plugin ')) ?? '';
  t.ok(plugin.endsWith(`[${state}]`), plugin);
});
