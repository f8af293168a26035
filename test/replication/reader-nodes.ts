/** Storage nodes reduced to what a reader sees of them: pages, checksums, delays and faults. */
import { type BatchEntry, type EncodedBatch, encodeBatch } from '../../src/block/wire/batch.js';
import type { ReadRequest, Reply, Request, StatusName } from '../../src/block/wire/messages.js';
import type { NodeRequests, ReplyHandler, RequestTarget } from '../../src/block/wire/requests.js';
import { encodeSegmentHeader, type SegmentHeader } from '../../src/block/wire/segment-header.js';
import { PageChecksummer } from '../../src/core/checksum.js';
import { HoldfastError } from '../../src/core/errors.js';
import type { Incarnation, NodeId, SegmentId, VolumeId } from '../../src/core/ids.js';
import { epoch, lsn, offset, PAGE_BYTES } from '../../src/core/units.js';
import type { Replica } from '../../src/metadata/model.js';
import { SimProcess, SimScheduler } from '../fixtures/sim-clock.js';

export function id<T extends string>(n: number): T {
  return n.toString(16).padStart(32, '0') as T;
}

export const VOLUME = id<VolumeId>(0xee);

export interface FakePages {
  bytes: Buffer;
  sums: Uint32Array;
}

export class FakeNode {
  readonly replica: Replica;
  readonly segments = new Map<SegmentId, FakePages>();
  delayMs = 1;
  /** Null: never answers. */
  answer: StatusName | 'error' | 'silent' = 'OK';
  /** Pages the disk cannot read: a range with one of them is answered with DISK. */
  readonly unreadable = new Set<number>();
  asked = 0;

  constructor(n: number) {
    this.replica = { node: id<NodeId>(0x100 + n), incarnation: id<Incarnation>(0x200 + n) };
  }

  /** Stores its own copy. */
  put(segment: SegmentId, bytes: Buffer): void {
    const sums = new Uint32Array(bytes.length / PAGE_BYTES);
    const checksummer = new PageChecksummer(segment);
    for (let i = 0; i < sums.length; i++) sums[i] = checksummer.page(bytes, i * PAGE_BYTES, i);
    this.segments.set(segment, { bytes: Buffer.from(bytes), sums });
  }

  /** Rots one page. */
  rot(segment: SegmentId, page: number): void {
    const pages = this.segments.get(segment) as FakePages;
    const at = page * PAGE_BYTES + 7;
    pages.bytes[at] = (pages.bytes[at] as number) ^ 1;
  }

  reply(request: ReadRequest): Reply {
    const base = {
      incarnation: this.replica.incarnation,
      durableLength: offset(0),
      maxEpoch: epoch(1),
      body: null,
    };
    if (this.answer !== 'OK') return { ...base, status: this.answer as StatusName };
    const pages = this.segments.get(request.segment);
    if (pages === undefined) return { ...base, status: 'UNKNOWN' };
    const end = request.page + request.count;
    if (end > pages.sums.length) return { ...base, status: 'GAP' };
    for (const page of this.unreadable) {
      if (page >= request.page && page < end) return { ...base, status: 'DISK' };
    }
    const data = Buffer.from(pages.bytes.subarray(request.page * PAGE_BYTES, end * PAGE_BYTES));
    const checksums = pages.sums.slice(request.page, end);
    return { ...base, status: 'OK', body: { type: 'read', page: request.page, data, checksums } };
  }
}

/** Three nodes (or more) and the time they live in. */
export class FakeNodes implements NodeRequests {
  readonly scheduler = new SimScheduler();
  readonly process = new SimProcess(this.scheduler);
  readonly nodes: FakeNode[];
  readonly requests: { node: number; page: number; count: number }[] = [];
  inFlight = 0;
  maxInFlight = 0;

  constructor(count = 3) {
    this.nodes = Array.from({ length: count }, (_, n) => new FakeNode(n));
  }

  get replicas(): Replica[] {
    return this.nodes.map((node) => node.replica);
  }

  readonly directory = { address: (_node: NodeId): string | null => '127.0.0.1:1' };

  send(target: RequestTarget, request: Request, timeoutMs: number, done: ReplyHandler): void {
    const index = this.nodes.findIndex((node) => node.replica.node === target.node);
    const node = this.nodes[index] as FakeNode;
    if (request.type !== 'read') throw new Error('only reads here');
    this.requests.push({ node: index, page: request.page, count: request.count });
    node.asked += 1;
    this.inFlight += 1;
    this.maxInFlight = Math.max(this.maxInFlight, this.inFlight);
    const silent = node.answer === 'silent';
    this.process.after(silent ? timeoutMs : node.delayMs, () => {
      this.inFlight -= 1;
      if (silent || node.answer === 'error') {
        const code = silent ? 'TIMEOUT' : 'UNAVAILABLE';
        done(new HoldfastError(code, 'no answer', { retryable: true }), null);
      } else {
        done(null, node.reply(request));
      }
    });
  }

  queuedBytes(): number {
    return 0;
  }

  close(): void {}

  putAll(segment: SegmentId, bytes: Buffer): void {
    for (const node of this.nodes) node.put(segment, bytes);
  }
}

/** Writes a segment as an owner would: a header batch, then batches of entries. */
export class SegmentWriter {
  readonly segment: SegmentId;
  readonly epoch: number;
  nextLsn: number;
  at = 0;
  crc = 0;
  #bytes: Buffer[] = [];

  constructor(
    segment: SegmentId,
    options: { epoch?: number; previous?: SegmentHeader['previous'] },
  ) {
    this.segment = segment;
    this.epoch = options.epoch ?? 1;
    const previous = options.previous ?? null;
    this.nextLsn = previous?.endLsn ?? 0;
    const record = encodeSegmentHeader({
      previous,
      name: 'test',
      kind: 'filesystem',
      sizeBytes: 1 << 30,
      replicas: 3,
      ackQuorum: 2,
      group: 0,
    });
    this.batch([{ record, pages: [] }], true);
  }

  batch(entries: readonly BatchEntry[], segmentHeader = false): EncodedBatch {
    const batch = encodeBatch(
      {
        volume: VOLUME,
        segment: this.segment,
        epoch: epoch(this.epoch),
        offset: offset(this.at),
        firstLsn: lsn(this.nextLsn),
        commitOffset: offset(0),
        prevCrc: this.crc,
        segmentHeader,
      },
      entries,
    );
    const [head, ...pages] = batch.parts as [Uint8Array, ...Uint8Array[]];
    const padding = (PAGE_BYTES - (head.length % PAGE_BYTES)) % PAGE_BYTES;
    this.#bytes.push(Buffer.concat([head, Buffer.alloc(padding), ...pages]));
    this.at += batch.segmentBytes;
    this.crc = batch.header.headerCrc;
    if (!segmentHeader) this.nextLsn += entries.length;
    return batch;
  }

  /** One record that says its LSN, with `pages` pages of data. */
  record(text: string, pages = 0): void {
    const data = pages === 0 ? [] : [Buffer.alloc(pages * PAGE_BYTES, text)];
    this.batch([{ record: Buffer.from(text), pages: data }]);
  }

  bytes(): Buffer {
    return Buffer.concat(this.#bytes);
  }
}
