/** What counts as mounted already: only what whoever opens the directory gets. */
import t from 'tap';
import { idFromBytes, type VolumeId } from '../../src/core/ids.js';
import { isServed } from '../../src/lifecycle/here.js';
import { StateFile } from '../../src/lifecycle/keeper.js';
import { mountOnce } from '../../src/lifecycle/mount-once.js';
import type { MountRequest, MountStatus } from '../../src/lifecycle/mount-types.js';
import { listMounts } from '../../src/lifecycle/mounts.js';
import { FakeHost, specOf } from './fake-host.js';
import { after, ticking } from './ticking.js';

const VOLUME = idFromBytes<VolumeId>(Buffer.alloc(16, 1));
const THERE = { phase: 'mounted', volumeId: VOLUME } as const;
const MACHINE = { name: 'here', location: { metadata: 'etcd://h:1', secretFile: null } };

class Machine {
  readonly #ticking = ticking();
  readonly clock = this.#ticking.clock;
  readonly host = new FakeHost();
  readonly started: MountRequest[] = [];

  constructor() {
    const mounts = { table: () => this.host.table, resolve: (path: string) => path };
    Object.defineProperty(this.host, 'mounts', { value: mounts });
  }

  /** Resolves with its state directory, or the code and message of the fault. */
  mount(): Promise<string> {
    const { clock, host } = this;
    const start = async (request: MountRequest): Promise<MountStatus> => {
      this.started.push(request);
      return { mount: 'new' } as MountStatus;
    };
    const request = { id: VOLUME, name: 'db', kind: 'filesystem', sizeBytes: 1 } as const;
    const deps = { ...MACHINE, clock, host, starter: { start } };
    const { signal } = new AbortController();
    const said = mountOnce(deps, request, '/mnt/old', signal).then(
      ({ mount }) => mount,
      ({ code, message }) => `${code}: ${message}`,
    );
    return this.#ticking.world.wait(said);
  }

  /** The mount is taken away lazily, and somebody still uses it. */
  hide(): void {
    this.host.table.length = 0;
  }

  /** It ends as if it had never been. */
  end(): void {
    this.hide();
    this.host.daemons.clear();
    this.host.state.remove('old');
  }
}

t.test('mounted, and seen there: done', async (t) => {
  const machine = new Machine();
  machine.host.add(specOf('old'), THERE);
  t.equal(await machine.mount(), 'old');
  machine.host.daemons.set('old', { ...THERE, phase: 'adopting' });
  t.equal(await machine.mount(), 'old', 'also while it gets another daemon');
  t.same(machine.started, []);
});

t.test('served to who has it open, and not mounted there: refused', async (t) => {
  const machine = new Machine();
  machine.host.add(specOf('old'), THERE);
  const [entry] = machine.host.table;
  if (entry === undefined) throw new Error('it is mounted');
  machine.hide();
  t.match(await machine.mount(), /^CONFLICT: "db" is no longer mounted.*still used there/);
  machine.host.daemons.set('old', { ...THERE, phase: 'adopting' });
  t.match(await machine.mount(), /^CONFLICT/, 'nor by its next daemon');
  machine.host.daemons.set('old', THERE);
  machine.host.table.push({ ...entry, mountPoint: '/mnt/bound' });
  t.match(await machine.mount(), /^CONFLICT: .* no longer mounted at .*old, but at \/mnt\/bound/);
  machine.host.table.push(entry, { ...entry, type: 'tmpfs', device: '0:1' });
  t.match(await machine.mount(), /^CONFLICT: something else is mounted over "db"/);
  t.same(machine.started, []);
});

t.test('just unmounted: its end is waited for', async (t) => {
  const machine = new Machine();
  machine.host.add(specOf('old'), THERE);
  machine.hide();
  void after(machine.clock, 500).then(() => machine.end());
  t.equal(await machine.mount(), 'new');
  t.match(machine.started, [{ volume: 'db', directory: '/mnt/old' }]);
});

t.test('only what is mounted and seen is served', async (t) => {
  const { clock, host } = new Machine();
  for (const [phase, shown, expected] of [
    ['mounted', true, true],
    ['adopting', true, true],
    ['mounted', false, false],
    ['starting', false, false],
    ['stopping', true, false],
    ['failed', true, false],
  ] as const) {
    host.add(specOf('old'), { ...THERE, phase });
    const [mount] = await listMounts({ host, clock });
    t.equal(isServed({ mount: mount as MountStatus, shown }), expected, `${phase}, ${shown}`);
  }
  host.daemons.clear();
  host.state.write('old', StateFile.INIT, '{}');
  const [between] = await listMounts({ host, clock });
  t.equal(isServed({ mount: between as MountStatus }), true, 'an older agent does not say');
});
