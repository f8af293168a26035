/**
 * Storage nodes reduced to the table of DESIGN §4, in memory, with delays and faults; for tests of
 * the owner. Everything is durable at once; what real disks do is the simulator's business.
 */
import {
  batchSegmentBytes,
  decodeBatchHeader,
  decodeSegmentBatch,
  pagesStart,
} from '../../src/block/wire/batch.js';
import type {
  CopyRequest,
  FenceBody,
  Reply,
  Request,
  StatusName,
} from '../../src/block/wire/messages.js';
import type { NodeRequests, ReplyHandler, RequestTarget } from '../../src/block/wire/requests.js';
import { PageChecksummer } from '../../src/core/checksum.js';
import { HoldfastError } from '../../src/core/errors.js';
import type { Incarnation, NodeId, SegmentId } from '../../src/core/ids.js';
import { READ_LEASE_MS } from '../../src/core/limits.js';
import { epoch, offset, PAGE_BYTES } from '../../src/core/units.js';
import type { Replica } from '../../src/metadata/model.js';
import type { SimScheduler } from '../fixtures/sim-clock.js';

export function id<T extends string>(n: number): T {
  return n.toString(16).padStart(32, '0') as T;
}

export interface FakeSegment {
  created: boolean;
  createEpoch: number;
  maxEpoch: number;
  bytes: Buffer;
  sealed: boolean;
  deleted: boolean;
  suspectFrom: number | null;
  promisedUntil: number;
}

type Kind = Request['type'];

export class FakeNode {
  readonly node: NodeId;
  readonly scheduler: SimScheduler;
  incarnation: Incarnation;
  readonly segments = new Map<SegmentId, FakeSegment>();
  delayMs = 1;
  /** up: serves. down: refuses at once. hung: never answers. */
  state: 'up' | 'down' | 'hung' = 'up';
  /** Requests of these kinds are carried out and their replies lost. */
  readonly mute = new Set<Kind>();
  /** Requests of these kinds never arrive. */
  readonly ignore = new Set<Kind>();
  /** Pages that no disk could read any more, as SEGMENT PAGE. */
  readonly lost = new Set<string>();
  /** The header batch cannot be read. */
  hideHeader = false;
  readonly log: Request[] = [];
  /** Where COPY fetches from. */
  peers: readonly FakeNode[] = [];

  constructor(n: number, scheduler: SimScheduler) {
    this.node = id<NodeId>(0x100 + n);
    this.incarnation = id<Incarnation>(0x200 + n);
    this.scheduler = scheduler;
  }

  get replica(): Replica {
    return { node: this.node, incarnation: this.incarnation };
  }

  /** The disk is replaced by an empty one. */
  wipe(): void {
    this.incarnation = id<Incarnation>(Number.parseInt(this.incarnation, 16) + 0x1000);
    this.segments.clear();
  }

  length(segment: SegmentId): number {
    return this.segments.get(segment)?.bytes.length ?? 0;
  }

  /** Carries a request out; the reply goes to `answer`, perhaps later. */
  handle(request: Request, answer: (reply: Reply) => void): void {
    this.log.push(request);
    if (!('segment' in request)) throw new Error(`${request.type} is not faked`);
    const state = this.segments.get(request.segment);
    if (request.type === 'fence' && (state === undefined || request.epoch >= state.maxEpoch)) {
      const fenced = state ?? this.#add(request.segment, false, 0);
      fenced.maxEpoch = request.epoch;
      const wait = request.released ? 0 : fenced.promisedUntil - this.scheduler.now;
      const reply = (): void =>
        answer(
          request.incarnation === this.incarnation
            ? { ...this.#reply('OK', fenced), body: this.#fenceBody(fenced) }
            : this.#reply('INCARNATION', undefined),
        );
      if (wait > 0) this.scheduler.after(wait, reply);
      else reply();
      return;
    }
    if (request.incarnation !== this.incarnation) {
      answer(this.#reply('INCARNATION', undefined));
      return;
    }
    const status = this.#status(request, state);
    const now = this.segments.get(request.segment);
    const reply = this.#reply(status, now);
    if (status === 'OK' && now !== undefined) {
      if (request.type === 'append' || request.type === 'ping') {
        now.promisedUntil = this.scheduler.now + READ_LEASE_MS;
      }
      if (request.type === 'read') {
        answer(this.#read(request.segment, request, reply));
        return;
      }
    }
    answer(reply);
  }

  #add(segment: SegmentId, created: boolean, createEpoch: number): FakeSegment {
    const state: FakeSegment = {
      created,
      createEpoch,
      maxEpoch: createEpoch,
      bytes: Buffer.alloc(0),
      sealed: false,
      deleted: false,
      suspectFrom: null,
      promisedUntil: 0,
    };
    this.segments.set(segment, state);
    return state;
  }

  #status(request: Request, state: FakeSegment | undefined): StatusName {
    if (request.type === 'create') {
      if (state !== undefined) return request.epoch < state.maxEpoch ? 'STALE' : 'OK';
      this.#add(request.segment, true, request.epoch);
      return 'OK';
    }
    if (request.type === 'copy') return this.#copy(request);
    if (state === undefined) return request.type === 'delete' ? 'OK' : 'UNKNOWN';
    if ('epoch' in request && request.epoch < state.maxEpoch) return 'STALE';
    if (request.type === 'delete') {
      state.deleted = true;
      return 'OK';
    }
    if (state.deleted) return 'DELETED';
    switch (request.type) {
      case 'append':
        return this.#append(state, request.offset, segmentForm(request.batch));
      case 'ping':
        return state.created ? 'OK' : 'UNKNOWN';
      case 'recover':
        state.created = true;
        state.createEpoch = request.createEpoch;
        return this.#append(state, request.offset, Buffer.from(request.bytes));
      case 'seal':
        if (state.bytes.length < request.end) return 'GAP';
        state.bytes = state.bytes.subarray(0, request.end);
        state.sealed = true;
        return 'OK';
      case 'read':
        for (let page = request.page as number; page < request.page + request.count; page++) {
          if (this.lost.has(`${request.segment} ${page}`)) return 'DISK';
        }
        return (request.page + request.count) * PAGE_BYTES > state.bytes.length ? 'GAP' : 'OK';
      default:
        return 'REFUSED';
    }
  }

  #copy({ segment, end, createEpoch }: CopyRequest): StatusName {
    const from = this.peers.find(
      (peer) => peer.state === 'up' && peer.segments.has(segment) && peer.length(segment) >= end,
    );
    if (from === undefined) return 'DISK';
    const bytes = (from.segments.get(segment) as FakeSegment).bytes.subarray(0, end);
    const state = this.segments.get(segment) ?? this.#add(segment, true, createEpoch);
    Object.assign(state, { created: true, createEpoch, sealed: true, bytes });
    return 'OK';
  }

  #append(state: FakeSegment, at: number, bytes: Buffer): StatusName {
    if (!state.created) return 'UNKNOWN';
    if (state.sealed) return 'SEALED';
    if (at > state.bytes.length) return 'GAP';
    const skip = state.bytes.length - at;
    if (skip < bytes.length) state.bytes = Buffer.concat([state.bytes, bytes.subarray(skip)]);
    return 'OK';
  }

  #fenceBody(state: FakeSegment): FenceBody {
    const hidden = this.hideHeader || state.bytes.length === 0;
    const suspectFrom = state.suspectFrom === null ? null : offset(state.suspectFrom);
    const firstBatch = hidden ? null : wireForm(state.bytes);
    return { type: 'fence', suspectFrom, firstBatch, sealed: state.sealed };
  }

  #read(segment: SegmentId, range: { page: number; count: number }, reply: Reply): Reply {
    const { page, count } = range;
    const state = this.segments.get(segment) as FakeSegment;
    const data = state.bytes.subarray(page * PAGE_BYTES, (page + count) * PAGE_BYTES);
    const checksummer = new PageChecksummer(segment);
    const checksums = new Uint32Array(count);
    for (let i = 0; i < count; i++) checksums[i] = checksummer.page(data, i * PAGE_BYTES, page + i);
    return { ...reply, body: { type: 'read', page: page as never, data, checksums } };
  }

  #reply(status: StatusName, state: FakeSegment | undefined): Reply {
    return {
      status,
      incarnation: this.incarnation,
      durableLength: offset(state?.bytes.length ?? 0),
      maxEpoch: epoch(state?.maxEpoch ?? 0),
      body: null,
    };
  }
}

/** A batch as it stands in a segment: the head padded to a page. */
function segmentForm(parts: readonly Uint8Array[]): Buffer {
  const [head, ...pages] = parts as [Uint8Array, ...Uint8Array[]];
  const header = decodeBatchHeader(head);
  const padding = Buffer.alloc(pagesStart(header) - head.length);
  const bytes = Buffer.concat([head, padding, ...pages]);
  decodeSegmentBatch(bytes);
  return bytes;
}

/** The first batch of a segment in wire form. */
function wireForm(bytes: Buffer): Buffer {
  const header = decodeBatchHeader(bytes);
  const head = bytes.subarray(0, 128 + header.bodyLength);
  return Buffer.concat([head, bytes.subarray(pagesStart(header), batchSegmentBytes(header))]);
}

/** What one client sends through; a client can be cut off from single nodes. */
export class FakeRequests implements NodeRequests {
  readonly nodes: readonly FakeNode[];
  readonly scheduler: SimScheduler;
  readonly run: (callback: () => void) => void;
  readonly cut = new Set<FakeNode>();

  constructor(
    nodes: readonly FakeNode[],
    scheduler: SimScheduler,
    run: (callback: () => void) => void,
  ) {
    this.nodes = nodes;
    this.scheduler = scheduler;
    this.run = run;
  }

  send(target: RequestTarget, request: Request, timeoutMs: number, done: ReplyHandler): void {
    const node = this.nodes.find((one) => one.node === target.node) as FakeNode;
    let answered = false;
    const finish = (delayMs: number, error: HoldfastError | null, reply: Reply | null): void => {
      this.scheduler.after(delayMs, () =>
        this.run(() => {
          if (answered) return;
          answered = true;
          done(error, reply);
        }),
      );
    };
    const unavailable = new HoldfastError('UNAVAILABLE', 'down');
    if (node.state === 'down' || this.cut.has(node)) {
      finish(1, unavailable, null);
      return;
    }
    finish(timeoutMs, new HoldfastError('TIMEOUT', 'no answer'), null);
    if (node.state === 'hung') return;
    this.scheduler.after(node.delayMs, () => {
      if (node.state !== 'up' || node.ignore.has(request.type)) return;
      node.handle(request, (reply) => {
        if (!node.mute.has(request.type)) finish(node.delayMs, null, reply);
      });
    });
  }

  queuedBytes(): number {
    return 0;
  }

  close(): void {}
}
