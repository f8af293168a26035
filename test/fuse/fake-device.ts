/**
 * The kernel's side of a FUSE connection, played by a test: requests are sent by name, replies come
 * back decoded just far enough to be read. The twin of io/node/fuse-device.ts.
 */
import type { HoldfastError } from '../../src/core/errors.js';
import { IN_HEADER, Opcode } from '../../src/fuse/protocol.js';
import type {
  FuseCaller,
  FuseDevice,
  FuseDeviceHandlers,
  ReplyOutcome,
} from '../../src/io/fuse-device.js';

export interface SentReply {
  readonly unique: bigint;
  /** 0, or a negative errno. */
  readonly error: number;
  readonly payload: Buffer;
}

export interface RequestOptions {
  readonly inode?: number;
  readonly unique?: bigint;
  readonly uid?: number;
  readonly gid?: number;
  readonly pid?: number;
}

/** A request's bytes: a header and the body's parts. */
export function requestBytes(
  opcode: keyof typeof Opcode | number,
  parts: readonly (Buffer | string)[] = [],
  options: RequestOptions = {},
): Buffer {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part as string)));
  const header = Buffer.alloc(IN_HEADER.BYTES);
  header.writeUInt32LE(IN_HEADER.BYTES + body.length, IN_HEADER.LENGTH);
  header.writeUInt32LE(typeof opcode === 'number' ? opcode : Opcode[opcode], IN_HEADER.OPCODE);
  header.writeBigUInt64LE(options.unique ?? 2n, IN_HEADER.UNIQUE);
  header.writeBigUInt64LE(BigInt(options.inode ?? 1), IN_HEADER.NODEID);
  header.writeUInt32LE(options.uid ?? 0, IN_HEADER.UID);
  header.writeUInt32LE(options.gid ?? 0, IN_HEADER.GID);
  header.writeUInt32LE(options.pid ?? 0, IN_HEADER.PID);
  return Buffer.concat([header, body]);
}

/** Little-endian 32-bit numbers. */
export function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, index * 4);
  return bytes;
}

/** Little-endian 64-bit numbers. */
export function u64(...values: (number | bigint)[]): Buffer {
  const bytes = Buffer.alloc(values.length * 8);
  for (const [index, value] of values.entries()) {
    bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), index * 8);
  }
  return bytes;
}

export class FakeDevice implements FuseDevice {
  readonly replies: SentReply[] = [];
  /** Every `pause` call. */
  readonly pauses: boolean[] = [];
  /** What the next replies come to; 'sent' when empty. */
  readonly outcomes: ReplyOutcome[] = [];
  readonly dying = new Set<number>();
  /** Who was looked up, in order; and looked after. */
  readonly lookedUp: number[] = [];
  readonly looks: number[] = [];
  timesSettled = 0;
  closed = false;
  #handlers: FuseDeviceHandlers | null = null;
  #nextUnique = 2n;

  start(handlers: FuseDeviceHandlers): void {
    this.#handlers = handlers;
  }

  reply(head: Buffer, length: number, parts: readonly Uint8Array[]): ReplyOutcome {
    if (this.closed) return 'gone';
    const bytes = Buffer.concat([head.subarray(0, length), ...parts]);
    if (bytes.readUInt32LE(0) !== bytes.length) throw new Error('a reply of a wrong length');
    const outcome = this.outcomes.shift() ?? 'sent';
    const unique = bytes.readBigUInt64LE(8);
    this.replies.push({ unique, error: bytes.readInt32LE(4), payload: bytes.subarray(16) });
    return outcome;
  }

  caller(pid: number): FuseCaller {
    const { dying, looks } = this;
    this.lookedUp.push(pid);
    return {
      get isDying() {
        looks.push(pid);
        return dying.has(pid);
      },
    };
  }

  settled(): void {
    this.timesSettled++;
  }

  pause(paused: boolean): void {
    this.pauses.push(paused);
  }

  close(): void {
    this.closed = true;
  }

  /** Delivers bytes as the kernel's. */
  deliver(bytes: Buffer): void {
    this.#handlers?.onRequest(bytes, bytes.length);
  }

  /** Delivers a request and returns its reply, which must have come at once. */
  ask(
    opcode: keyof typeof Opcode | number,
    parts: readonly (Buffer | string)[] = [],
    options: RequestOptions = {},
  ): SentReply {
    const unique = options.unique ?? this.#nextUnique;
    this.#nextUnique += 2n;
    const before = this.replies.length;
    this.deliver(requestBytes(opcode, parts, { ...options, unique }));
    const reply = this.replies[before];
    if (reply === undefined) throw new Error(`no reply to ${opcode}`);
    if (reply.unique !== unique) throw new Error('a reply to another request');
    return reply;
  }

  /** Delivers a request that is answered on a later turn, and waits for that. */
  async askLater(
    opcode: keyof typeof Opcode | number,
    parts: readonly (Buffer | string)[] = [],
    options: RequestOptions = {},
  ): Promise<SentReply> {
    const unique = options.unique ?? this.#nextUnique;
    this.#nextUnique += 2n;
    this.deliver(requestBytes(opcode, parts, { ...options, unique }));
    for (let turn = 0; turn < 100; turn++) {
      const reply = this.replies.find((each) => each.unique === unique);
      if (reply !== undefined) return reply;
      await new Promise((resolve) => setImmediate(resolve));
    }
    throw new Error(`no reply to ${opcode}`);
  }

  /** The connection ends. */
  unmount(error: HoldfastError | null = null): void {
    this.#handlers?.onClose(error);
  }
}
