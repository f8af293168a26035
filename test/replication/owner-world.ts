/** A small world for owners: fake nodes, an in-memory metadata store, simulated time. */
import type { BatchEntry } from '../../src/block/wire/batch.js';
import type { HoldfastError } from '../../src/core/errors.js';
import type { Incarnation, OwnerId, SegmentId, VolumeId } from '../../src/core/ids.js';
import { PLACEMENT_GROUPS } from '../../src/core/limits.js';
import { lsn, PAGE_BYTES } from '../../src/core/units.js';
import { silentLog } from '../../src/io/log.js';
import { chunkKey } from '../../src/metadata/keys.js';
import { type Call, MemoryServer, MemoryStore, type Trip } from '../../src/metadata/memory.js';
import type { Replica, VolumeRecord } from '../../src/metadata/model.js';
import { encodeChunk } from '../../src/metadata/sealed-chunks.js';
import type { Directory } from '../../src/replication/directory.js';
import { LogOwner } from '../../src/replication/owner.js';
import type { Appended, OwnerState } from '../../src/replication/owner-api.js';
import type { OwnerDeps, OwnerLimits, OwnerOptions } from '../../src/replication/owner-types.js';
import { SimProcess, SimScheduler } from '../fixtures/sim-clock.js';
import { SimRandom } from '../fixtures/sim-random.js';
import { peekVolume, putVolume, volumeRecord } from '../fixtures/volume-record.js';
import { FakeNode, FakeRequests, id } from './owner-nodes.js';

export const VOLUME = id<VolumeId>(0xee);

export interface TestOwner {
  readonly owner: LogOwner;
  readonly process: SimProcess;
  readonly requests: FakeRequests;
  readonly store: MemoryStore;
  readonly states: OwnerState[];
  /** LSN → place, in the order of the acknowledgements. */
  readonly acked: Appended[];
  readonly failed: HoldfastError[];
  /** What happens to its next calls to the metadata store. */
  readonly trips: ((call: Call) => Trip | null)[];
}

export interface WorldOptions {
  readonly nodes?: number;
  readonly replicas?: number;
  readonly ackQuorum?: number;
  readonly limits?: Partial<OwnerLimits>;
}

/** A record whose bytes tell its LSN, and one page that does too. */
export function entryOf(n: number): BatchEntry {
  return { record: Buffer.from(`record ${n}`), pages: [Buffer.alloc(PAGE_BYTES, (n % 250) + 1)] };
}

export class OwnerWorld {
  readonly scheduler = new SimScheduler();
  readonly nodes: FakeNode[];
  readonly server: MemoryServer;
  readonly limits: Partial<OwnerLimits>;
  readonly owners: TestOwner[] = [];
  /** Disks that the directory lists for a node in place of the real one: it lags behind. */
  readonly listed = new Map<FakeNode, Incarnation>();
  /** Nodes that nothing is placed on. */
  readonly drained = new Set<FakeNode>();
  /** Nodes that serve, and whose liveness key has lapsed: they cannot reach the metadata store. */
  readonly lapsed = new Set<FakeNode>();
  readonly #random = new SimRandom('owner-world');
  readonly #replicas: number;

  constructor(options: WorldOptions = {}) {
    const { nodes = 3, replicas = 3, ackQuorum = 2, limits = {} } = options;
    this.nodes = Array.from({ length: nodes }, (_, n) => new FakeNode(n, this.scheduler));
    for (const node of this.nodes) node.peers = this.nodes;
    this.limits = limits;
    this.#replicas = replicas;
    this.server = new MemoryServer(new SimProcess(this.scheduler, 'store').clock);
    const record = volumeRecord(VOLUME, { replicas, ackQuorum });
    putVolume(this.server, record);
  }

  get record(): VolumeRecord {
    const found = peekVolume(this.server, VOLUME);
    if (found === null) throw new Error('no record');
    return found.record;
  }

  /** Changes the record as an administrator would. */
  amend(change: (record: VolumeRecord) => VolumeRecord): void {
    putVolume(this.server, change(this.record));
  }

  /** Changes where the copies of a sealed segment are, as repair does: in its chunk alone. */
  move(segment: SegmentId, replicas: readonly Replica[]): void {
    for (const { number, modRevision, entries } of peekVolume(this.server, VOLUME)?.chunks ?? []) {
      if (!entries.some(({ sealed }) => sealed.segment === segment)) continue;
      const moved = entries.map((one) =>
        one.sealed.segment === segment ? { ...one, sealed: { ...one.sealed, replicas } } : one,
      );
      const key = chunkKey(VOLUME, number);
      const put = { type: 'put', key, value: encodeChunk(VOLUME, moved) } as const;
      this.server.transact([{ key, modRevision }], [put]);
    }
  }

  node(n: number): FakeNode {
    return this.nodes[n] as FakeNode;
  }

  directory(): Directory {
    return {
      address: (node) => node,
      nodes: () =>
        this.nodes.map((one) => ({
          schema: 1,
          node: one.node,
          address: one.node,
          zone: '',
          disks: [{ incarnation: this.listed.get(one) ?? one.incarnation, capacityBytes: 1e12 }],
          version: '0',
        })),
      isLive: (node) =>
        this.nodes.some((one) => one.node === node && one.state === 'up' && !this.lapsed.has(one)),
      placement: (replicas) => ({ schema: 1, replicas, groups: this.#groups() }),
    };
  }

  #groups(): Replica[][] {
    const takers = this.nodes.filter((one) => !this.drained.has(one));
    return Array.from({ length: PLACEMENT_GROUPS }, (_, group) =>
      Array.from({ length: Math.min(this.#replicas, takers.length) }, (__, i) => {
        return (takers[(group + i) % takers.length] as FakeNode).replica;
      }),
    );
  }

  /** What a process of that name reaches the nodes and the metadata store by. */
  connect(name: string) {
    const process = new SimProcess(this.scheduler, name, { offsetMs: 7000, rate: 1 });
    const trips: TestOwner['trips'] = [];
    const { clock } = process;
    const store = new MemoryStore(this.server, {
      clock,
      onSettled: () => this.scheduler.notePromise(),
      trip: (call) => {
        const trip = trips[0]?.(call) ?? null;
        if (trip !== null) trips.shift();
        return trip ?? { requestMs: 1, replyMs: 1 };
      },
    });
    const requests = new FakeRequests(this.nodes, this.scheduler, (callback) =>
      process.run(callback),
    );
    const random = this.#random.fork(name);
    const directory = this.directory();
    const deps: OwnerDeps = { clock, random, requests, store, directory, log: silentLog };
    return { process, requests, store, trips, deps };
  }

  /** Starts an owner; it takes over as soon as time passes. */
  start(
    more: Partial<Pick<OwnerOptions, 'address' | 'reaped' | 'acceptLoss' | 'idleOnly'>> = {},
  ): TestOwner {
    const number = this.owners.length + 1;
    const { deps, ...reached } = this.connect(`owner${number}`);
    const owner = new LogOwner(deps, {
      ...{ volume: VOLUME, owner: id<OwnerId>(0x500 + number), address: 'here' },
      limits: this.limits,
      ...more,
    });
    const states: OwnerState[] = [];
    owner.start((state) => states.push(state));
    const one = { owner, ...reached, states, acked: [], failed: [] };
    this.owners.push(one);
    return one;
  }

  async until(condition: () => boolean, timeoutMs = 60_000): Promise<void> {
    await this.scheduler.until(condition, timeoutMs);
  }

  async pass(ms: number): Promise<void> {
    const end = this.scheduler.now + ms;
    while (await this.scheduler.stepAsync(end)) {
      // Each step is one event and its promises.
    }
    await this.scheduler.settle();
  }

  async serving(
    more: Partial<Pick<OwnerOptions, 'address' | 'reaped' | 'acceptLoss' | 'idleOnly'>> = {},
  ): Promise<TestOwner> {
    const one = this.start(more);
    await this.until(() => one.owner.state.type === 'serving');
    return one;
  }

  /** Appends records whose content is their LSN. */
  append(one: TestOwner, count: number): void {
    for (let i = 0; i < count; i++) {
      const { nextLsn } = one.owner.inspect();
      one.owner.append(entryOf(nextLsn), (error, appended) => {
        if (error !== null || appended === null) one.failed.push(error as HoldfastError);
        else one.acked.push(appended);
      });
    }
  }

  async appended(one: TestOwner, count: number): Promise<void> {
    const before = one.acked.length;
    this.append(one, count);
    await this.until(() => one.acked.length === before + count);
  }

  /** The records of the log from an LSN on, as a replay gives them. */
  async replayed(one: TestOwner, from = lsn(0)): Promise<string[]> {
    const found: string[] = [];
    let ended: HoldfastError | null | undefined;
    one.owner.replay(
      from,
      (record) => found.push(`${record.lsn}:${Buffer.from(record.record).toString()}`),
      (error) => {
        ended = error;
      },
    );
    await this.until(() => ended !== undefined);
    if (ended) throw ended;
    return found;
  }

  /** Nodes whose replica of the segment has at least this length. */
  holders(segment: SegmentId, length: number): number {
    return this.nodes.filter((node) => node.length(segment) >= length).length;
  }
}

export function expectedLog(count: number): string[] {
  return Array.from({ length: count }, (_, n) => `${n}:record ${n}`);
}
