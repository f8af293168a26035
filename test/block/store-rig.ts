/** A disk store on a simulated disk, with requests as plain calls and crashes on demand. */

import { DiskStore } from '../../src/block/disk-store.js';
import type { DiskLimits } from '../../src/block/disk-store-api.js';
import { type EncodedBatch, encodeBatch } from '../../src/block/wire/batch.js';
import type { Reply, Request } from '../../src/block/wire/messages.js';
import type { NodeRequests } from '../../src/block/wire/requests.js';
import { encodeSegmentHeader } from '../../src/block/wire/segment-header.js';
import type { Confirmation, Confirmations } from '../../src/core/confirmations.js';
import type { HoldfastError } from '../../src/core/errors.js';
import type { ClusterId, Incarnation, NodeId, SegmentId, VolumeId } from '../../src/core/ids.js';
import { epoch, lsn, MIB, offset, PAGE_BYTES, pageIndex, revision } from '../../src/core/units.js';
import type { Log } from '../../src/io/log.js';
import { SimProcess, SimScheduler } from '../fixtures/sim-clock.js';
import { SimDisk } from '../fixtures/sim-disk.js';
import { SimRandom } from '../fixtures/sim-random.js';

export const CLUSTER = 'c'.repeat(32) as ClusterId;
export const NODE = '0d'.repeat(16) as NodeId;
export const VOLUME = 'f0'.repeat(16) as VolumeId;
export const seg = (n: number): SegmentId => n.toString(16).padStart(32, '0') as SegmentId;

/** A segment's batches as one owner would make them; contents depend on segment and index only. */
export class LogOf {
  readonly batches: EncodedBatch[] = [];
  #crc = 0;
  #end = 0;

  constructor(
    readonly segment: SegmentId,
    readonly createEpoch = 1,
  ) {
    const header = encodeSegmentHeader({
      ...{ previous: null, name: 'v', kind: 'block', sizeBytes: MIB },
      ...{ replicas: 3, ackQuorum: 2, group: 0 },
    });
    this.#push([], header);
  }

  /** The batch with the segment's header. */
  get first(): EncodedBatch {
    return this.batches[0] as EncodedBatch;
  }

  get end(): number {
    return this.#end;
  }

  get crc(): number {
    return this.#crc;
  }

  #push(pages: Uint8Array[], record: Uint8Array): EncodedBatch {
    const batch = encodeBatch(
      {
        volume: VOLUME,
        segment: this.segment,
        epoch: epoch(this.createEpoch),
        offset: offset(this.#end),
        firstLsn: lsn(this.batches.length),
        commitOffset: offset(0),
        prevCrc: this.#crc,
        segmentHeader: this.#end === 0,
      },
      [{ record, pages }],
    );
    this.batches.push(batch);
    this.#end += batch.segmentBytes;
    this.#crc = batch.header.headerCrc;
    return batch;
  }

  /** Adds a batch with this many data pages. */
  add(pages: number): EncodedBatch {
    const fill = (this.batches.length * 31 + Number.parseInt(this.segment.slice(-2), 16)) & 0xff;
    const data = Buffer.alloc(pages * PAGE_BYTES, fill);
    return this.#push(pages > 0 ? [data] : [], Buffer.from(`record ${this.batches.length}`));
  }

  /** All bytes as they stand in the segment. */
  bytes(from = 0, to = this.#end): Buffer {
    const out = Buffer.alloc(this.#end);
    for (const { header, parts } of this.batches) {
      const [head, ...pages] = parts as [Uint8Array, ...Uint8Array[]];
      out.set(head, header.offset);
      let at = header.offset + Math.ceil(head.length / PAGE_BYTES) * PAGE_BYTES;
      for (const page of pages) {
        out.set(page, at);
        at += page.length;
      }
    }
    return out.subarray(from, to);
  }

  /** Batch boundaries with the chain's crc, the start included. */
  ends(): { end: number; crc: number }[] {
    return [
      { end: 0, crc: 0 },
      ...this.batches.map(({ header, segmentBytes }) => ({
        end: header.offset + segmentBytes,
        crc: header.headerCrc,
      })),
    ];
  }
}

export function wire(batch: EncodedBatch): Buffer[] {
  return [Buffer.concat(batch.parts)];
}

export interface RigOptions {
  readonly seed?: string | number;
  readonly capacityBytes?: number;
  readonly journalBytes?: number;
  readonly limits?: Partial<DiskLimits>;
}

export class Rig {
  readonly scheduler = new SimScheduler();
  readonly disk: SimDisk;
  readonly random: SimRandom;
  readonly logged: { level: string; message: string }[] = [];
  readonly limits: Partial<DiskLimits>;
  process: SimProcess;
  store: DiskStore;
  incarnation = '' as Incarnation;
  answer: Confirmation = 'confirmed';
  /** Answers what COPY asks of other nodes. */
  onRequest: (request: Request, done: (reply: Reply | null) => void) => void = (_, done) =>
    done(null);
  #lives = 0;
  #journalBytes: number;

  constructor(options: RigOptions = {}) {
    this.random = new SimRandom(options.seed ?? 1);
    const capacity = options.capacityBytes;
    this.disk = new SimDisk(
      this.scheduler,
      this.random.fork('disk'),
      capacity === undefined ? {} : { capacityBytes: capacity },
    );
    this.limits = { readLeaseMs: 0, ...options.limits };
    this.#journalBytes = options.journalBytes ?? 4 * MIB;
    this.process = new SimProcess(this.scheduler);
    this.store = this.#make();
  }

  #make(): DiskStore {
    const note = (level: string) => (_fields: object, message: string) => {
      this.logged.push({ level, message });
    };
    const log: Log = { info: note('info'), warn: note('warn'), error: note('error') };
    const { clock } = this.process;
    const confirm = (done: (answer: Confirmation) => void): void =>
      clock.soon(() => done(this.answer));
    const confirmations: Confirmations = {
      sealed: (_volume, _segment, _end, _crc, done) => confirm(done),
      copyable: (_wanted, done) => confirm(done),
      droppable: (_volume, _segment, _disk, done) => confirm(done),
      deletable: (_volume, _segment, _revision, done) => confirm(done),
    };
    const requests: NodeRequests = {
      send: (_target, request, _timeout, done) =>
        clock.soon(() => this.onRequest(request, (reply) => done(null, reply))),
      queuedBytes: () => 0,
      close: () => {},
    };
    this.#lives += 1;
    return new DiskStore({
      disk: this.disk.attach(this.process),
      clock,
      random: this.random.fork(`life ${this.#lives}`),
      log,
      confirmations,
      requests,
      cluster: CLUSTER,
      node: NODE,
      limits: this.limits,
    });
  }

  wait<T>(start: (done: (value: T) => void) => void): T {
    let result: { value: T } | null = null;
    start((value) => {
      result = { value };
    });
    const limit = this.scheduler.now + 60_000;
    while (result === null && this.scheduler.step(limit)) {
      // Each step is one event.
    }
    if (result === null) throw new Error('no answer within a minute');
    return (result as { value: T }).value;
  }

  format(): this {
    const identity = { cluster: CLUSTER, node: NODE, journalBytes: this.#journalBytes };
    const error = this.wait<HoldfastError | null>((done) =>
      DiskStore.format(this.disk.attach(this.process), identity, this.random.fork('format'), done),
    );
    if (error !== null) throw error;
    return this;
  }

  open(): this {
    const error = this.tryOpen();
    if (error !== null) throw error;
    return this;
  }

  tryOpen(): HoldfastError | null {
    const error = this.wait<HoldfastError | null>((done) => this.store.open(done));
    if (error === null) this.incarnation = this.store.incarnation;
    return error;
  }

  /** The program dies; with `power`, what was not flushed is lost or torn. */
  crash(power = true): this {
    this.process.kill();
    if (power) this.disk.powerLoss();
    this.process = new SimProcess(this.scheduler);
    this.store = this.#make();
    return this;
  }

  send(request: Request): Reply {
    return this.wait((done) => this.store.handle(request, done));
  }

  create(segment: SegmentId, at = 1): Reply {
    const { incarnation } = this;
    return this.send({ type: 'create', incarnation, segment, volume: VOLUME, epoch: epoch(at) });
  }

  appendRequest(batch: EncodedBatch): Request {
    const { segment, epoch: at, offset: start } = batch.header;
    const { incarnation } = this;
    const bytes = wire(batch);
    return { type: 'append', incarnation, segment, epoch: at, offset: start, batch: bytes };
  }

  append(batch: EncodedBatch): Reply {
    return this.send(this.appendRequest(batch));
  }

  ping(segment: SegmentId, at: number): Reply {
    const { incarnation } = this;
    return this.send({ type: 'ping', incarnation, segment, epoch: epoch(at) });
  }

  fenceRequest(segment: SegmentId, at: number, released = false): Request {
    const { incarnation } = this;
    return {
      ...{ type: 'fence', incarnation, segment, volume: VOLUME, epoch: epoch(at), released },
    };
  }

  fence(segment: SegmentId, at: number): Reply {
    return this.send(this.fenceRequest(segment, at));
  }

  recover(log: LogOf, at: number, from = 0, to = log.end): Reply {
    const { incarnation } = this;
    return this.send({
      ...{ type: 'recover', incarnation, segment: log.segment, volume: VOLUME },
      ...{ epoch: epoch(at), createEpoch: epoch(log.createEpoch), offset: offset(from) },
      bytes: log.bytes(from, to),
    });
  }

  seal(segment: SegmentId, end: number, crc: number): Reply {
    const { incarnation } = this;
    return this.send({
      ...{ type: 'seal', incarnation, segment, volume: VOLUME, end: offset(end), crc },
    });
  }

  remove(segment: SegmentId): Reply {
    const { incarnation } = this;
    return this.send({
      ...{ type: 'delete', incarnation, segment, volume: VOLUME, revision: revision(1) },
    });
  }

  dropRequest(segment: SegmentId): Request {
    return { type: 'drop', incarnation: this.incarnation, segment, volume: VOLUME };
  }

  copy(log: LogOf, sources = 1): Reply {
    return this.send(this.copyRequest(log, sources));
  }

  copyRequest(log: LogOf, sources = 1): Request {
    const { incarnation } = this;
    const source = { node: NODE, address: 'elsewhere:1', incarnation: 'ee'.repeat(16) };
    return {
      ...{ type: 'copy', incarnation, segment: log.segment, volume: VOLUME },
      createEpoch: epoch(log.createEpoch),
      sources: Array.from({ length: sources }, () => source as typeof source & never),
      ...{ end: offset(log.end), crc: log.crc },
    };
  }

  read(segment: SegmentId, page: number, count: number): Reply {
    const { incarnation } = this;
    return this.send({ type: 'read', incarnation, segment, page: pageIndex(page), count });
  }

  look(segment: SegmentId): ReturnType<DiskStore['inspect']>[number] | undefined {
    return this.store.inspect().find((found) => found.segment === segment);
  }
}
