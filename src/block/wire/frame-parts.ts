/**
 * What every frame after the handshake has in common: a control part of fixed binary fields with
 * its own crc32, then a payload that is appended as it is, without being copied. docs/FORMATS.md
 * §Frames is the same in words. The layout belongs to protocol version 1, which both sides agreed
 * on in the handshake.
 *
 *   0 u32 crc32 of the control part from byte 4     12 u32 request id
 *   4 u32 bytes of the control part                 16 u8  type of request, or of a reply's body
 *   8 u32 bytes of the payload                      17 u8  status (0 in requests), then the fields
 *
 * The crc protects what decides (epochs, offsets, lengths); payloads carry the checksums of whoever
 * wrote them (batches, pages) and are verified against those.
 */
import { assert } from '../../core/assert.js';
import { crc32 } from '../../core/checksum.js';
import { ByteReader, ByteWriter } from '../../core/codec.js';
import { malformed } from '../../core/errors.js';
import { FRAME_MAX_BYTES, SEGMENT_FORMAT_MAX_BYTES } from '../../core/limits.js';
import { PAGE_BYTES } from '../../core/units.js';

export const FRAME_HEADER_BYTES = 18;
const CRC_BYTES = 4;
const U32_MAX = 0xffff_ffff;

/** One frame ready for Connection.send. */
export interface EncodedFrame {
  readonly parts: readonly Uint8Array[];
  readonly bytes: number;
}

const NO_PAYLOAD: readonly Uint8Array[] = [];

/** Begins a control part; `finishFrame` fills in the lengths and the crc. */
export function beginFrame(id: number, kind: number, status: number): ByteWriter {
  assert(id >= 0 && id <= U32_MAX, 'a request id is a u32');
  return new ByteWriter(128).u32(0).u32(0).u32(0).u32(id).u8(kind).u8(status);
}

/** Completes a control part. The payload is referenced: it must not change until it was sent. */
export function finishFrame(
  control: ByteWriter,
  payload: readonly Uint8Array[] = NO_PAYLOAD,
): EncodedFrame {
  const head = control.done();
  let payloadBytes = 0;
  for (const part of payload) payloadBytes += part.length;
  const bytes = head.length + payloadBytes;
  assert(bytes <= FRAME_MAX_BYTES, 'a frame within its limit');
  head.writeUInt32LE(head.length, 4);
  head.writeUInt32LE(payloadBytes, 8);
  head.writeUInt32LE(crc32(head.subarray(CRC_BYTES)), 0);
  return { parts: payloadBytes === 0 ? [head] : [head, ...payload], bytes };
}

/** A verified control part, positioned at its fields, and the payload as a view of the frame. */
export interface OpenedFrame {
  readonly id: number;
  readonly kind: number;
  readonly status: number;
  readonly fields: ByteReader;
  readonly payload: Buffer;
}

/**
 * Verifies lengths and crc of a frame. Throws MALFORMED. Nothing is copied or allocated by length.
 */
export function openFrame(frame: Buffer): OpenedFrame {
  if (frame.length < FRAME_HEADER_BYTES) throw malformed(`frame of ${frame.length} bytes`);
  const controlBytes = frame.readUInt32LE(4);
  if (controlBytes < FRAME_HEADER_BYTES || controlBytes > frame.length) {
    throw malformed(`frame: control part of ${controlBytes} bytes in ${frame.length}`);
  }
  const payloadBytes = frame.readUInt32LE(8);
  if (payloadBytes !== frame.length - controlBytes) {
    throw malformed(`frame: payload of ${payloadBytes} bytes, ${frame.length - controlBytes} came`);
  }
  if (crc32(frame.subarray(CRC_BYTES, controlBytes)) !== frame.readUInt32LE(0)) {
    throw malformed('frame: checksum mismatch in the control part');
  }
  const whole = payloadBytes === 0 && controlBytes === frame.length;
  return {
    id: frame.readUInt32LE(12),
    kind: frame.readUInt8(16),
    status: frame.readUInt8(17),
    fields: new ByteReader(whole ? frame : frame.subarray(0, controlBytes), FRAME_HEADER_BYTES),
    payload: frame.subarray(controlBytes),
  };
}

/**
 * Asserts that the control part was read to its end and that no payload came where none belongs.
 */
export function closeFrame(frame: OpenedFrame, payloadAllowed: boolean): void {
  frame.fields.end('frame');
  if (!payloadAllowed && frame.payload.length !== 0) {
    throw malformed(`frame: ${frame.payload.length} bytes of payload where none belongs`);
  }
}

/** A u64 that must stand on a page boundary, where a segment can be. */
export function readPageOffset(input: ByteReader, what: string): number {
  const value = input.u64(what);
  if (value % PAGE_BYTES !== 0) throw malformed(`${what}: ${value} is off a page boundary`);
  if (value >= SEGMENT_FORMAT_MAX_BYTES) throw malformed(`${what}: ${value} is beyond a segment`);
  return value;
}

/** A u8 that must be 0 or 1. */
export function readFlag(input: ByteReader, what: string): boolean {
  const value = input.u8(what);
  if (value > 1) throw malformed(`${what}: ${value} is neither 0 nor 1`);
  return value === 1;
}

/** A u32 from `least` to `most`. */
export function readCount(input: ByteReader, least: number, most: number, what: string): number {
  const value = input.u32(what);
  if (value < least || value > most)
    throw malformed(`${what}: ${value} is not ${least} to ${most}`);
  return value;
}
