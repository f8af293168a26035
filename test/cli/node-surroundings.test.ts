/**
 * What `holdfast node` cannot start in: ports, directories and disks that others use or that are
 * full, metadata stores and clusters that do not want it. Each has an exit code of its kind and one
 * line that says what to do, and leaves the disk as it was.
 */
import { writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { startEtcd } from '../fixtures/etcd.js';
import { run } from '../fixtures/processes.js';
import { contents, type Ended, holdfast, Place, plain, refused } from './node-fixture.js';

/** Listens on a free port of loopback. */
function occupy(): Promise<{ server: Server; address: string }> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const bound = server.address() as { readonly port: number };
      resolve({ server, address: `127.0.0.1:${bound.port}` });
    });
  });
}

t.test('ports and directories that others use', async (t) => {
  const place = await Place.make(t);
  const directory = place.directory('data');
  const { server, address } = await occupy();
  t.teardown(() => server.close());
  for (const flag of ['--listen', '--metrics-listen']) {
    const ended = await holdfast(plain(place.args(directory, flag, address)));
    refused(t, ended, 29, /is in use/, flag);
  }
  t.same(contents(directory), []);

  const { child } = await place.start(t, place.args(directory));
  const second = await holdfast(plain(place.args(directory)));
  refused(t, second, 26, /is in use by another process/, 'directory');
  t.equal(await child.stop(), 0, 'the first one is not disturbed');
  await place.start(t, place.args(directory));
});

t.test('a lock that a killed node left does not keep the next one out', async (t) => {
  const place = await Place.make(t);
  const directory = place.directory('data');
  const first = await place.start(t, place.args(directory));
  await first.child.kill();
  const second = await place.start(t, place.args(directory));
  t.equal(second.ready.node, first.ready.node);
});

t.test('metadata stores that it cannot use', async (t) => {
  const place = await Place.make(t);
  const directory = place.directory('data');
  const start = (metadata: string): Promise<Ended> =>
    holdfast(plain(place.args(directory, '--metadata', metadata)));
  const nobody = await start('etcd://127.0.0.1:1');
  refused(t, nobody, 20, /etcd:\/\/127\.0\.0\.1:1.*--metadata names it/, 'unreachable');
  const nothing = await start(`embedded:${join(place.root, 'nothing')}`);
  refused(t, nothing, 12, /holds no Holdfast cluster/, 'not initialised');

  const etcd = await startEtcd({ auth: { password: 'right' } });
  t.teardown(() => etcd.close());
  const wrong = etcd.url.replace(/^etcd:\/\/(?:[^@]*@)?/, 'etcd://holdfast:wrong@');
  const stranger = await start(wrong);
  refused(t, stranger, 16, /./, 'wrong password');
  t.notMatch(stranger.err, 'wrong@', 'the password is not printed');
  t.same(contents(directory), []);
});

t.test('a secret that the cluster’s nodes do not have', async (t) => {
  const place = await Place.make(t);
  await place.start(t, place.args(place.directory('first')));
  const directory = place.directory('second');
  const other = join(place.root, 'other');
  writeFileSync(other, 'another secret, which nobody else has');
  const ended = await holdfast(plain(place.args(directory, '--secret-file', other)));
  refused(t, ended, 16, /secret is not the one/, 'secret');
  t.same(contents(directory), []);
});

/** A tmpfs of some MiB, if this user may mount one. */
async function mountTmpfs(t: Test, path: string, megabytes: number): Promise<boolean> {
  try {
    await run('mount', '-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', path);
  } catch {
    return false;
  }
  t.teardown(() => run('umount', path));
  return true;
}

t.test('full and read-only disks', async (t) => {
  const place = await Place.make(t);
  const small = place.directory('small');
  if (!(await mountTmpfs(t, small, 16))) {
    t.pass('mounting is not allowed here');
    return;
  }
  const full = await holdfast(plain(place.args(small)));
  refused(t, full, 23, /has 1[56] MiB left, formatting needs 68 MiB/, 'full');
  t.same(contents(small), []);

  const large = place.directory('large');
  await mountTmpfs(t, large, 200);
  await run('mount', '-o', 'remount,ro', large);
  refused(t, await holdfast(plain(place.args(large))), 24, /read-only/, 'empty, read-only');
  await run('mount', '-o', 'remount,rw', large);
  const { child } = await place.start(t, place.args(large));
  await child.stop();
  await run('mount', '-o', 'remount,ro', large);
  const before = contents(large);
  refused(t, await holdfast(plain(place.args(large))), 24, /read-only/, 'formatted, read-only');
  t.same(contents(large), before);
});

t.test('a formatted disk that has become full still serves', async (t) => {
  const place = await Place.make(t);
  const disk = place.directory('disk');
  if (!(await mountTmpfs(t, disk, 80))) {
    t.pass('mounting is not allowed here');
    return;
  }
  const { child } = await place.start(t, place.args(disk));
  await child.stop();
  const fill = join(disk, 'segments', 'other');
  await run('sh', '-c', `head -c 200M /dev/zero > ${fill} 2>/dev/null; test -s ${fill}`);
  const full = await place.start(t, place.args(disk));
  t.equal(await full.child.stop(), 0);
});

t.test('with --json a refusal is one JSON object', async (t) => {
  const place = await Place.make(t);
  const ended = await holdfast(place.args('/no/such/directory'));
  t.equal(ended.code, 12);
  t.match(JSON.parse(ended.err), {
    error: { code: 'NOT_FOUND', message: /does not exist/, hint: /Create it/, exitCode: 12 },
  });
});
