/**
 * The bytes of a mount's intent log: docs/VOLUME.md §Intents is the same in words.
 *
 *   file    header (one page) | carried results | INTENT_REGIONS regions
 *   header  "HFI1" | u16 version | u16 length | u32 crc | volume id | owner id | u64 epoch |
 *           u8 length + mount id
 *   carried "HFIC" | u32 length | u32 crc | results
 *   batch   "HFIB" | u32 control bytes | u32 data bytes | u32 crc | u64 sequence | u64 turn |
 *           u64 LSN behind the batch before | control | data | u64 sequence
 *
 * The crc covers all of the header and the control part. Large data is not summed up again: a write
 * is cut off only by the end of the process, and then is a prefix, so the sequence number at the
 * end says that all before it is there.
 *
 *   entry   1 | u64 lsn              of the record that the following operations belong to
 *           2 | operation            as in a record (record-codec.ts)
 *           3 | write | u32 from | u32 to | u8 inline | bytes here, or in the data part
 *           4 | u64 inode | u32 page | u16 from | u16 length | bytes: an open page changed in place
 *           5 | u32 low | u32 high | u16 length | bytes: the reply to a request of that name
 */
import { crc32 } from '../core/checksum.js';
import { ByteReader, ByteWriter, readU64, writeU64 } from '../core/codec.js';
import { HoldfastError, malformed } from '../core/errors.js';
import type { OwnerId, VolumeId } from '../core/ids.js';
import { PAGE_BYTES } from '../core/units.js';
import type { Inode } from './filesystem-api.js';
import { INTENT_CARRIED_BYTES, INTENT_REGION_BYTES } from './limits.js';
import type { Operation, Write } from './operations.js';
import { decodeOperation } from './record-codec.js';

const VERSION = 1;
const HEADER_MAGIC = 0x31494648; // "HFI1"
const CARRIED_MAGIC = 0x43494648; // "HFIC"
const BATCH_MAGIC = 0x42494648; // "HFIB"

/** Where a batch's control part begins, and what stands behind its data. */
export const BATCH_HEAD_BYTES = 40;
export const BATCH_TAIL_BYTES = 8;
const CARRIED_HEAD_BYTES = 12;
const AT = { control: 4, data: 8, crc: 12, sequence: 16, turn: 24, after: 32 } as const;

export const CARRIED_AT = PAGE_BYTES;
export const REGIONS_AT = CARRIED_AT + INTENT_CARRIED_BYTES;

export const EntryKind = { lsn: 1, operation: 2, write: 3, patch: 4, result: 5 } as const;

/** Whose changes they are: no other takes them for its own. */
export interface IntentIdentity {
  readonly volume: VolumeId;
  readonly owner: OwnerId;
  readonly epoch: number;
  readonly mount: string;
}

/** A request's name, as the kernel gave it: two halves, bit 63 clear. */
export interface RequestName {
  readonly low: number;
  readonly high: number;
}

/** What a request was answered, or was about to be. */
export interface Result {
  readonly request: RequestName;
  /** The whole reply. */
  readonly bytes: Uint8Array;
}

export type IntentEntry =
  | { readonly kind: 'operation'; readonly lsn: number; readonly operation: Operation }
  | {
      readonly kind: 'write';
      readonly lsn: number;
      readonly operation: Write;
      /** Bytes from `from` on of its pages; all others are zero. */
      readonly from: number;
      readonly bytes: Uint8Array;
    }
  | {
      readonly kind: 'patch';
      readonly lsn: number;
      readonly inode: Inode;
      readonly page: number;
      readonly from: number;
      readonly bytes: Uint8Array;
    };

export interface IntentBatch {
  readonly sequence: number;
  /** Batches of one turn were written before any reply of that turn. */
  readonly turn: number;
  /** All operations of the batches before belong to records below this LSN. */
  readonly after: number;
  /** Understood each time that they are asked for, as most never are. Throws MALFORMED. */
  readonly entries: readonly IntentEntry[];
  /** Likewise. */
  readonly results: readonly Result[];
}

/** What a dead process left. */
export interface FoundIntents {
  readonly identity: IntentIdentity;
  /**
   * By sequence; older ones may be missing, and any that the log contains. Tens of MiB: none are
   * left once they were applied.
   */
  readonly batches: IntentBatch[];
  /** Replies that may not have reached the kernel. */
  readonly results: readonly Result[];
}

export function encodeIdentity({ volume, owner, epoch, mount }: IntentIdentity): Buffer {
  const body = new ByteWriter(64).id(volume).id(owner).u64(epoch);
  body.u8(mount.length).bytes(Buffer.from(mount, 'latin1'));
  const bytes = body.done();
  const head = new ByteWriter(64).u32(HEADER_MAGIC).u16(VERSION).u16(bytes.length);
  return head.u32(crc32(bytes)).bytes(bytes).done();
}

export function encodeCarried(results: readonly Result[]): Buffer {
  const writer = new ByteWriter(1024);
  for (const { request, bytes } of results) encodeResult(writer, request, bytes);
  const bytes = writer.done();
  const head = new ByteWriter(CARRIED_HEAD_BYTES).u32(CARRIED_MAGIC).u32(bytes.length);
  return Buffer.concat([head.u32(crc32(bytes)).done(), bytes]);
}

export function encodeResult(writer: ByteWriter, request: RequestName, bytes: Uint8Array): void {
  writer.u8(EntryKind.result).u32(request.low).u32(request.high).u16(bytes.length).bytes(bytes);
}

/** Fills the head in front of a batch's control part; `bytes` begins with room for it. */
export function sealBatch(
  bytes: Buffer,
  batch: Pick<IntentBatch, 'sequence' | 'turn' | 'after'> & { readonly dataBytes: number },
): void {
  bytes.writeUInt32LE(BATCH_MAGIC, 0);
  bytes.writeUInt32LE(bytes.length - BATCH_HEAD_BYTES, AT.control);
  bytes.writeUInt32LE(batch.dataBytes, AT.data);
  bytes.writeUInt32LE(0, AT.crc);
  writeU64(bytes, batch.sequence, AT.sequence);
  writeU64(bytes, batch.turn, AT.turn);
  writeU64(bytes, batch.after, AT.after);
  bytes.writeUInt32LE(crc32(bytes), AT.crc);
}

/**
 * What stands in a file. Null when it has no header: nothing was ever promised by it. Throws
 * VERSION, or MALFORMED when results that were written whole cannot be understood.
 */
export function readIntents(file: Buffer): FoundIntents | null {
  const identity = readIdentity(file);
  if (identity === null) return null;
  const batches: IntentBatch[] = [];
  for (let at = REGIONS_AT; at < file.length; at += INTENT_REGION_BYTES) {
    batches.push(...readRegion(file.subarray(at, at + INTENT_REGION_BYTES)));
  }
  batches.sort((a, b) => a.sequence - b.sequence);
  const turn = batches.at(-1)?.turn;
  const latest = batches.filter((batch) => batch.turn === turn);
  const results = [...readCarried(file), ...latest.flatMap((batch) => batch.results)];
  return { identity, batches, results };
}

function readIdentity(file: Buffer): IntentIdentity | null {
  const reader = new ByteReader(file);
  if (file.length < PAGE_BYTES || reader.u32('magic') !== HEADER_MAGIC) return null;
  const version = reader.u16('version');
  if (version !== VERSION) {
    throw new HoldfastError('VERSION', `intent log format ${version} is not known here`);
  }
  const length = reader.u16('length');
  const crc = reader.u32('crc');
  if (length > reader.remaining) return null;
  const bytes = reader.bytes(length, 'header');
  if (crc32(bytes) !== crc) return null;
  const body = new ByteReader(bytes);
  const volume = body.id<VolumeId>('volume');
  const owner = body.id<OwnerId>('owner');
  const epoch = body.u64('epoch');
  const mount = body.bytes(body.u8('length'), 'mount').toString('latin1');
  return { volume, owner, epoch, mount };
}

/** None when they were being cleared. */
function readCarried(file: Buffer): Result[] {
  if (file.length < CARRIED_AT + CARRIED_HEAD_BYTES) return [];
  const reader = new ByteReader(file.subarray(CARRIED_AT, REGIONS_AT));
  if (reader.u32('magic') !== CARRIED_MAGIC) return [];
  const length = reader.u32('length');
  const crc = reader.u32('crc');
  if (length > reader.remaining) return [];
  const bytes = reader.bytes(length, 'results');
  if (crc32(bytes) !== crc) return [];
  return decodeEntries(new ByteReader(bytes), new ByteReader(Buffer.alloc(0))).results;
}

/** The batches from a region's start on, as long as each goes on where the one before it ended. */
function readRegion(region: Buffer): IntentBatch[] {
  const batches: IntentBatch[] = [];
  for (let at = 0; ; ) {
    const head = readHead(region, at);
    const former = batches.at(-1);
    if (head === null || (former !== undefined && head.sequence !== former.sequence + 1)) {
      return batches;
    }
    batches.push(new FoundBatch(head));
    at = head.end;
  }
}

/** A whole batch, as it stands in the file. */
interface Head extends Pick<IntentBatch, 'sequence' | 'turn' | 'after'> {
  readonly control: Buffer;
  readonly data: Buffer;
  readonly end: number;
}

class FoundBatch implements IntentBatch {
  readonly sequence: number;
  readonly turn: number;
  readonly after: number;
  readonly #head: Head;

  constructor(head: Head) {
    this.sequence = head.sequence;
    this.turn = head.turn;
    this.after = head.after;
    this.#head = head;
  }

  get entries(): readonly IntentEntry[] {
    return this.#decode().entries;
  }

  get results(): readonly Result[] {
    return this.#decode().results;
  }

  #decode(): Pick<IntentBatch, 'entries' | 'results'> {
    const { control, data } = this.#head;
    return decodeEntries(new ByteReader(control), new ByteReader(data));
  }
}

/** Null unless a whole batch stands there. */
function readHead(region: Buffer, at: number): Head | null {
  if (at + BATCH_HEAD_BYTES + BATCH_TAIL_BYTES > region.length) return null;
  if (region.readUInt32LE(at) !== BATCH_MAGIC) return null;
  const controlAt = at + BATCH_HEAD_BYTES;
  const dataAt = controlAt + region.readUInt32LE(at + AT.control);
  const tailAt = dataAt + region.readUInt32LE(at + AT.data);
  const end = tailAt + BATCH_TAIL_BYTES;
  if (end > region.length) return null;
  const head = Buffer.from(region.subarray(at, controlAt));
  head.writeUInt32LE(0, AT.crc);
  const control = region.subarray(controlAt, dataAt);
  if (crc32(control, crc32(head)) !== region.readUInt32LE(at + AT.crc)) return null;
  const sequence = readU64(head, AT.sequence);
  const turn = readU64(head, AT.turn);
  const tail = region.subarray(tailAt, end);
  if (!tail.equals(head.subarray(AT.sequence, AT.sequence + BATCH_TAIL_BYTES))) return null;
  const after = readU64(head, AT.after);
  return { control, data: region.subarray(dataAt, tailAt), sequence, turn, after, end };
}

function decodeEntries(
  control: ByteReader,
  data: ByteReader,
): { readonly entries: IntentEntry[]; readonly results: Result[] } {
  const entries: IntentEntry[] = [];
  const results: Result[] = [];
  let lsn = 0;
  while (control.remaining > 0) {
    const kind = control.u8('entry');
    if (kind === EntryKind.lsn) lsn = control.u64('lsn');
    else if (kind === EntryKind.operation) {
      entries.push({ kind: 'operation', lsn, operation: decodeOperation(control) });
    } else if (kind === EntryKind.write) entries.push(decodeWrite(control, data, lsn));
    else if (kind === EntryKind.patch) entries.push(decodePatch(control, lsn));
    else if (kind === EntryKind.result) results.push(decodeResult(control));
    else throw malformed(`intent ${kind}`);
  }
  data.end('intent data');
  return { entries, results };
}

function decodeWrite(control: ByteReader, data: ByteReader, lsn: number): IntentEntry {
  const operation = decodeOperation(control);
  if (operation.type !== 'write') throw malformed('data of an operation that has none');
  const from = control.u32('from');
  const to = control.u32('to');
  if (from > to || to > operation.count * PAGE_BYTES) throw malformed('data outside of its pages');
  const source = control.u8('inline') === 1 ? control : data;
  return { kind: 'write', lsn, operation, from, bytes: source.bytes(to - from, 'data') };
}

function decodePatch(control: ByteReader, lsn: number): IntentEntry {
  const inode = control.u64('inode');
  const page = control.u32('page');
  const from = control.u16('from');
  const bytes = control.bytes(control.u16('length'), 'data');
  if (from + bytes.length > PAGE_BYTES) throw malformed('a patch outside of its page');
  return { kind: 'patch', lsn, inode, page, from, bytes };
}

function decodeResult(control: ByteReader): Result {
  const request = { low: control.u32('request'), high: control.u32('request') };
  // A copy, since it may be kept for long: not all of the file with it.
  return { request, bytes: Buffer.from(control.bytes(control.u16('length'), 'result')) };
}
