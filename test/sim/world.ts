/**
 * One simulated cluster: storage machines, client hosts, a metadata store, volumes, and everything
 * that happens to them. The product's programs run unchanged on simulated seams (parts.ts); what
 * they say and swap goes to the checkers as it happens.
 */
import type { ReadRequest, Reply, Request } from '../../src/block/wire/messages.js';
import { present } from '../../src/core/assert.js';
import {
  type ClusterId,
  type Incarnation,
  idFromBytes,
  type NodeId,
  type SegmentId,
  type VolumeId,
} from '../../src/core/ids.js';
import { JOURNAL_BATCH_MAX_BYTES } from '../../src/core/limits.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import { decodeNode } from '../../src/metadata/encoding.js';
import { chunkPrefix, nodeKey, volumeKey } from '../../src/metadata/keys.js';
import { MemoryServer } from '../../src/metadata/memory.js';
import { METADATA_SCHEMA, type VolumeRecord } from '../../src/metadata/model.js';
import { SETTINGS_KEY } from '../../src/metadata/settings.js';
import type { Operation } from '../../src/metadata/store.js';
import { changeOf } from '../../src/metadata/stored-volume.js';
import { FileWorkload } from '../fixtures/file-workload.js';
import { SimProcess, SimScheduler } from '../fixtures/sim-clock.js';
import { SimMetadata } from '../fixtures/sim-metadata.js';
import { SimNetwork } from '../fixtures/sim-network.js';
import { SimRandom } from '../fixtures/sim-random.js';
import { peekVolume, volumeRecord } from '../fixtures/volume-record.js';
import { Checkers } from './checkers.js';
import { Coverage } from './coverage.js';
import { FaultInjector } from './faults.js';
import { type SimDrive, StorageMachine } from './machines.js';
import { type Fault, type Moment, Nemesis } from './nemesis.js';
import type { AckedOp } from './ops.js';
import { OwnerProcess } from './owner-process.js';
import { writePlacement } from './parts.js';
import { makeSpec, type WorldSpec } from './spec.js';
import { short, Violation } from './violation.js';

export interface VolumeSim {
  readonly index: number;
  readonly id: VolumeId;
  readonly name: string;
  readonly replicas: number;
  readonly ackQuorum: number;
  nextOp: number;
  /** Acknowledged operations with pages, for reads. */
  readonly acked: AckedOp[];
  /** What is in the files, for a volume that has some. */
  readonly files: FileWorkload | null;
  /** The epoch whose owner goes on with them. */
  filesEpoch: number;
  /** All its owners, dead ones as well, oldest first. */
  readonly owners: OwnerProcess[];
}

export interface WorldOptions {
  readonly seed: string | number;
  /** Overrides the seed's faults: for shrinking. */
  readonly faults?: readonly Fault[];
  readonly transcript?: boolean;
}

const TRANSCRIPT_MAX = 20_000;
/** Nothing goes wrong before the cluster has begun, so it begins soon. */
const BEGIN_MS = 60_000;

export class World {
  readonly seed: string;
  readonly scheduler = new SimScheduler();
  readonly random: SimRandom;
  readonly spec: WorldSpec;
  readonly checkers = new Checkers();
  readonly coverage = new Coverage();
  readonly network: SimNetwork;
  readonly server: MemoryServer;
  readonly metadata: SimMetadata;
  readonly cluster: ClusterId;
  readonly machines: StorageMachine[];
  readonly hosts: readonly string[];
  readonly volumes: VolumeSim[];
  readonly nemesis: Nemesis;
  readonly injector: FaultInjector;
  readonly transcript: string[] = [];
  readonly transcribes: boolean;
  readonly #readFailures = new Map<string, number>();
  readonly #faults: readonly Fault[];
  eventsMax = Number.POSITIVE_INFINITY;
  /** What product code rejected and nobody awaited. */
  rejection: () => unknown = () => null;
  #owners = 0;
  /** All nodes have registered for the first time. */
  begun = false;
  /** False from the moment on when everything is healed. */
  chaos = true;

  constructor(options: WorldOptions) {
    this.seed = String(options.seed);
    this.random = new SimRandom(this.seed);
    this.spec = makeSpec(this.random.fork('spec'));
    this.transcribes = options.transcript ?? false;
    this.network = new SimNetwork(this.scheduler, this.random.fork('network'));
    this.network.observer = { fired: (kind) => this.hit(`fault.${kind}`) };
    this.network.faults.latencyMs = this.spec.latencyMs;
    this.server = new MemoryServer(new SimProcess(this.scheduler, 'metadata').clock);
    this.metadata = new SimMetadata(this.scheduler, this.random.fork('metadata'), this.server);
    this.metadata.observer = {
      fired: (kind) => this.hit(`fault.${kind}`),
      applied: (operations) => this.#applied(operations),
    };
    this.cluster = idFromBytes<ClusterId>(this.random.fork('cluster').bytes(16));
    this.machines = this.spec.drives.map((drives, i) => new StorageMachine(this, i, drives));
    this.hosts = ['c0', 'c1', 'c2'];
    this.volumes = this.spec.volumes.map((volume, index) => ({
      index,
      id: idFromBytes<VolumeId>(this.random.fork(`volume${index}`).bytes(16)),
      name: `volume-${index}`,
      ...volume,
      nextOp: 0,
      acked: [],
      files: volume.filesystem ? this.#filesOf(index) : null,
      filesEpoch: 0,
      owners: [],
    }));
    this.#faults = options.faults ?? this.spec.faults;
    this.injector = new FaultInjector(this);
    this.nemesis = new Nemesis(
      (delayMs, callback) => this.scheduler.after(delayMs, callback),
      (fault) => this.injector.fire(fault),
    );
  }

  #filesOf(index: number): FileWorkload {
    return new FileWorkload(this.random.fork(`files${index}`), (what) =>
      this.checkers.fail(new Violation(15, `the files of volume ${index}: ${what}`)),
    );
  }

  hit(name: string): void {
    this.coverage.hit(name);
  }

  note(text: () => string): void {
    if (!this.transcribes || this.transcript.length >= TRANSCRIPT_MAX) return;
    this.transcript.push(`${this.scheduler.now.toFixed(2).padStart(10)}  ${text()}`);
  }

  moment(moment: Moment): void {
    this.nemesis.moment(moment);
  }

  ownerStep(step: string): void {
    if (step === 'swap') this.moment('claim');
    if (step === 'fence' || step === 'recover' || step === 'register') this.moment(step);
  }

  /** One event and what follows from it; throws the first violation. */
  async step(limit: number): Promise<boolean> {
    const ran = this.scheduler.step(limit);
    if (this.scheduler.unsettled) await this.scheduler.settle();
    if (this.checkers.violation !== null) throw this.checkers.violation;
    const rejection = this.rejection();
    if (rejection !== null) throw rejection;
    if (this.scheduler.events > this.eventsMax) {
      throw new Violation(16, `more than ${this.eventsMax} events: something spins`);
    }
    return ran;
  }

  /** Formats disks, writes the first records, starts the first owners. */
  async begin(): Promise<void> {
    for (const machine of this.machines) machine.start();
    while (!this.machines.every((machine) => machine.registered !== null)) {
      if (!(await this.step(BEGIN_MS))) throw new Violation(16, 'the cluster does not start');
    }
    this.begun = true;
    writePlacement(this);
    const { repairGraceMs } = this.spec;
    const scrub = { scrubIntervalMs: 4_000, scrubBytesPerSecond: 2 ** 25 };
    const value = JSON.stringify({ schema: METADATA_SCHEMA, repairGraceMs, ...scrub });
    this.apply([{ type: 'put', key: SETTINGS_KEY, value }]);
    for (const volume of this.volumes) this.#createVolume(volume);
    for (const volume of this.volumes) this.startOwner(volume, this.random.pick(this.hosts));
    for (const volume of this.volumes) this.#failover(volume);
    this.nemesis.begin(this.#faults);
  }

  #createVolume(volume: VolumeSim): void {
    const { name, replicas, ackQuorum } = volume;
    this.apply(changeOf(null, volumeRecord(volume.id, { name, replicas, ackQuorum })).operations);
  }

  /** Changes the store at once, past everybody. */
  apply(operations: readonly Operation[]): void {
    this.server.transact([], operations);
    this.#applied(operations);
  }

  /** Whenever nobody tries to own a volume for a while, somebody starts. */
  #failover(volume: VolumeSim): void {
    const random = this.random.fork(`failover${volume.index}`);
    const look = (): void => {
      this.scheduler.after(random.between(100, 1_500), () => {
        if (volume.owners.every((owner) => owner.stopped)) {
          this.startOwner(volume, random.pick(this.hosts));
        }
        look();
      });
    };
    look();
  }

  startOwner(volume: VolumeSim, host: string): OwnerProcess | null {
    if (this.network.isDark(host)) return null;
    const owner = new OwnerProcess(this, volume, host, this.#owners++);
    volume.owners.push(owner);
    return owner;
  }

  /** The owner that serves with the highest epoch, if any. */
  /** The newest: one that it has shut out, and that does nothing, need not know. */
  servingOwner(volume: VolumeSim): OwnerProcess | null {
    const serving = volume.owners.filter((owner) => owner.serving);
    return serving.sort((a, b) => b.epoch - a.epoch)[0] ?? null;
  }

  record(volume: VolumeSim): VolumeRecord {
    const record = this.checkers.volumes.record(volume.id);
    if (record === null) throw new Error('every volume has a record');
    return record;
  }

  #applied(operations: readonly Operation[]): void {
    for (const { key } of operations) this.#registered(key);
    for (const { id } of this.volumes) {
      const isOf = ({ key }: Operation): boolean =>
        key === volumeKey(id) || key.startsWith(chunkPrefix(id));
      if (!operations.some(isOf)) continue;
      const record = present(peekVolume(this.server, id), 'every volume has a record').record;
      const before = this.checkers.volumes.record(record.volume);
      this.checkers.changed(record);
      this.note(() => describeRecord(record));
      if (before === null) continue;
      if (record.sealed.length > before.sealed.length) this.hit('seals');
      this.#givenUp(before, record);
    }
  }

  /** A disk that its node is registered without may miss what is deleted. */
  #registered(key: string): void {
    const machine = this.machines.find(({ node }) => nodeKey(node) === key);
    const record = machine === undefined ? null : this.server.peek(key);
    if (machine === undefined || record === null) return;
    const disks = decodeNode(record.value).disks.map(({ incarnation }) => incarnation);
    for (const disk of machine.incarnations()) if (!disks.includes(disk)) machine.missed.add(disk);
  }

  /** What a swap gives up is looked for in the mounts. */
  #givenUp(before: VolumeRecord, record: VolumeRecord): void {
    const pending = new Set(record.pendingDelete.map(({ segment }) => segment));
    const gone = before.sealed.map(({ segment }) => segment).filter((one) => pending.has(one));
    if (gone.length === 0) return;
    this.hit('given-up');
    const volume = this.volumes.find(({ id }) => id === record.volume);
    for (const owner of volume?.owners ?? []) owner.life?.givesUp(gone);
  }

  nodeReplied(machine: StorageMachine, request: Request, reply: Reply): void {
    this.hit(`reply.${request.type}.${reply.status}`);
    if (this.transcribes && (request.type !== 'append' || reply.status !== 'OK')) {
      this.note(() => describeReply(machine.name, request, reply));
    }
    if (request.type === 'read' && this.#isFailure(request, reply)) {
      this.#readFailures.set(`${request.segment}/${request.incarnation}`, this.scheduler.now);
    }
    this.checkers.replied(request, reply);
  }

  /** Whether a disk cannot be blamed for not giving these pages. */
  #isFailure({ segment, incarnation, page, count }: ReadRequest, { status }: Reply): boolean {
    if (status === 'DISK' || status === 'INCARNATION') return true;
    const claim = this.checkers.replicas.claim(incarnation, segment);
    const isMissing = status === 'GAP' || status === 'UNKNOWN';
    return isMissing && (claim?.durable ?? 0) < (page + count) * PAGE_BYTES;
  }

  requestSent(request: Request, node: NodeId): void {
    if (request.type === 'append' && request.offset === 0 && this.#isSecond(request.segment))
      this.moment('roll');
    if (request.type === 'append' && request.batch.length > 1) this.#noteLarge(request.batch);
    if (this.transcribes) this.note(() => this.#describeRequest(request, node));
    this.checkers.sent(request);
  }

  /** What is written to it continues a segment that the record does not say the end of yet. */
  #isSecond(segment: SegmentId): boolean {
    return this.volumes.some((volume) => this.record(volume).open[1]?.segment === segment);
  }

  /** Batches that bypass the journal are worth a fault of their own. */
  #noteLarge(parts: readonly Uint8Array[]): void {
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    if (bytes >= JOURNAL_BATCH_MAX_BYTES) this.moment('large');
  }

  #describeRequest(request: Request, node: NodeId): string {
    const to = this.machines.find((machine) => machine.node === node)?.name ?? '?';
    const segment = 'segment' in request ? ` ${short(request.segment)}` : '';
    const at = 'offset' in request ? `@${request.offset}` : '';
    return `${request.type.toUpperCase()}${segment}${at} to ${to}`;
  }

  /** A disk came up with another incarnation: only if it was damaged. */
  tookNewIncarnation(machine: StorageMachine, drive: SimDrive, incarnation: Incarnation): void {
    this.hit('new-incarnation');
    this.note(() => `${drive.medium.name} takes the new incarnation ${short(incarnation)}`);
    const old = drive.incarnation;
    if (old !== null && !this.checkers.replicas.isDamaged(old)) {
      const what = `${machine.name} gives up ${short(old)}, which nothing damaged`;
      this.checkers.fail(new Violation(15, what));
    }
  }

  /**
   * Whether nobody can be blamed for saying that these bytes are lost: each replica that has
   * acknowledged them is damaged, or has said since then that it cannot read them, is not there, or
   * did not have them then, as far as it had claimed.
   */
  mayBeLost(segment: SegmentId, end: number, since: number): boolean {
    const replicas = this.checkers.volumes.located(segment);
    return replicas.every((disk) => {
      const { replicas: ghosts } = this.checkers;
      if ((ghosts.claim(disk, segment)?.durable ?? 0) < end || ghosts.isDamaged(disk)) return true;
      const failed = this.#readFailures.get(`${segment}/${disk}`);
      return failed !== undefined && failed >= since;
    });
  }
}

function describeRecord(record: VolumeRecord): string {
  const names = (list: readonly { readonly segment: SegmentId }[]): string =>
    list.map((one) => short(one.segment)).join(' ') || '-';
  const sealed = record.sealed.map((one) => `${short(one.segment)}<${one.end}`).slice(-3);
  return (
    `SWAP ${record.name} epoch ${record.epoch}: open ${names(record.open)}, ` +
    `planned ${names(record.planned)}, sealed (${record.sealed.length}) ${sealed.join(' ')}, ` +
    `pendingDelete ${names(record.pendingDelete)}`
  );
}

function describeReply(name: string, request: Request, reply: Reply): string {
  const segment = 'segment' in request ? ` ${short(request.segment)}` : '';
  const epoch = 'epoch' in request ? ` e${request.epoch}` : '';
  return (
    `${name} answers ${request.type.toUpperCase()}${segment}${epoch}: ${reply.status} ` +
    `length ${reply.durableLength}, maxEpoch ${reply.maxEpoch}`
  );
}
