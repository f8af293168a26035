/** Taking away meets mounting, also where nothing of the mount is seen yet. */
import t from 'tap';
import { idFromBytes, type VolumeId } from '../../src/core/ids.js';
import type { MachineCommands } from '../../src/io/machine-commands.js';
import { volumesHere } from '../../src/lifecycle/here.js';
import { LocalMachine } from '../../src/lifecycle/local-machine.js';
import type { MountRequest, MountStatus } from '../../src/lifecycle/mount-types.js';
import { FakeHost, specOf } from './fake-host.js';
import { after, ticking } from './ticking.js';

const VOLUME = idFromBytes<VolumeId>(Buffer.alloc(16, 1));
const REQUEST = { id: VOLUME, name: 'db', kind: 'filesystem', sizeBytes: 1 } as const;
const PARTS = { name: 'here', location: { metadata: 'etcd://h:1', secretFile: null } };

class Rig {
  readonly #ticking = ticking();
  readonly clock = this.#ticking.clock;
  readonly host = new FakeHost();
  /** Ends the start of a mount, which leaves nothing to be seen until then. */
  end: (why: Error) => void = () => {};
  asked: MountRequest | null = null;
  readonly machine: LocalMachine;

  constructor(lockWaitMs = 0) {
    const { clock, host } = this;
    const mounts = { table: () => host.table, resolve: (path: string) => path };
    Object.defineProperty(host, 'mounts', { value: mounts });
    const start = (asked: MountRequest): Promise<MountStatus> => {
      this.asked = asked;
      return new Promise((_, reject) => {
        this.end = reject;
      });
    };
    const commands = { makeDirectory: () => true, removeEmpty: () => {} };
    this.machine = new LocalMachine({
      ...{ ...PARTS, host, clock, starter: { start }, lockWaitMs, blockRoot: '/block' },
      commands: commands as unknown as MachineCommands,
    });
  }

  /** 'done', or the code of the fault. */
  codeOf(promise: Promise<unknown>): Promise<string> {
    const said = promise.then(
      () => 'done',
      ({ code, message }) => code ?? message,
    );
    return this.#ticking.world.wait(said);
  }
}

t.test('an unmount waits for a mount that has not begun to be seen', async (t) => {
  const rig = new Rig();
  const mounting = rig.machine.mount(REQUEST, '/stage/db').catch(({ message }) => message);
  await rig.codeOf(after(rig.clock, 50));
  t.same(await rig.machine.list(), [], 'nothing is there yet');
  t.equal(await rig.codeOf(rig.machine.unmount('/stage/db')), 'BUSY');
  t.equal(await rig.codeOf(rig.machine.unmount('/stage/other')), 'done');
  rig.end(new Error('given up'));
  t.equal(await mounting, 'given up');
  t.equal(await rig.codeOf(rig.machine.unmount('/stage/db')), 'done');
  const relative = await rig.codeOf(rig.machine.mount(REQUEST, 'stage/db'));
  t.equal(relative, 'INVALID_ARGUMENT', 'it leaves no lock');
});

t.test('one that had its turn first is looked at again', async (t) => {
  const rig = new Rig(5_000);
  const mounting = rig.machine.mount(REQUEST, '/stage/db').catch(() => {});
  await rig.codeOf(after(rig.clock, 50));
  const unmounting = rig.codeOf(rig.machine.unmount('/stage/db', { timeoutMs: 1_000 }));
  void after(rig.clock, 500).then(() => {
    rig.host.add(specOf('new', { directory: '/stage/db' }), { phase: 'starting' });
    rig.end(new Error('the caller was told so, and it goes on'));
  });
  t.equal(await unmounting, 'BUSY', 'it is starting');
  await mounting;
});

t.test('of a block volume that only begins the directory says which it is', async (t) => {
  const { host } = new Rig();
  const spec = specOf('new', { directory: `/block/${VOLUME}` });
  const status = { ...spec, state: 'starting', volumeId: null, live: null };
  const [found] = volumesHere({
    ...{ statuses: [status as unknown as MountStatus], table: host.table, loops: [] },
    ...{ deviceOf: () => null, blockRoot: '/block' },
  });
  t.match(found, { id: VOLUME, kind: 'block', directory: null });
});

t.test('what is asked of a mount reaches it, of a block volume too', async (t) => {
  const rig = new Rig();
  const wanted = { commitIntervalMs: 1_000, waitMs: 2_000, timeoutMs: 3_000, readOnly: true };
  const mounting = rig.machine.mount({ ...REQUEST, ...wanted }, '/stage/db').catch(() => {});
  await rig.codeOf(after(rig.clock, 50));
  t.match(rig.asked, { volume: 'db', directory: '/stage/db', ...wanted });
  rig.end(new Error('given up'));
  await mounting;
});
