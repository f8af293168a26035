/**
 * Nodes that only know which copies they have, and repair beside them, in simulated time: they
 * confirm a COPY and a DROP by the metadata store as real ones do.
 */
import type { Reply, Request } from '../../src/block/wire/messages.js';
import type { NodeRequests } from '../../src/block/wire/requests.js';
import { HoldfastError } from '../../src/core/errors.js';
import type { Incarnation } from '../../src/core/ids.js';
import { epoch, GIB, offset, PAGE_BYTES } from '../../src/core/units.js';
import { silentLog } from '../../src/io/log.js';
import { initCluster } from '../../src/metadata/cluster.js';
import { MetadataConfirmations } from '../../src/metadata/confirmations.js';
import { DirectoryCache } from '../../src/metadata/directory-cache.js';
import { encodeNode } from '../../src/metadata/encoding.js';
import { liveKey, nameKey, nodeKey } from '../../src/metadata/keys.js';
import { METADATA_SCHEMA, type Replica, type VolumeRecord } from '../../src/metadata/model.js';
import type { RebuildInventory } from '../../src/metadata/rebuild-types.js';
import { ReplicaMoves, readMove } from '../../src/metadata/replica-moves.js';
import { changeSettings } from '../../src/metadata/settings.js';
import { readVolume, type VersionedVolume } from '../../src/metadata/stored-volume.js';
import { claimEpoch, roll, sealAtTakeover } from '../../src/metadata/volume-record.js';
import { Repair } from '../../src/replication/repair.js';
import { peekVolume, putVolume } from '../fixtures/volume-record.js';
import { at, blank, owner, replicas, segmentId, VOLUME } from '../metadata/samples.js';
import { SimStores } from '../metadata/sim-store.js';

const TIMES = { surveyMs: 50, inventoryMs: 50, retryMs: 50, quietMs: 0, settleMs: 0 };
const NETWORK_MS = 1;
const STEP_MS = 10;

/** The segment that moves; others are open. */
export const SEGMENT = segmentId('1');
const SEAL = at('1', 4, 9);

export class RepairWorld {
  readonly stores = new SimStores();
  readonly disks = replicas('1', '2', '3', '4', '5', '6');
  /** Disks with a whole copy. */
  readonly holders = new Set<Replica>();
  /** Disks with all bytes, that have not been told that the segment is sealed. */
  readonly unsealed = new Set<Replica>();
  /** Nodes that do not answer, though their registration may stand. */
  readonly silent = new Set<Replica>();
  /** Disks that say that they have a copy, and cannot read it. */
  readonly rotten = new Set<Replica>();
  /** Disks in whose place another one answers now, whatever it says. */
  readonly replaced = new Map<Replica, Incarnation>();
  /** Disks that answer BUSY to a DROP. */
  readonly refusing = new Set<Replica>();
  /** Told of each request before it is answered. */
  onRequest: (request: Request, on: Replica) => void = () => {};
  readonly #store = this.stores.connect();
  readonly #confirmations = new MetadataConfirmations(this.#store.store, silentLog);

  /** One sealed segment with its copies on the first disks. */
  static async start(wanted = 3): Promise<RepairWorld> {
    const world = new RepairWorld();
    const { stores, disks } = world;
    const { store, process } = world.#store;
    await stores.wait(initCluster(store, process.clock, stores.random));
    world.write(sealedOn(disks.slice(0, wanted)));
    stores.server.transact([], [{ type: 'put', key: nameKey('data'), value: VOLUME }]);
    for (const one of disks) world.register(one);
    for (const one of disks.slice(0, wanted)) world.holders.add(one);
    await stores.wait(changeSettings(store, { repairGraceMs: 0, balance: false }));
    return world;
  }

  get store() {
    return this.#store.store;
  }

  get clock() {
    return this.#store.process.clock;
  }

  write(record: VolumeRecord): void {
    putVolume(this.stores.server, record);
  }

  register({ node, incarnation }: Replica): void {
    const disks = [{ incarnation, capacityBytes: GIB }];
    const record = { schema: METADATA_SCHEMA, node, address: node, zone: node, disks, version: '' };
    const operations = [
      { type: 'put', key: nodeKey(node), value: encodeNode(record) },
      { type: 'put', key: liveKey(node), value: node },
    ] as const;
    this.stores.server.transact([], operations);
  }

  /** The disk is gone for good, with what it had, and its node's registration has run out. */
  destroy(one: Replica): void {
    this.holders.delete(one);
    this.silent.add(one);
    this.stores.server.transact([], [{ type: 'delete', key: liveKey(one.node) }]);
  }

  /** The volume has deleted the segment, and all listed disks have answered their DELETE. */
  removeSegment(): void {
    const found = peekVolume(this.stores.server, VOLUME);
    if (found !== null) this.write({ ...found.record, sealed: [] });
  }

  get listed(): readonly Replica[] {
    const found = peekVolume(this.stores.server, VOLUME);
    const sealed = found?.record.sealed.find(({ segment }) => segment === SEGMENT);
    return (sealed?.replicas ?? []).map(({ incarnation }) => this.#disk(incarnation));
  }

  /** As repair moves a copy, up to the DROP of the old one. */
  async move(from: Replica, to: Replica, isDropped: boolean): Promise<void> {
    const { stores, store } = this;
    const moves = new ReplicaMoves(store, () => []);
    const known = async (): Promise<VersionedVolume> =>
      (await stores.wait(readVolume(store, VOLUME))) as VersionedVolume;
    const move = () => stores.wait(readMove(store, VOLUME, SEGMENT));
    await stores.wait(moves.begin(await known(), await move(), to, null));
    this.holders.add(to);
    await stores.wait(moves.finish(await known(), await move(), from));
    if (!isDropped) return;
    this.holders.delete(from);
    await stores.wait(moves.forget(await move(), from));
  }

  /** What all disks say that they have. */
  inventories(): RebuildInventory[] {
    return this.disks.map(({ node, incarnation }, index) => ({
      ...{ node, incarnation },
      entries: this.#entries(this.disks[index] as Replica),
    }));
  }

  #entries(one: Replica) {
    if (!this.holders.has(one) && !this.unsealed.has(one)) return [];
    const state = this.holders.has(one) ? ('sealed' as const) : ('open' as const);
    return [
      {
        ...{ segment: SEGMENT, volume: VOLUME, createEpoch: epoch(1), maxEpoch: epoch(1) },
        ...{ length: SEAL.end, state, crc: SEAL.crc, suspectFrom: null },
      },
    ];
  }

  /** Runs repair for so long. */
  async repair(ms = 5_000): Promise<void> {
    const { store, process } = this.stores.connect();
    const { clock } = process;
    const random = this.stores.random;
    const requests: NodeRequests = {
      send: ({ node }, request, _timeoutMs, done) => {
        const on = this.disks.find((one) => one.node === node) as Replica;
        clock.after(NETWORK_MS, () => {
          this.onRequest(request, on);
          this.#answer(on, request, (reply) => {
            clock.after(NETWORK_MS, () => {
              done(reply === null ? new HoldfastError('UNAVAILABLE', 'silent') : null, reply);
              this.stores.scheduler.notePromise();
            });
          });
        });
      },
      queuedBytes: () => 0,
      close: () => {},
    };
    const guard = () => [];
    const parts = { store, clock, random, log: silentLog, requests, guard, times: TIMES };
    const onReady = (): void => repair.start();
    const directory = new DirectoryCache({ store, clock, log: silentLog, onReady });
    const repair = new Repair({ ...parts, directory });
    // Some promises are settled by a timer alone: everything that waits for them has its turn.
    for (let step = 0; step < ms; step += STEP_MS) await this.stores.pass(STEP_MS);
    repair.stop();
    directory.close();
  }

  #disk(incarnation: Incarnation): Replica {
    return this.disks.find((one) => one.incarnation === incarnation) as Replica;
  }

  #answer(on: Replica, request: Request, done: (reply: Reply | null) => void): void {
    const { node } = on;
    const incarnation = this.replaced.get(on) ?? on.incarnation;
    if (this.silent.has(on)) {
      done(null);
      return;
    }
    const reply = (status: Reply['status'], body: Reply['body'] = null): void => {
      done({ status, incarnation, durableLength: offset(0), maxEpoch: epoch(1), body });
    };
    const has = this.holders.has(on);
    if (request.type === 'status') {
      const space = { totalBytes: GIB, freeBytes: GIB, segments: 1 };
      const disks = [{ incarnation, state: 'ok', ...space } as const];
      reply('OK', { type: 'status', node, zone: node, version: '', disks, wallMs: 0 });
    } else if (request.type === 'inventory') {
      reply('OK', { type: 'inventory', more: false, entries: this.#entries(on) });
    } else if (request.type === 'seal') {
      reply(has ? 'OK' : 'UNKNOWN');
    } else if (request.type === 'read') {
      const isThere = has && (request.page + request.count) * PAGE_BYTES <= SEAL.end;
      const data = Buffer.alloc(request.count * PAGE_BYTES);
      const checksums = new Uint32Array(request.count);
      if (this.rotten.has(on)) reply('DISK');
      else if (isThere) reply('OK', { type: 'read', page: request.page, data, checksums });
      else reply(has ? 'GAP' : 'UNKNOWN');
    } else if (request.type === 'drop' || request.type === 'copy') {
      this.#confirm(on, request, reply);
    } else reply('REFUSED');
  }

  #confirm(
    on: Replica,
    request: Request & { type: 'drop' | 'copy' },
    reply: (status: Reply['status']) => void,
  ): void {
    if (request.type === 'drop' && this.refusing.has(on)) {
      reply('BUSY');
      return;
    }
    if (request.type === 'drop') {
      this.#confirmations.droppable(VOLUME, request.segment, on.incarnation, (answer) => {
        if (answer === 'confirmed') this.holders.delete(on);
        reply(answer === 'confirmed' ? 'OK' : 'UNCONFIRMED');
      });
      return;
    }
    this.#confirmations.copyable(request, (answer) => {
      const sources = request.sources.map((one) => this.#disk(one.incarnation));
      const isWhole = [on, ...sources].some(
        (one) => this.holders.has(one) || this.unsealed.has(one),
      );
      if (answer === 'confirmed' && isWhole) this.holders.add(on);
      if (answer === 'confirmed') reply(isWhole ? 'OK' : 'BUSY');
      else reply('UNCONFIRMED');
    });
  }
}

function sealedOn(disks: readonly Replica[]): VolumeRecord {
  const fresh = (n: string) => ({ segment: segmentId(n), group: 3, replicas: disks });
  const ackQuorum = Math.min(blank.ackQuorum, disks.length);
  const of = { ...blank, replicas: disks.length, ackQuorum };
  const claimed = claimEpoch(of, { owner: owner('a'), planned: [fresh('1'), fresh('2')] });
  const promote = [SEGMENT, segmentId('2')];
  const taken = { epoch: epoch(1), ends: [], promote, plan: [fresh('3')] };
  const after = { epoch: epoch(1), sealed: SEAL, promote: segmentId('3'), plan: [] };
  return roll(sealAtTakeover(claimed, taken), after);
}
