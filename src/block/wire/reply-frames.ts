/**
 * The bytes of replies: see frame-parts.ts for what frames have in common, messages.ts for what
 * replies mean. A reply says itself what its body is, so that decoding needs no memory of the
 * request.
 */
import { assert, unreachable } from '../../core/assert.js';
import type { ByteReader, ByteWriter } from '../../core/codec.js';
import { malformed } from '../../core/errors.js';
import type { Incarnation, NodeId, SegmentId, VolumeId } from '../../core/ids.js';
import {
  INVENTORY_PAGE,
  LOCATE_MAX_PAGES,
  LOCATE_PATH_MAX_BYTES,
  NODE_MAX_DISKS,
  READ_MAX_PAGES,
  VERSION_MAX_BYTES,
  ZONE_MAX_BYTES,
} from '../../core/limits.js';
import { epoch, offset, PAGE_BYTES, pageIndex, type SegmentOffset } from '../../core/units.js';
import {
  beginFrame,
  closeFrame,
  type EncodedFrame,
  finishFrame,
  openFrame,
  readCount,
  readFlag,
} from './frame-parts.js';
import {
  type DiskStatus,
  type FenceBody,
  type InventoryBody,
  type InventoryEntry,
  type LocateBody,
  type ReadBody,
  type Reply,
  Status,
  type StatusBody,
  type StatusName,
} from './messages.js';

/** Persistent: these numbers are on the wire. */
const BodyType = { none: 0, fence: 1, read: 2, inventory: 3, status: 4, locate: 5 } as const;
/** Persistent. */
const SEGMENT_STATES: readonly InventoryEntry['state'][] = [
  'open',
  'sealed',
  'tombstone',
  'deleted',
];
/** Persistent. */
const DISK_STATES: readonly DiskStatus['state'][] = ['ok', 'full', 'failed'];

const STATUS_NAMES: readonly StatusName[] = Object.entries(Status)
  .sort((a, b) => a[1] - b[1])
  .map(([name]) => name as StatusName);
assert(
  STATUS_NAMES.every((name, code) => Status[name] === code),
  'status codes are dense',
);

export interface DecodedReply {
  /** Of the request that this answers. */
  readonly id: number;
  readonly reply: Reply;
}

/** Encodes one reply. Read data and first batches are referenced, not copied. */
export function encodeReply(id: number, reply: Reply): EncodedFrame {
  const { body } = reply;
  const kind = body === null ? BodyType.none : BodyType[body.type];
  const out = beginFrame(id, kind, Status[reply.status]).id(reply.incarnation);
  out.u64(reply.durableLength).u64(reply.maxEpoch);
  if (body === null) return finishFrame(out);
  switch (body.type) {
    case 'read':
      return writeRead(out, body);
    case 'fence': {
      out.u8((body.sealed ? 1 : 0) | (body.firstBatch === null ? 0 : 2));
      writeOptionalOffset(out, body.suspectFrom);
      return finishFrame(out, body.firstBatch === null ? [] : [body.firstBatch]);
    }
    case 'locate':
      return writeLocate(out, body);
    case 'inventory':
      return finishFrame(writeInventory(out, body));
    case 'status':
      return finishFrame(writeStatus(out, body));
    default:
      return unreachable(body);
  }
}

function writeOptionalOffset(out: ByteWriter, value: SegmentOffset | null): void {
  out.u8(value === null ? 0 : 1).u64(value ?? 0);
}

function readOptionalOffset(input: ByteReader, what: string): SegmentOffset | null {
  const isSet = readFlag(input, what);
  const value = input.u64(what);
  if (!isSet && value !== 0) throw malformed(`${what}: a value that is not set`);
  return isSet ? offset(value) : null;
}

function writeRead(out: ByteWriter, body: ReadBody): EncodedFrame {
  const count = body.checksums.length;
  assert(count >= 1 && count <= READ_MAX_PAGES, 'pages of a READ reply');
  assert(body.data.length === count * PAGE_BYTES, 'a checksum for each page');
  out.u64(body.page).u32(count);
  for (const checksum of body.checksums) out.u32(checksum);
  return finishFrame(out, [body.data]);
}

function writeLocate(out: ByteWriter, body: LocateBody): EncodedFrame {
  const count = body.checksums.length;
  assert(count >= 1 && count <= LOCATE_MAX_PAGES, 'pages of a LOCATE reply');
  const checksums = Buffer.allocUnsafe(count * 4);
  for (let i = 0; i < count; i++) checksums.writeUInt32LE(body.checksums[i] as number, i * 4);
  return finishFrame(out.u64(body.page).text(body.path), [checksums]);
}

function writeInventory(out: ByteWriter, body: InventoryBody): ByteWriter {
  assert(body.entries.length <= INVENTORY_PAGE, 'entries of an INVENTORY reply');
  out.u8(body.more ? 1 : 0).u32(body.entries.length);
  for (const entry of body.entries) {
    out.id(entry.segment).id(entry.volume).u64(entry.createEpoch).u64(entry.maxEpoch);
    out.u64(entry.length).u8(SEGMENT_STATES.indexOf(entry.state)).u32(entry.crc);
    writeOptionalOffset(out, entry.suspectFrom);
  }
  return out;
}

function writeStatus(out: ByteWriter, body: StatusBody): ByteWriter {
  assert(body.disks.length <= NODE_MAX_DISKS, 'disks of a STATUS reply');
  out.id(body.node).text(body.zone).text(body.version).u32(body.disks.length);
  for (const disk of body.disks) {
    out.id(disk.incarnation).u8(DISK_STATES.indexOf(disk.state));
    out.u64(disk.totalBytes).u64(disk.freeBytes).u64(disk.segments);
  }
  return out.u64(body.wallMs);
}

/**
 * Decodes a whole frame. The reply's byte fields are views of `frame`. Throws MALFORMED. Page data
 * is not verified here: whoever asked compares it with the checksums.
 */
export function decodeReply(frame: Buffer): DecodedReply {
  const opened = openFrame(frame);
  const status = STATUS_NAMES[opened.status];
  if (status === undefined) throw malformed(`reply status ${opened.status} is not known`);
  const input = opened.fields;
  const incarnation = input.id<Incarnation>('incarnation');
  const durableLength = offset(input.u64('durable length'));
  const maxEpoch = epoch(input.u64('max epoch'));
  const body = readBody(opened.kind, input, opened.payload);
  const payloadAllowed =
    body?.type === 'read' ||
    body?.type === 'locate' ||
    (body?.type === 'fence' && body.firstBatch !== null);
  closeFrame(opened, payloadAllowed);
  return { id: opened.id, reply: { status, incarnation, durableLength, maxEpoch, body } };
}

function readBody(kind: number, input: ByteReader, payload: Buffer): Reply['body'] {
  switch (kind) {
    case BodyType.none:
      return null;
    case BodyType.read:
      return readRead(input, payload);
    case BodyType.locate:
      return readLocate(input, payload);
    case BodyType.fence:
      return readFence(input, payload);
    case BodyType.inventory:
      return readInventory(input);
    case BodyType.status:
      return readStatus(input);
    default:
      throw malformed(`reply body ${kind} is not known`);
  }
}

function readRead(input: ByteReader, payload: Buffer): ReadBody {
  const page = pageIndex(input.u64('page'));
  const count = readCount(input, 1, READ_MAX_PAGES, 'pages');
  if (payload.length !== count * PAGE_BYTES) {
    throw malformed(`READ reply: ${payload.length} bytes for ${count} pages`);
  }
  const checksums = new Uint32Array(count);
  for (let i = 0; i < count; i++) checksums[i] = input.u32('page checksum');
  return { type: 'read', page, data: payload, checksums };
}

function readLocate(input: ByteReader, payload: Buffer): LocateBody {
  const page = pageIndex(input.u64('page'));
  const path = input.text(LOCATE_PATH_MAX_BYTES, 'path');
  const count = payload.length / 4;
  if (!Number.isInteger(count) || count < 1 || count > LOCATE_MAX_PAGES) {
    throw malformed(`LOCATE reply: ${payload.length} bytes of checksums`);
  }
  const checksums = new Uint32Array(count);
  for (let i = 0; i < count; i++) checksums[i] = payload.readUInt32LE(i * 4);
  return { type: 'locate', page, path, checksums };
}

function readFence(input: ByteReader, payload: Buffer): FenceBody {
  const flags = input.u8('fence flags');
  if (flags > 3) throw malformed(`FENCE reply: flags ${flags}`);
  const suspectFrom = readOptionalOffset(input, 'suspect from');
  const firstBatch = (flags & 2) === 0 ? null : payload;
  if (firstBatch !== null && firstBatch.length === 0) throw malformed('FENCE reply: empty batch');
  return { type: 'fence', suspectFrom, firstBatch, sealed: (flags & 1) !== 0 };
}

function readInventory(input: ByteReader): InventoryBody {
  const more = readFlag(input, 'more');
  const count = readCount(input, 0, INVENTORY_PAGE, 'entries');
  const entries: InventoryEntry[] = [];
  for (let i = 0; i < count; i++) {
    const segment = input.id<SegmentId>('segment');
    const volume = input.id<VolumeId>('volume');
    const createEpoch = epoch(input.u64('create epoch'));
    const maxEpoch = epoch(input.u64('max epoch'));
    const length = offset(input.u64('length'));
    const state = readState(SEGMENT_STATES, input.u8('segment state'));
    const crc = input.u32('crc');
    const suspectFrom = readOptionalOffset(input, 'suspect from');
    entries.push({ segment, volume, createEpoch, maxEpoch, length, state, crc, suspectFrom });
  }
  return { type: 'inventory', entries, more };
}

function readState<T>(states: readonly T[], code: number): T {
  const state = states[code];
  if (state === undefined) throw malformed(`state ${code} is not known`);
  return state;
}

function readStatus(input: ByteReader): StatusBody {
  const node = input.id<NodeId>('node');
  const zone = input.text(ZONE_MAX_BYTES, 'zone');
  const version = input.text(VERSION_MAX_BYTES, 'version');
  const count = readCount(input, 0, NODE_MAX_DISKS, 'disks');
  const disks: DiskStatus[] = [];
  for (let i = 0; i < count; i++) {
    const incarnation = input.id<Incarnation>('incarnation');
    const state = readState(DISK_STATES, input.u8('disk state'));
    const totalBytes = input.u64('total bytes');
    const freeBytes = input.u64('free bytes');
    disks.push({ incarnation, state, totalBytes, freeBytes, segments: input.u64('segments') });
  }
  return { type: 'status', node, zone, version, disks, wallMs: input.u64('wall clock') };
}
