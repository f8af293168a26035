/** What the plugin makes of the engine's calls: volumes, counts, and what a killed one leaves. */
import t from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import type { VolumeInfo } from '../../src/lifecycle/volume-types.js';
import { Engine } from './engine.js';

/** The one volume that there is. */
function only(engine: Engine): VolumeInfo {
  const [info] = engine.volumes.infos.values();
  if (info === undefined) throw new Error('there is no volume');
  return info;
}

function change(engine: Engine, what: Partial<VolumeInfo>): void {
  const info = only(engine);
  engine.volumes.infos.set(info.id, { ...info, ...what });
}

t.test('says what it is', async (t) => {
  const engine = new Engine();
  t.same(await engine.ask('Plugin.Activate', ''), { Implements: ['VolumeDriver'], Err: '' });
  t.same(await engine.ask('Capabilities'), { Capabilities: { Scope: 'global' }, Err: '' });
  t.equal(
    await engine.plugin.answer('/NetworkDriver.Join', '{}', new AbortController().signal),
    null,
  );
});

t.test('creates, finds, lists and removes', async (t) => {
  const engine = new Engine();
  t.equal(await engine.create('db'), '');
  t.equal(await engine.create('db'), '', 'again');
  t.equal(await engine.create('a-log', { size: '2GiB' }), '');
  t.match(await engine.ask('List'), {
    Volumes: [
      { Name: 'a-log', Mountpoint: '', CreatedAt: /^2026/ },
      { Name: 'db', Mountpoint: '' },
    ],
  });
  t.match(await engine.ask('Get', { Name: 'db' }), {
    Volume: {
      Name: 'db',
      Mountpoint: '',
      CreatedAt: /^2026/,
      Status: { size: '1 GiB', mounted: 'no' },
    },
    Err: '',
  });
  t.match(await engine.ask('Get', { Name: 'no' }), {
    Err: /^no volume is named "no"\. Make it with/,
  });
  t.equal((await engine.ask('Remove', { Name: 'db' })).Err, '');
  t.same(engine.argumentsOf('remove')[1], { keepMs: 1000 }, 'to the trash, for so long');
  t.equal((await engine.ask('Remove', { Name: 'db' })).Err, '', 'again');
});

t.test('what is mounted is in the answers', async (t) => {
  const engine = new Engine();
  await engine.create('db', { 'label.team': 'web' });
  t.same(await engine.mount('db', 'one'), { Mountpoint: '/volumes/db', Err: '' });
  await engine.mount('db', 'two');
  t.same(await engine.ask('Path', { Name: 'db' }), { Mountpoint: '/volumes/db', Err: '' });
  t.match(await engine.ask('List'), { Volumes: [{ Mountpoint: '/volumes/db' }] });
  t.match(await engine.ask('Get', { Name: 'db' }), {
    Volume: {
      Mountpoint: '/volumes/db',
      Status: {
        ...{ type: 'filesystem', size: '1 GiB', used: '3 MiB', replicas: 3, ack: 2 },
        ...{ readOnly: false, health: 'All is well.', containersHere: 2, labels: { team: 'web' } },
      },
    },
  });
});

t.test('the last caller unmounts', async (t) => {
  const engine = new Engine();
  await engine.create('db');
  for (const caller of ['one', 'two', 'two']) await engine.mount('db', caller);
  t.match(await engine.ask('Get', { Name: 'db' }), { Volume: { Status: { containersHere: 2 } } });
  t.equal(await engine.unmount('db', 'nobody'), '', 'who never mounted it');
  t.equal(await engine.unmount('db', 'two'), '');
  t.equal(await engine.unmount('db', 'two'), '', 'again');
  t.same(engine.mounted, ['/volumes/db'], 'one uses it');
  t.equal(await engine.unmount('db', 'one'), '');
  t.same(engine.mounted, []);
  t.same(engine.files.list(), []);
  t.same(engine.removed.at(-1), '/volumes/db');
});

t.test('who uses what outlives the plugin', async (t) => {
  const engine = new Engine();
  await engine.create('db');
  await engine.mount('db', 'one');
  engine.restart();
  await engine.mount('db', 'two');
  engine.restart();
  await engine.plugin.sweep();
  await engine.unmount('db', 'one');
  t.same(engine.mounted, ['/volumes/db']);
  engine.restart();
  await engine.unmount('db', 'two');
  t.same(engine.mounted, []);
});

t.test('killed between the mount and its note: nobody has it, and it goes', async (t) => {
  const engine = new Engine();
  await engine.create('db');
  await engine.create('kept');
  await engine.mount('kept', 'one');
  await engine.mount('db', 'one');
  engine.files.write('db', '{"version":1,"callers":[]}');
  const { id } = [...engine.volumes.infos.values()].find(
    ({ name }) => name === 'kept',
  ) as VolumeInfo;
  const kept = engine.volumes.local.get(id);
  if (kept !== undefined) {
    engine.volumes.local.set('other', { ...kept, name: 'other', directory: '/mnt/other' });
  }
  engine.restart();
  await engine.plugin.sweep();
  t.same(engine.mounted, ['/mnt/other', '/volumes/kept'], 'nothing of anybody else');
});

t.test('lists of callers that were lost: nothing is taken from anybody', async (t) => {
  const engine = new Engine();
  await engine.create('db');
  await engine.mount('db', 'one');
  await engine.mount('db', 'two');
  engine.files.remove('db');
  engine.restart();
  await engine.plugin.sweep();
  t.equal(await engine.unmount('db', 'one'), '');
  t.same(engine.mounted, ['/volumes/db'], 'the other one may use it');
});

t.test('a mount that is on its way, or hidden, is no place for a container', async (t) => {
  for (const what of [
    { mount: { state: 'starting' } },
    { mount: { state: 'stopping' } },
    { shown: false },
  ] as const) {
    const engine = new Engine();
    await engine.create('db');
    await engine.mount('db', 'one');
    engine.hideAs(what);
    engine.asked.length = 0;
    t.equal((await engine.mount('db', 'two')).Err, '', JSON.stringify(what));
    t.equal(engine.asked.at(-1)?.call, 'mount', 'it is made, and waited for');
    engine.hideAs(what);
    engine.volumes.faults.set('mount', new HoldfastError('CONFLICT', 'it is still used there'));
    t.match(await engine.mount('db', 'three'), { Err: /still used there/ });
    t.match(await engine.ask('Get', { Name: 'db' }), { Volume: { Status: { containersHere: 2 } } });
  }
});

t.test('a mount that is gone again before its container starts is none', async (t) => {
  const engine = new Engine();
  await engine.create('db');
  engine.lasting = false;
  let reply: unknown = null;
  void engine.mount('db', 'one').then((said) => {
    reply = said;
  });
  await engine.scheduler.until(() => reply !== null, 60_000);
  t.match(reply, { Err: /unmounted again at once/ });
  t.same(engine.mounted, []);
  t.same(engine.files.list(), []);
});

t.test('a mount that fails leaves no note, and is nobody else', async (t) => {
  const engine = new Engine();
  await engine.create('db');
  const elsewhere = new HoldfastError('CONFLICT', '"db" is mounted on far');
  engine.volumes.faults.set('mount', elsewhere);
  t.equal((await engine.mount('db', 'one')).Err, '"db" is mounted on far.');
  t.same(engine.files.list(), []);
  await engine.mount('db', 'two');
  engine.volumes.faults.set('unmount', new HoldfastError('BUSY', 'in use'));
  await engine.unmount('db', 'two');
  t.same(engine.files.list(), ['db'], 'still to be taken away');
});

t.test('a list of callers that cannot be read is not an empty one', async (t) => {
  const engine = new Engine();
  await engine.create('db');
  await engine.mount('db', 'one');
  engine.files.write('db', '{"version":2}');
  await engine.plugin.sweep();
  t.same(engine.mounted, ['/volumes/db']);
  t.match(await engine.mount('db', 'two'), { Err: /cannot be read/ });
  t.match(await engine.unmount('db', 'one'), /cannot be read/);
  t.same(engine.mounted, ['/volumes/db']);
});

t.test('an unmount that fails is said, and done later', async (t) => {
  const engine = new Engine();
  await engine.create('db');
  await engine.mount('db', 'one');
  engine.volumes.faults.set('unmount', new HoldfastError('TIMEOUT', 'too few nodes answer'));
  t.equal(await engine.unmount('db', 'one'), 'too few nodes answer.');
  t.same(engine.mounted, ['/volumes/db']);
  await engine.plugin.sweep();
  await engine.scheduler.until(() => engine.mounted.length === 0, 60_000);
});

t.test('a mount is tried again when something has not answered in time', async (t) => {
  const engine = new Engine();
  await engine.create('db');
  const slow = new HoldfastError('UNAVAILABLE', 'etcd: no answer', { retryable: true });
  engine.volumes.faults.set('mount', slow);
  let reply: unknown = null;
  void engine.mount('db', 'one').then((said) => {
    reply = said;
  });
  await engine.scheduler.until(() => reply !== null, 5_000);
  t.match(reply, { Err: '', Mountpoint: '/volumes/db' });
  engine.volumes.mount = () => Promise.reject(slow);
  await engine.create('other');
  reply = null;
  void engine.mount('other', 'one').then((said) => {
    reply = said;
  });
  await engine.scheduler.until(() => reply !== null, 60_000);
  t.match(reply, { Err: /no answer/ }, 'not for ever');
  engine.volumes.mount = () => Promise.reject(new HoldfastError('CONFLICT', 'mounted elsewhere'));
  t.match(await engine.mount('other', 'one'), { Err: /elsewhere/ }, 'what will not pass is said');
});

t.test('a mount that nobody waits for any more is taken away again', async (t) => {
  const engine = new Engine();
  await engine.create('db');
  const hangUp = new AbortController();
  hangUp.abort();
  t.match(await engine.ask('Mount', { Name: 'db', ID: 'one' }, hangUp.signal), { Err: /nobody/ });
  t.same(engine.mounted, []);
  await engine.mount('db', 'two');
  await engine.ask('Mount', { Name: 'db', ID: 'one' }, hangUp.signal);
  t.same(engine.mounted, ['/volumes/db'], 'unless somebody else uses it');
});

t.test('answers before the engine gives up', async (t) => {
  const engine = new Engine();
  await engine.create('db');
  let release = (): void => {};
  const hanging = new Promise<never>((_, reject) => {
    release = () => reject(new HoldfastError('UNAVAILABLE', 'no'));
  });
  engine.volumes.mount = () => hanging;
  let reply: unknown = null;
  void engine.mount('db', 'one').then((said) => {
    reply = said;
  });
  await engine.scheduler.settle();
  engine.scheduler.runFor(109_000);
  await engine.scheduler.settle();
  t.equal(reply, null);
  engine.scheduler.runFor(2_000);
  await engine.scheduler.settle();
  t.match(reply, { Err: /^this takes more than 110 s, and goes on\. Try again/ });
  release();
  t.equal(await engine.unmount('db', 'one'), '', 'the next one has its turn');
});

t.test('removal', async (t) => {
  const engine = new Engine();
  await engine.create('db');
  await engine.mount('db', 'one');
  const refused = await engine.ask('Remove', { Name: 'db' });
  t.match(refused.Err, /^a container of this machine uses "db"\. Stop/);
  await engine.mount('db', 'two');
  t.match(
    (await engine.ask('Remove', { Name: 'db' })).Err,
    /^2 containers of this machine use "db"/,
  );
  t.equal(engine.volumes.infos.size, 1);

  const mounted = { machine: 'far', directory: '/d', pid: 1, since: '' };
  engine.volumes.local.clear();
  change(engine, { held: true, mounted });
  const elsewhere = new HoldfastError('CONFLICT', 'volume "db" is mounted at /d on far');
  engine.volumes.faults.set('remove', elsewhere);
  t.equal((await engine.ask('Remove', { Name: 'db' })).Err, 'volume "db" is mounted at /d on far.');
  t.same(engine.argumentsOf('fence'), [], 'who lives is not shut out');

  change(engine, { held: true, mounted: null });
  t.equal((await engine.ask('Remove', { Name: 'db' })).Err, '', 'its machine died with it');
  t.same(engine.argumentsOf('fence').length, 1);
  t.equal(engine.volumes.infos.size, 0);
});

t.test('one more container needs no metadata store', async (t) => {
  const engine = new Engine();
  await engine.create('db');
  await engine.create('other');
  await engine.mount('db', 'one');
  engine.isCut = true;
  t.equal((await engine.mount('db', 'two')).Err, '');
  t.match((await engine.mount('other', 'two')).Err, /etcd is down/);
  t.equal(await engine.unmount('db', 'two'), '');
  t.equal(await engine.unmount('db', 'one'), '');
  t.same(engine.mounted, []);
});

t.test('of a volume that cannot be asked for, nothing is said', async (t) => {
  const engine = new Engine();
  await engine.create('db');
  engine.isCut = true;
  await t.rejects(engine.ask('Get', { Name: 'db' }), { message: 'etcd is down' });
  engine.isCut = false;
  const { signal } = new AbortController();
  const again = engine.plugin.answer('/VolumeDriver.Get', '', signal);
  await t.rejects(again, { code: 'INVALID_ARGUMENT' }, 'asked again, without its name');
  t.match(await engine.ask('Get', { Name: 'other' }), { Err: /no volume is named "other"/ });
  t.match(await engine.ask('Get', { Name: '../x' }), { Err: /not what it must be/ });
  const { byName } = engine.volumes;
  const slow = new HoldfastError('TIMEOUT', 'etcd: no answer', { retryable: true });
  engine.volumes.byName = () => {
    engine.volumes.byName = byName;
    return Promise.reject(slow);
  };
  let reply: unknown = null;
  void engine.ask('Get', { Name: 'db' }).then((said) => {
    reply = said;
  });
  await engine.scheduler.until(() => reply !== null, 5_000);
  t.match(reply, { Err: '', Volume: { Name: 'db' } }, 'once more is enough');
});

t.test('two at once share one mount', async (t) => {
  const engine = new Engine();
  await engine.create('db');
  const both = await Promise.all([engine.mount('db', 'one'), engine.mount('db', 'two')]);
  t.same(
    both.map(({ Err }) => Err),
    ['', ''],
  );
  await Promise.all([engine.unmount('db', 'one'), engine.mount('db', 'three')]);
  await engine.unmount('db', 'two');
  t.same(engine.mounted, ['/volumes/db']);
});

t.test('read-only volumes', async (t) => {
  const engine = new Engine();
  await engine.create('ro', { 'read-only': 'true' });
  await engine.mount('ro', 'one');
  t.match(engine.argumentsOf('mount')[2], { readOnly: true, waitMs: 15_000 });
  t.match(await engine.ask('Get', { Name: 'ro' }), { Volume: { Status: { readOnly: true } } });
  t.match(await engine.create('ro', { 'read-only': 'false' }), /exists with read-only true/);
});

t.test('what is no call', async (t) => {
  const engine = new Engine();
  const cases: [string, unknown, RegExp][] = [
    ['Mount', { Name: 'db' }, /^\/VolumeDriver.Mount: "ID" is not what it must be\.$/],
    ['Mount', 'no JSON', /is not JSON/],
    ['Create', { Name: '../etc', Opts: {} }, /"Name" is not/],
    ['Create', { Name: 'db', Opts: { size: 1 } }, /"Opts.size" is not/],
    ['Get', { Name: 'x'.repeat(129) }, /"Name" is not/],
    ['Remove', [], /the body is not/],
  ];
  for (const [call, body, err] of cases) t.match((await engine.ask(call, body)).Err, err);
  t.same(engine.asked, [], 'nothing was touched');
});

t.test('a device that was in use when its filesystem went goes with the next sweep', async (t) => {
  const engine = new Engine();
  await engine.create('disk', { type: 'block' });
  await engine.mount('disk', 'c1');
  engine.volumes.faults.set('unmount', new HoldfastError('BUSY', '/dev/loop0 is in use'));
  t.match(await engine.unmount('disk', 'c1'), /loop0 is in use/);
  for (const [id, one] of engine.volumes.local) {
    engine.volumes.local.set(id, { ...one, directory: null, device: '/dev/loop0' });
  }
  engine.volumes.faults.set('closeDevice', new HoldfastError('BUSY', '/dev/loop0 is in use'));
  await engine.plugin.sweep();
  t.equal(engine.volumes.local.size, 1, 'it still is');
  await engine.plugin.sweep();
  t.same(engine.mounted, []);
  t.equal(await engine.ask('Remove', { Name: 'disk' }).then(({ Err }) => Err), '');
});
