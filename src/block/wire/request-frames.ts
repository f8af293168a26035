/**
 * The bytes of requests: see frame-parts.ts for what frames have in common, messages.ts for what
 * requests mean. Decoding checks every range that a message states, so that a storage node sees
 * only requests that are well formed; what they ask for is its own business.
 */
import { assert, unreachable } from '../../core/assert.js';
import type { ByteReader, ByteWriter } from '../../core/codec.js';
import { malformed } from '../../core/errors.js';
import type { Incarnation, NodeId, SegmentId, VolumeId } from '../../core/ids.js';
import {
  ADDRESS_MAX_BYTES,
  COPY_MAX_SOURCES,
  EPOCH_MAX,
  INVENTORY_PAGE,
  READ_MAX_PAGES,
  SEGMENT_FORMAT_MAX_BYTES,
} from '../../core/limits.js';
import {
  type Epoch,
  epoch,
  offset,
  PAGE_BYTES,
  type PageIndex,
  pageIndex,
  revision,
} from '../../core/units.js';
import {
  beginFrame,
  closeFrame,
  type EncodedFrame,
  finishFrame,
  openFrame,
  readCount,
  readFlag,
  readPageOffset,
} from './frame-parts.js';
import { type CopyRequest, type CopySource, type Request, RequestType } from './messages.js';

const PAGE_INDEX_MAX = SEGMENT_FORMAT_MAX_BYTES / PAGE_BYTES - 1;

export interface DecodedRequest {
  /** Chosen by the client, returned with the reply. */
  readonly id: number;
  readonly request: Request;
}

/** Encodes one request. Batches and recovered bytes are referenced, not copied. */
export function encodeRequest(id: number, request: Request): EncodedFrame {
  const out = beginFrame(id, RequestType[request.type], 0).id(request.incarnation);
  switch (request.type) {
    case 'append':
      out.id(request.segment).u64(request.epoch).u64(request.offset);
      return finishFrame(out, request.batch);
    case 'read':
      assert(request.count >= 1 && request.count <= READ_MAX_PAGES, 'pages of a READ');
      out.id(request.segment).u64(request.page).u32(request.count);
      return finishFrame(out);
    case 'locate':
      return finishFrame(out.id(request.segment).u64(request.page));
    case 'ping':
      return finishFrame(out.id(request.segment).u64(request.epoch));
    case 'create':
      return finishFrame(out.id(request.segment).id(request.volume).u64(request.epoch));
    case 'fence':
      out
        .id(request.segment)
        .id(request.volume)
        .u64(request.epoch)
        .u8(request.released ? 1 : 0);
      return finishFrame(out);
    case 'recover':
      assert(request.bytes.length % PAGE_BYTES === 0, 'RECOVER carries whole pages');
      out.id(request.segment).id(request.volume).u64(request.epoch).u64(request.createEpoch);
      return finishFrame(out.u64(request.offset), [request.bytes]);
    case 'seal':
      out.id(request.segment).id(request.volume).u64(request.end).u32(request.crc);
      return finishFrame(out);
    case 'copy':
      return finishFrame(writeCopy(out, request));
    case 'delete':
      return finishFrame(out.id(request.segment).id(request.volume).u64(request.revision));
    case 'drop':
      return finishFrame(out.id(request.segment).id(request.volume));
    case 'inventory':
      assert(request.limit >= 1 && request.limit <= INVENTORY_PAGE, 'limit of an INVENTORY');
      out.u8(request.after === null ? 0 : 1);
      if (request.after !== null) out.id(request.after);
      return finishFrame(out.u32(request.limit));
    case 'status':
      return finishFrame(out);
    default:
      return unreachable(request);
  }
}

function writeCopy(out: ByteWriter, request: CopyRequest): ByteWriter {
  assert(request.sources.length <= COPY_MAX_SOURCES, 'sources of a COPY');
  out.id(request.segment).id(request.volume).u64(request.createEpoch);
  out.u64(request.end).u32(request.crc).u8(request.sources.length);
  for (const source of request.sources) {
    out.id(source.node).id(source.incarnation).text(source.address);
  }
  return out;
}

/**
 * Decodes a whole frame. The request's byte fields are views of `frame`, which must not change
 * while the request lives. Throws MALFORMED.
 */
export function decodeRequest(frame: Buffer): DecodedRequest {
  const opened = openFrame(frame);
  if (opened.status !== 0) throw malformed(`request: status ${opened.status}`);
  const request = readRequest(opened.kind, opened.fields, opened.payload);
  closeFrame(opened, request.type === 'append' || request.type === 'recover');
  return { id: opened.id, request };
}

function readRequest(kind: number, input: ByteReader, payload: Buffer): Request {
  const incarnation = input.id<Incarnation>('incarnation');
  if (kind === RequestType.inventory) {
    const after = readFlag(input, 'after') ? input.id<SegmentId>('after') : null;
    const limit = readCount(input, 1, INVENTORY_PAGE, 'limit');
    return { type: 'inventory', incarnation, after, limit };
  }
  if (kind === RequestType.status) return { type: 'status', incarnation };
  const segment = input.id<SegmentId>('segment');
  switch (kind) {
    case RequestType.append: {
      const at = readEpoch(input, 'epoch');
      const start = offset(readPageOffset(input, 'offset'));
      return { type: 'append', incarnation, segment, epoch: at, offset: start, batch: [payload] };
    }
    case RequestType.locate:
      return { type: 'locate', incarnation, segment, page: readPage(input) };
    case RequestType.read: {
      const page = readPage(input);
      const count = readCount(input, 1, READ_MAX_PAGES, 'pages');
      return { type: 'read', incarnation, segment, page, count };
    }
    case RequestType.ping:
      return { type: 'ping', incarnation, segment, epoch: readEpoch(input, 'epoch') };
    default:
      return readVolumeRequest(kind, input, payload, { incarnation, segment });
  }
}

/** No disk could keep a larger one in its index, and none that took it would open again. */
function readEpoch(input: ByteReader, what: string): Epoch {
  const value = input.u64(what);
  if (value > EPOCH_MAX) throw malformed(`${what}: ${value} is above ${EPOCH_MAX}`);
  return epoch(value);
}

function readPage(input: ByteReader): PageIndex {
  const page = pageIndex(input.u64('page'));
  if (page > PAGE_INDEX_MAX) throw malformed(`page ${page} is beyond a segment`);
  return page;
}

/** The requests that name the segment's volume. */
function readVolumeRequest(
  kind: number,
  input: ByteReader,
  payload: Buffer,
  on: { readonly incarnation: Incarnation; readonly segment: SegmentId },
): Request {
  const volume = input.id<VolumeId>('volume');
  switch (kind) {
    case RequestType.create:
      return { type: 'create', ...on, volume, epoch: readEpoch(input, 'epoch') };
    case RequestType.fence: {
      const at = readEpoch(input, 'epoch');
      return { type: 'fence', ...on, volume, epoch: at, released: readFlag(input, 'released') };
    }
    case RequestType.recover: {
      const at = readEpoch(input, 'epoch');
      const createEpoch = readEpoch(input, 'create epoch');
      const start = offset(readPageOffset(input, 'offset'));
      if (payload.length % PAGE_BYTES !== 0) throw malformed('RECOVER: not whole pages');
      const places = { epoch: at, createEpoch, offset: start };
      return { type: 'recover', ...on, volume, ...places, bytes: payload };
    }
    case RequestType.seal: {
      const end = offset(readPageOffset(input, 'end'));
      return { type: 'seal', ...on, volume, end, crc: input.u32('crc') };
    }
    case RequestType.copy:
      return readCopy(input, volume, on);
    case RequestType.delete:
      return { type: 'delete', ...on, volume, revision: revision(input.u64('revision')) };
    case RequestType.drop:
      return { type: 'drop', ...on, volume };
    default:
      throw malformed(`request type ${kind} is not known`);
  }
}

function readCopy(
  input: ByteReader,
  volume: VolumeId,
  on: { readonly incarnation: Incarnation; readonly segment: SegmentId },
): CopyRequest {
  const createEpoch = readEpoch(input, 'create epoch');
  const end = offset(readPageOffset(input, 'end'));
  const crc = input.u32('crc');
  const count = input.u8('sources');
  if (count > COPY_MAX_SOURCES) throw malformed(`COPY: ${count} sources`);
  const sources: CopySource[] = [];
  for (let i = 0; i < count; i++) {
    const node = input.id<NodeId>('source node');
    const incarnation = input.id<Incarnation>('source incarnation');
    sources.push({ node, incarnation, address: input.text(ADDRESS_MAX_BYTES, 'source address') });
  }
  return { type: 'copy', ...on, volume, createEpoch, sources, end, crc };
}
