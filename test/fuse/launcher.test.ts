/** Each thing that can be wrong with a mount is one clear fault, and nothing is left open by it. */
import { test } from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import { mountArguments, mountFuse, unmountFuse } from '../../src/fuse/launcher.js';
import type { CommandResult, FuseMounts, MountEntry } from '../../src/io/fuse-device.js';
import { parseMountTable } from '../../src/io/node/fuse-device-mounts.js';

interface World {
  uid?: number;
  kind?: 'directory' | 'other' | 'missing';
  table?: MountEntry[];
  result?: CommandResult;
  noDevice?: boolean;
  /** Somebody unmounts what was mounted at once. */
  vanishes?: boolean;
}

class FakeMounts implements FuseMounts {
  readonly #world: World;
  readonly commands: string[][] = [];
  readonly touched: string[] = [];
  openDescriptors = 0;

  constructor(world: World = {}) {
    this.#world = world;
  }
  effectiveUid(): number {
    return this.#world.uid ?? 0;
  }
  open(): { fd: number } {
    if (this.#world.noDevice === true) throw new HoldfastError('NOT_FOUND', 'no /dev/fuse');
    this.openDescriptors++;
    return { fd: 42 };
  }
  closeDescriptor(): void {
    this.openDescriptors--;
  }
  table(): MountEntry[] {
    return this.#world.table ?? [];
  }
  resolve(path: string): string {
    return path.replace(/\/$/, '');
  }
  kind(path: string): 'directory' | 'other' | 'missing' {
    this.touched.push(path);
    return this.#world.kind ?? 'directory';
  }
  async mount(args: readonly string[]): Promise<CommandResult> {
    const result = await this.umount(args);
    const isMounted = result.status === 0 || result.message.includes('was mounted');
    if (isMounted && this.#world.vanishes !== true) this.#world.table = [OURS];
    return result;
  }
  async umount(args: readonly string[]): Promise<CommandResult> {
    this.commands.push([...args]);
    return this.#world.result ?? { status: 0, message: '' };
  }
  processes(): number[] {
    return [];
  }
  async abort(): Promise<boolean> {
    return true;
  }
  setReadahead(): boolean {
    return true;
  }
}

const OURS: MountEntry = {
  mountPoint: '/mnt/db',
  type: 'fuse.holdfast',
  source: 'db',
  device: '0:40',
  root: '/',
  readOnly: false,
};

test('mount(8) is told everything by options', async (t) => {
  const mounts = new FakeMounts();
  const options = { source: 'db', readOnly: true, flags: ['noatime', 'nodev'] };
  const mounted = await mountFuse(mounts, '/mnt/db/', options);
  t.same(mounted, { descriptor: { fd: 42 }, mountPoint: '/mnt/db' });
  const list =
    'fd=3,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,' +
    'subtype=holdfast,_netdev,ro,noatime,nodev';
  t.same(mounts.commands, [['-i', '-t', 'fuse', '-o', list, 'db', '/mnt/db']]);
});

test('options cannot smuggle others in', async (t) => {
  t.throws(() => mountArguments({ source: 'a,b' }), { code: 'INVALID_ARGUMENT' });
  t.throws(() => mountArguments({ source: '' }), { code: 'INVALID_ARGUMENT' });
  t.throws(() => mountArguments({ source: 'a', flags: ['x,fd=4'] }), { code: 'INVALID_ARGUMENT' });
  t.throws(() => mountArguments({ source: 'a', flags: [''] }), { code: 'INVALID_ARGUMENT' });
  const unknown = { source: 'a', flags: ['max_read=1'] };
  t.throws(() => mountArguments(unknown), { code: 'INVALID_ARGUMENT', hint: /noatime/ });
  const known = ['rw', 'nodiratime', 'strictatime', 'dev', 'noexec', 'context=system_u:object_r:x'];
  t.match(mountArguments({ source: 'a', flags: known })[4], known.join(','));
});

test('options that the kernel takes and does not keep are refused', async (t) => {
  for (const flag of ['dirsync', 'sync']) {
    const mount = (): unknown => mountArguments({ source: 'a', flags: ['noatime', flag] });
    const message = new RegExp(`^the mount option "${flag}" .* names`);
    t.throws(mount, { code: 'INVALID_ARGUMENT', message, hint: /fsync of the directory/ });
  }
  t.match(mountArguments({ source: 'a', flags: ['async'] })[4], /,async$/);
});

test('mounting where it cannot be', async (t) => {
  const failed = (message: string): World => ({ result: { status: 32, message } });
  const cases: [string, World, Record<string, unknown>][] = [
    ['not root', { uid: 1000 }, { code: 'UNAVAILABLE', message: /root/ }],
    ['no directory', { kind: 'missing' }, { code: 'NOT_FOUND', hint: /mkdir/ }],
    ['a file', { kind: 'other' }, { code: 'INVALID_ARGUMENT', message: /not a directory/ }],
    ['no device', { noDevice: true }, { code: 'NOT_FOUND' }],
    ['mounted already', { table: [OURS] }, { code: 'ALREADY_EXISTS', message: /^db is already/ }],
    ['busy', failed('/mnt/db already mounted or mount point busy'), { code: 'BUSY' }],
    ['refused', failed('permission denied'), { code: 'UNAVAILABLE', hint: /SYS_ADMIN/ }],
    ['hung', { result: { status: null, message: 'mount did not end' } }, { code: 'UNAVAILABLE' }],
  ];
  cases.push(['gone again', { vanishes: true }, { code: 'UNAVAILABLE', message: /at once/ }]);
  for (const [name, world, expected] of cases) {
    const mounts = new FakeMounts(world);
    const failure = await mountFuse(mounts, '/mnt/db', { source: 'db' }).catch((thrown) => thrown);
    t.match(failure, expected, name);
    t.equal(mounts.openDescriptors, 0, `${name}: nothing left open`);
  }
});

test('a mounted directory is never touched', async (t) => {
  const mounts = new FakeMounts({ table: [OURS] });
  await t.rejects(mountFuse(mounts, '/mnt/db', { source: 'db' }));
  await unmountFuse(mounts, '/mnt/db');
  t.same(mounts.touched, []);
});

test('unmounting', async (t) => {
  const normal = new FakeMounts({ table: [OURS] });
  await unmountFuse(normal, '/mnt/db');
  await unmountFuse(normal, '/mnt/db', { lazy: true });
  t.same(normal.commands, [
    ['-i', '-c', '/mnt/db'],
    ['-i', '-c', '-l', '/mnt/db'],
  ]);
  const other = { ...OURS, type: 'ext4' };
  await t.rejects(unmountFuse(new FakeMounts(), '/mnt/db'), { code: 'NOT_FOUND' });
  await t.rejects(unmountFuse(new FakeMounts({ table: [other] }), '/mnt/db'), {
    code: 'NOT_FOUND',
  });
  const busy = { status: 32, message: 'umount: /mnt/db: target is busy.' };
  await t.rejects(unmountFuse(new FakeMounts({ table: [OURS], result: busy }), '/mnt/db'), {
    code: 'BUSY',
    hint: /lazy/,
  });
});

test('what cannot be noted down in /run was done all the same', async (t) => {
  // As util-linux 2.38 says it, on a full and on a read-only /run.
  const full = {
    status: 32,
    message: 'filesystem was mounted, but any subsequent operation failed',
  };
  const readOnly = {
    status: 16,
    message: 'filesystem was mounted, but failed to update userspace',
  };
  for (const result of [full, readOnly]) {
    t.ok(await mountFuse(new FakeMounts({ result }), '/mnt/db', { source: 'db' }));
  }
  const undone = { status: 32, message: 'filesystem was unmounted, but any subsequent operation' };
  await t.resolves(unmountFuse(new FakeMounts({ table: [OURS], result: undone }), '/mnt/db'));
});

test('the table of mounts is read with its escapes', async (t) => {
  const text = [
    '36 35 98:0 /mnt1 / ro,noatime master:1 - ext4 /dev/root rw',
    '42 27 0:39 / /tmp/a\\040b\\134c rw,relatime - fuse.holdfast v\\303\\266l rw,user_id=0',
    'nonsense',
    '',
  ].join('\n');
  t.same(parseMountTable(text), [
    {
      ...{ mountPoint: '/', type: 'ext4', source: '/dev/root', device: '98:0' },
      ...{ root: '/mnt1', readOnly: true },
    },
    {
      ...{ mountPoint: '/tmp/a b\\c', type: 'fuse.holdfast', source: 'völ', device: '0:39' },
      ...{ root: '/', readOnly: false },
    },
  ]);
});
