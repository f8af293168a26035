/** Mounts from their making to all the ways in which they end; and what refuses to be mounted. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { mountAt, mountFuse, unmountFuse } from '../../src/fuse/launcher.js';
import { NodeFuseMounts } from '../../src/io/node/fuse-device-mounts.js';
import { cannotMount, isMounted, Mounted, shell } from './mounted.js';

const skip = cannotMount();
const mounts = new NodeFuseMounts();
const options = { source: 'test' };

test('a mount appears as fuse.holdfast, with its source', { skip }, async (t) => {
  const mounted = await Mounted.start();
  t.teardown(() => mounted.end());
  const entry = mountAt(mounts.table(), mounted.directory);
  t.match(entry, { type: 'fuse.holdfast', source: 'memory' });
  const readahead = `/sys/class/bdi/${entry?.device}/read_ahead_kb`;
  if (existsSync(readahead)) t.equal(readFileSync(readahead, 'utf8').trim(), '1024');
  await mounted.end();
  t.notOk(isMounted(mounted.directory));
});

test('a mounted directory is not mounted over, and says what is there', { skip }, async (t) => {
  const mounted = await Mounted.start();
  t.teardown(() => mounted.end());
  const again = mountFuse(mounts, `${mounted.directory}/`, options);
  await t.rejects(again, { code: 'ALREADY_EXISTS', message: /^memory is already mounted/ });
});

test('missing directories, files and bad parents are named', { skip }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-life-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'file');
  writeFileSync(file, '');
  const missing = join(directory, 'none');
  await t.rejects(mountFuse(mounts, missing, options), { code: 'NOT_FOUND' });
  await t.rejects(mountFuse(mounts, join(missing, 'none'), options), { code: 'NOT_FOUND' });
  await t.rejects(mountFuse(mounts, file, options), { code: 'INVALID_ARGUMENT' });
  await t.rejects(unmountFuse(mounts, directory), { code: 'NOT_FOUND' });
});

test('a mount that is used is busy, and can be taken away lazily', { skip }, async (t) => {
  const mounted = await Mounted.start();
  t.teardown(() => mounted.end());
  const user = mounted.run('exec 3> open; echo started > started; sleep 3; echo late >&3');
  await mounted.run('until [ -s started ]; do sleep 0.02; done');
  await t.rejects(unmountFuse(mounts, mounted.directory), { code: 'BUSY', hint: /lazy/ });
  await unmountFuse(mounts, mounted.directory, { lazy: true });
  t.notOk(isMounted(mounted.directory));
  t.ok(mounted.daemon.alive, 'it serves its last user');
  t.equal((await user).status, 0, 'who notices nothing');
  t.match(await mounted.lastWords(), { error: null, underWay: 0 });
});

test('an aborted connection ends the daemon in order', { skip }, async (t) => {
  const mounted = await Mounted.start();
  t.teardown(() => mounted.end());
  const minor = mountAt(mounts.table(), mounted.directory)?.device.split(':')[1];
  const control = '/sys/fs/fuse/connections';
  const abort = `${control}/${minor}/abort`;
  const { status } = await shell(
    `[ -e ${abort} ] || mount -t fusectl none ${control}; echo 1 > ${abort}`,
  );
  if (status !== 0) {
    t.comment('there is no fusectl here');
    return;
  }
  t.match(await mounted.lastWords(), { error: null });
  t.match((await shell(`ls ${mounted.directory}`)).text, /not connected|aborted/);
});

test('a killed daemon leaves an error, not a hang, and can be unmounted', { skip }, async (t) => {
  const mounted = await Mounted.start();
  t.teardown(() => mounted.end());
  await mounted.daemon.kill();
  t.match((await shell(`ls ${mounted.directory}`)).text, /not connected/);
  await t.rejects(mountFuse(mounts, mounted.directory, options), { code: 'ALREADY_EXISTS' });
  await unmountFuse(mounts, mounted.directory);
  t.notOk(isMounted(mounted.directory));
});

test('many requests at once are all answered', { skip }, async (t) => {
  const mounted = await Mounted.start();
  t.teardown(() => mounted.end());
  const one =
    'for j in $(seq 40); do echo $i,$j > $i-$j; mv $i-$j $i.$j; cat $i.$j; rm $i.$j; done';
  const script = `for i in $(seq 16); do (${one}) & done | sort -u | wc -l; wait; ls | wc -l`;
  t.equal((await mounted.run(script)).text, '640\n0');
  t.match(await mounted.stats(), { underWay: 0, complaints: [] });
});
