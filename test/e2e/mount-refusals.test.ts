/** What cannot be mounted or unmounted is one clear line, a code of its own, and no change. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { VolumeRecord } from '../../src/metadata/model.js';
import { freePorts } from '../fixtures/etcd.js';
import { cannotMount } from '../fuse/mounted.js';
import { MountBed, type Said, shell } from './mount-bed.js';

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

interface Refusal {
  readonly args: readonly string[];
  readonly code: number;
  readonly says: RegExp;
  readonly env?: Record<string, string>;
  /** How the fault's line begins. */
  readonly begins?: RegExp;
}

async function refused({
  args,
  code,
  says,
  env = {},
  begins = /^holdfast: /,
}: Refusal): Promise<Said> {
  const said = await bed.said(bed.start(args, env));
  const what = args.join(' ');
  t.equal(said.code, code, `${what}: ${said.stderr}`);
  const lines = said.stderr.trim().split('\n');
  t.match(lines.at(-1), says, what);
  t.match(lines.at(-1), begins, `${what}: the last line is the fault`);
  t.notMatch(said.stderr, /\n\s+at /, `${what}: no stack trace`);
  t.same(bed.states, [], `${what}: no state is left when it returns`);
  return said;
}

t.test('what cannot be mounted', async (t) => {
  const file = join(bed.root, 'file');
  writeFileSync(file, '');
  const [port] = await freePorts(1);
  await bed.holdfast('volume', 'create', 'raw', '--size', '1GiB', '--label', 'log=plain');
  await bed.holdfast('volume', 'create', 'disk', '--size', '1GiB', '--kind', 'block');
  const db = (...more: string[]): string[] => ['mount', 'db', directory, ...more];
  const nowhere = { HOLDFAST_METADATA: `etcd://127.0.0.1:${port}` };
  const cases: Refusal[] = [
    { args: ['mount', 'none', directory], code: 12, says: /no volume is named "none"/ },
    { args: ['mount', 'No!', directory], code: 2, says: /not a volume name/ },
    { args: ['mount', 'raw', directory], code: 2, says: /plain log.*holdfast log/ },
    { args: ['mount', 'disk', directory, '--foreground'], code: 2, says: /block volume/ },
    { args: ['mount', 'db', join(bed.root, 'none')], code: 12, says: /mkdir -p/ },
    { args: ['mount', 'db', join(bed.root, 'no/ne')], code: 12, says: /no directory/ },
    { args: ['mount', 'db', file], code: 2, says: /not a directory/ },
    { args: ['mount', 'db', bed.root], code: 2, says: /would hide/ },
    { args: ['mount', 'db'], code: 2, says: /missing required argument 'directory'/ },
    { args: db('--commit-interval', '0'), code: 2, says: /1 to 60/ },
    { args: db('--commit-interval', 'soon'), code: 2, says: /"soon" is not a time/ },
    { args: db('-o', 'noatime,fast'), code: 2, says: /"fast" is not a mount option/ },
    { args: db('-o', 'noatime,dirsync'), code: 2, says: /"dirsync" .*fsync of the directory/ },
    { args: db('-o', 'sync'), code: 2, says: /"sync" .*fsync of the directory/ },
    { args: db('--metrics', 'nowhere'), code: 2, says: /HOST:PORT/ },
    { args: db(), code: 20, says: /cannot be reached/, env: nowhere },
    { args: db('--secret-file', file), code: 2, says: /secret/ },
    { args: ['umount', directory], code: 12, says: /no volume is mounted/ },
    { args: ['sync', directory], code: 12, says: /no volume is mounted/ },
    { args: ['mount-daemon', directory], code: 2, says: /no state directory/ },
  ];
  for (const one of cases) await refused(one);
  t.equal((await bed.holdfast('mounts')).lines.length, 1, 'nothing is mounted');
});

t.test('a wrong secret', async () => {
  const wrong = join(bed.root, 'wrong');
  writeFileSync(wrong, 'not the secret of this cluster, at all');
  const args = ['mount', 'db', directory, '--secret-file', wrong];
  await refused({ args, code: 16, says: /secret is not the one/ });
});

t.test('a cluster without nodes is not waited for', async (t) => {
  const at = ['--metadata', `embedded:${join(bed.root, 'empty')}`];
  const made = [...at, '--secret-file', join(bed.root, 'empty-secret')];
  t.equal((await bed.holdfast('cluster', 'init', ...made)).code, 0);
  t.equal((await bed.holdfast('volume', 'create', 'db', '--size', '1GiB', ...made)).code, 0);
  const before = Date.now();
  const args = ['mount', 'db', directory, ...made];
  await refused({ args, code: 20, says: /no node has ever registered\. Start "holdfast node"/ });
  t.ok(Date.now() - before < 30_000);
});

t.test('settings of a mount in the environment', async (t) => {
  const env = { HOLDFAST_READ_ONLY: 'true', HOLDFAST_OPTIONS: 'noatime,nodev' };
  const { code, stderr } = await bed.said(bed.start(['mount', 'db', directory], env));
  t.equal(code, 0, stderr);
  t.match((await shell(`touch ${directory}/file`)).text, /Read-only file system/);
  t.match((await shell(`grep ${directory} /proc/self/mounts`)).text, / ro,nodev,noatime/);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  const args = ['mount', 'db', directory];
  await refused({ args, code: 2, says: /HOLDFAST_WAIT: /, env: { HOLDFAST_WAIT: 'soon' } });
});

t.test('without root, or /dev/fuse', async () => {
  const env = Object.entries(bed.environment).map(([name, value]) => `${name}='${value}'`);
  const open = `chmod -R a+rX ${bed.root} ${bed.cluster.secretFile} ${bed.cluster.root}`;
  const holdfast = `${process.execPath} ${bed.program}`;
  const command = `env -i ${env.join(' ')} ${holdfast} mount db ${directory}`;
  await shell(`${open}; chmod a+r ${bed.cluster.secretFile}`);
  const user = await shell(command, { uid: 65_534 });
  t.equal(user.status, 20, user.text);
  t.match(user.text, /needs root.*sudo/);
  // In a mount namespace of its own, where /dev/fuse is hidden by a directory of the same name.
  const hide = 'mount -t tmpfs none /dev && exec "$@"';
  const none = await shell(`unshare -m sh -c '${hide}' sh ${command}`);
  t.equal(none.status, 12, none.text);
  t.match(none.text, /no \/dev\/fuse.*modprobe/);
});

t.test('a directory that is in use already', async () => {
  await shell(`mount -t tmpfs busy ${directory}`);
  // Mounting over another filesystem is what mount(8) does, too.
  await bed.mount('db', directory);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  t.equal((await shell(`stat -f -c %T ${directory}`)).text, 'tmpfs');
  await shell(`umount ${directory}`);
});

t.test('fewer nodes than a quorum: says what it waits for, and gives up', async () => {
  const [first, second] = bed.cluster.nodes;
  await bed.mount('db', directory);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  await first?.kill();
  await second?.kill();
  const args = ['mount', 'db', directory, '--timeout', '4'];
  const { stderr } = await refused({
    args,
    code: 21,
    says: /in 4 s: step \d of 4/,
  });
  t.match(stderr, /step 2 of 4, shutting the former owner out/, 'it says which step, meanwhile');
  const isReleased = async (): Promise<boolean> => {
    const { lines } = await bed.holdfast('volume', 'show', 'db', '--json');
    return (JSON.parse(lines[0] ?? '') as VolumeRecord).owner?.released === true;
  };
  t.ok(await isReleased(), 'it gives back what it could not take over');

  const quiet = await refused({
    ...{ args: [...args, '--json'], code: 21, says: /"code":"TIMEOUT"/, begins: /^\{"error":/ },
  });
  t.equal(quiet.stderr.trim().split('\n').length, 1, 'nothing but the error');

  const waiting = bed.start(['mount', 'db', directory, '--timeout', '60']);
  await waiting.until('progress', 30_000, () => /step 2/.test(waiting.stderr) || undefined);
  waiting.signal('SIGINT');
  t.equal((await bed.said(waiting)).code, 130, 'Ctrl-C gives it up');
  t.same(bed.states, []);
  t.ok(await isReleased());
  await bed.assertNothingLeft();

  const patient = bed.start(['mount', 'db', directory, '--timeout', '60']);
  await patient.until('progress', 30_000, () => /step 2/.test(patient.stderr) || undefined);
  await first?.start();
  await second?.start();
  t.equal((await bed.said(patient)).code, 0, patient.stderr);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});
