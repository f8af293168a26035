/** The end of a command: all is printed, and nothing is waited for any more. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import { startEtcd } from '../fixtures/etcd.js';
import { holdfastBin } from '../fixtures/processes.js';
import { holdfast, Place } from './node-fixture.js';

/** The kernel goes on connecting for two minutes. */
const SOON_MS = 30_000;

t.setTimeout(200_000);

/** A port where packets are taken and never answered, as of a machine behind a broken switch. */
async function silentPort(t: Test): Promise<number> {
  const script = `const s = require('net').createServer();
    s.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => console.log(s.address().port));`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const line = await new Promise<string>((resolve) => {
    createInterface({ input: child.stdout }).once('line', resolve);
  });
  child.kill('SIGSTOP');
  // More than the queue of those who wait to be accepted holds.
  for (let i = 0; i < 8; i++) {
    const socket = connect(Number(line), '127.0.0.1').on('error', () => {});
    t.teardown(() => socket.destroy());
  }
  await new Promise((resolve) => setTimeout(resolve, 500));
  return Number(line);
}

t.test('a member of etcd that is silent holds up no end', async (t) => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.close());
  const dir = mkdtempSync(join(tmpdir(), 'hf-exit-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const metadata = `etcd://127.0.0.1:${await silentPort(t)},${etcd.endpoints.join(',')}`;
  const where = ['--metadata', metadata, '--secret-file', join(dir, 'secret')];
  for (const command of [
    ['cluster', 'init'],
    ['volume', 'ls'],
    ['volume', 'show', 'none'],
  ]) {
    const since = Date.now();
    const { code, out, err } = await holdfast([...command, ...where, '--json']);
    t.ok(Date.now() - since < SOON_MS, `${command.join(' ')}: ${Date.now() - since} ms`);
    t.equal(code, command.includes('none') ? 12 : 0, err);
    t.doesNotThrow(() => JSON.parse(code === 0 ? out : err));
  }
});

t.test('nothing but errors goes to standard error, whatever a library warns of', async (t) => {
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  const asked = ['cluster', 'show', '--json', '--metadata', `etcds://127.0.0.1:${port}`];
  const { code, err } = await holdfast(asked);
  t.equal(code, 20, err);
  t.match(JSON.parse(err), { error: { code: 'UNAVAILABLE' } });
});

t.test('what is printed goes out whole, or it is a failure', async (t) => {
  const place = await Place.make(t);
  const at = ['--metadata', place.metadata, '--secret-file', place.secretFile];
  const label = `x=${'y'.repeat(1000)}`;
  for (let i = 0; i < 3; i++) {
    const labels = Array.from({ length: 60 }, (_, n) => ['--label', `${n}${label}`]).flat();
    const made = await holdfast(['volume', 'create', `v${i}`, '--size', '1GiB', ...labels, ...at]);
    t.equal(made.code, 0, made.err);
  }
  const slow = `"${process.execPath}" "${holdfastBin}" volume ls --json ${at.join(' ')}`;
  const read = spawnSync('sh', ['-c', `${slow} | (sleep 2; cat)`], { encoding: 'utf8' });
  t.equal(JSON.parse(read.stdout).length, 3, 'more than a pipe holds');
  const full = openSync('/dev/full', 'w');
  const args = [holdfastBin, 'volume', 'ls', '--json', ...at];
  const { status, stderr } = spawnSync(process.execPath, args, {
    stdio: ['ignore', full, 'pipe'],
    encoding: 'utf8',
  });
  t.equal(status, 1, stderr);
  t.match(stderr, /ENOSPC/);
});
