/** A machine whose mounts are what a test says: state in memory, daemons that answer as told. */
import { HoldfastError } from '../../src/core/errors.js';
import type { FuseMounts, MountEntry } from '../../src/io/fuse-device.js';
import type { MountHost, ProcessIdentity, StateDirectory } from '../../src/io/mount-host.js';
import { StateFile } from '../../src/lifecycle/keeper.js';
import type { LiveStatus, MountSpec } from '../../src/lifecycle/mount-types.js';

export class FakeState implements StateDirectory {
  readonly entries = new Map<string, Map<string, string>>();

  list(): string[] {
    return [...this.entries.keys()];
  }
  create(entry: string, files: Readonly<Record<string, string>>): void {
    this.entries.set(entry, new Map(Object.entries(files)));
  }
  write(entry: string, file: string, text: string): void {
    this.entries.get(entry)?.set(file, text);
  }
  read(entry: string, file: string): string | null {
    return this.entries.get(entry)?.get(file) ?? null;
  }
  remove(entry: string): void {
    this.entries.delete(entry);
  }
  path(entry: string, file = ''): string {
    return `/run/mounts/${entry}/${file}`;
  }
  logFile(name: string): string {
    return `/run/log/${name}.log`;
  }
}

export function specOf(mount: string, more: Partial<MountSpec> = {}): MountSpec {
  return {
    version: 1,
    ...{ mount, volume: 'db', directory: `/mnt/${mount}`, metadata: 'etcd://h:1' },
    ...{ secretFile: null, readOnly: false, commitIntervalMs: 5000, flags: [], timeoutMs: 1000 },
    ...{
      waitMs: 0,
      metricsListen: null,
      machine: null,
      kind: 'filesystem',
      foreground: false,
      since: '2026-01-01T00:00:00.000Z',
    },
    logFile: '/run/log/db.log',
    ...more,
  };
}

export class FakeHost implements MountHost {
  readonly state = new FakeState();
  readonly program = [];
  readonly processes = new Map<number, string>();
  /** By mount; 'silent' accepts and never answers. */
  readonly daemons = new Map<string, Partial<LiveStatus> | 'silent'>();

  /** What the kernel shows, of mounts that were ready once. */
  readonly table: MountEntry[] = [];

  /** Nothing can be mounted, nor taken away. */
  get mounts(): FuseMounts {
    return { table: () => this.table } as unknown as FuseMounts;
  }

  /** A mount with its keeper, and what its daemon answers. */
  add(spec: MountSpec, daemon: Partial<LiveStatus> | 'silent' | null, keeper = true): void {
    const { mount } = spec;
    const pid = 1000 + this.processes.size;
    this.state.create(mount, { [StateFile.SPEC]: JSON.stringify(spec) });
    this.state.write(mount, StateFile.KEEPER, JSON.stringify({ pid, startTicks: '7' }));
    this.processes.set(pid, keeper ? '7' : 'of a later process');
    if (daemon === null) return;
    this.daemons.set(mount, daemon);
    if (daemon === 'silent' || daemon.phase === 'starting') return;
    const { directory: mountPoint, volume: source } = spec;
    const device = `0:${pid}`;
    this.state.write(mount, StateFile.DEVICE, device);
    this.table.push({
      ...{ mountPoint, source, device },
      ...{ type: 'fuse.holdfast', root: '/', readOnly: false },
    });
  }

  startKeeper(): never {
    throw new Error('nothing is started here');
  }

  identify(pid: number): ProcessIdentity | null {
    const startTicks = this.processes.get(pid);
    return startTicks === undefined ? null : { pid, startTicks };
  }

  async ask(socket: string): Promise<{ status: number; body: string }> {
    const daemon = this.daemons.get(socket.split('/')[3] ?? '');
    if (daemon === undefined) throw new HoldfastError('UNAVAILABLE', 'nobody listens');
    if (daemon === 'silent') throw new HoldfastError('TIMEOUT', 'no answer');
    const live: LiveStatus = {
      ...{
        phase: 'mounted',
        detail: 'serving',
        pid: 42,
        version: '0.1.0',
        volumeId: null,
        epoch: 1,
        sizeBytes: 1,
      },
      ...{ usedBytes: 0, files: 1, freeFiles: 1, dirtyBytes: 0, lastCommit: null, leaseHeld: true },
      ...{ waitingSince: null, localReadPages: 0, residentBytes: 1 },
      ...daemon,
    };
    return { status: 200, body: JSON.stringify(live) };
  }
}
