/** What is refused untouched: a mount that only begins, a run directory that others write to. */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  utimesSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { NodeMountHost } from '../../src/io/node/mount-host.js';
import { stopMount } from '../../src/lifecycle/mounts.js';
import { SimProcess, SimScheduler } from '../fixtures/sim-clock.js';
import { FakeHost, specOf } from './fake-host.js';

const MOUNT = '0123456789abcdef';

t.test('a mount that only begins is not stopped behind the back of who starts it', async (t) => {
  const host = new FakeHost();
  Object.defineProperty(host, 'mounts', { value: { resolve: (path: string) => path } });
  const { clock } = new SimProcess(new SimScheduler());
  host.add(specOf('new'), { phase: 'starting' });
  await t.rejects(stopMount({ host, clock }, '/mnt/new'), { code: 'BUSY' });
  host.add(specOf('newer'), null);
  await t.rejects(stopMount({ host, clock }, '/mnt/newer'), { code: 'BUSY' }, 'nor earlier');
});

t.test('a run directory that others may write to is not used', async (t) => {
  const place = mkdtempSync(join(tmpdir(), 'hf-run-'));
  t.teardown(() => rmSync(place, { recursive: true, force: true }));
  const root = join(place, 'run');
  const { state } = new NodeMountHost({ runDirectory: root, program: [] });
  t.same(state.list(), [], 'none is fine');
  state.create(MOUNT, {});
  t.same(state.list(), [MOUNT]);
  t.equal(lstatSync(state.path(MOUNT)).mode & 0o777, 0o700);
  for (const mode of [0o777, 0o775]) {
    chmodSync(root, mode);
    const refused = { code: 'UNAVAILABLE', message: /others may write to it/ };
    t.throws(() => state.list(), refused);
    t.throws(() => state.create('1'.repeat(16), {}), refused);
    t.throws(() => state.logFile('db'), refused);
  }
});

t.test('what a process left that was killed while it made or removed a state', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'hf-run-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const { state } = new NodeMountHost({ runDirectory: root, program: [] });
  state.create(MOUNT, { a: 'text' });
  t.same([state.read(MOUNT, 'a'), state.list()], ['text', [MOUNT]]);
  const [long, now] = ['.old-1', '.new-2'].map((name) => state.path(name));
  for (const path of [long, now]) mkdirSync(path ?? '');
  utimesSync(long ?? '', 1, 1);
  t.same(state.list(), [MOUNT], 'nobody sees it');
  state.create('3', {});
  t.same(readdirSync(join(root, 'mounts')).sort(), ['.new-2', MOUNT, '3'].sort());
  state.remove(MOUNT);
  state.remove(MOUNT);
  t.same(readdirSync(join(root, 'mounts')).sort(), ['.new-2', '3']);
});
