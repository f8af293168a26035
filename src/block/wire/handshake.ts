/**
 * The handshake that every connection to a node begins with: both sides prove that they know the
 * cluster's secret before anything else is parsed. Byte-level state machines without I/O: bytes in,
 * bytes to send and an outcome out. docs/FORMATS.md §Handshake is the same in words.
 *
 *   client → HELLO      versions spoken, cluster, role, own id, node meant, 32 random bytes
 *   server → CHALLENGE  version chosen, 32 random bytes            (or REFUSE: reason, versions)
 *   client → PROOF      HMAC-SHA-256(secret, "client" label, HELLO, CHALLENGE)
 *   server → WELCOME    node, its disks,
 *                       HMAC(secret, "server" label, HELLO, CHALLENGE, PROOF, node, disks)
 *
 * Each proof covers all bytes exchanged before it, so a middleman can change neither side's
 * identity, role, versions nor randomness (no downgrade), an old proof fits no new challenge (no
 * replay), and the labels keep one side's proof from serving as the other's (no reflection). The
 * client proves first: who only connects gets nothing to guess the secret with. Nothing is
 * encrypted, and frames after the handshake are not authenticated: whoever can change packets on
 * the way is not kept out by this.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { assert } from '../../core/assert.js';
import { ByteReader, ByteWriter } from '../../core/codec.js';
import { asFault, type ErrorCode, HoldfastError, malformed } from '../../core/errors.js';
import { type ClusterId, ID_BYTES, type Incarnation, type NodeId } from '../../core/ids.js';
import { FRAME_MAX_BYTES_UNAUTHENTICATED, NODE_MAX_DISKS } from '../../core/limits.js';

/** "HFHS", little-endian. The first bytes of every handshake frame, in all versions. */
export const HANDSHAKE_MAGIC = 0x53484648;
/** Protocol versions that this program speaks. What came with which: docs/FORMATS.md, Versions. */
export const PROTOCOL_MIN = 1;
export const PROTOCOL_MAX = 3;
export const NONCE_BYTES = 32;
const PROOF_BYTES = 32;

/** Persistent. */
const FrameKind = { hello: 1, challenge: 2, proof: 3, welcome: 4, refuse: 5 } as const;
/** Persistent. */
const Reason = { MALFORMED: 1, VERSION: 2, WRONG_CLUSTER: 3, UNAUTHENTICATED: 4, WRONG_NODE: 5 };
type RefusalCode = keyof typeof Reason;
/** Persistent. For the server's log and its limits; it grants nothing. */
export const Role = { owner: 1, node: 2, tool: 3 } as const;
export type RoleName = keyof typeof Role;

const CLIENT_LABEL = Buffer.from('holdfast client proof\0');
const SERVER_LABEL = Buffer.from('holdfast server proof\0');
/** Expected by a client that only knows an address: whichever node answers there is taken. */
export const ANY_NODE = '0'.repeat(ID_BYTES * 2) as NodeId;

/** What both sides must share. An empty secret is for clusters that listen on loopback only. */
export interface Credentials {
  readonly cluster: ClusterId;
  readonly secret: Uint8Array;
}

export interface VersionRange {
  readonly min: number;
  readonly max: number;
}

export const SPOKEN_VERSIONS: VersionRange = { min: PROTOCOL_MIN, max: PROTOCOL_MAX };

export interface ClientIdentity {
  readonly role: RoleName;
  /** 32 hex digits: the owner's, node's or tool's id. For the server's log. */
  readonly id: string;
}

export interface HandshakeClientOptions extends ClientIdentity {
  readonly credentials: Credentials;
  /** The node meant; null takes whichever answers. */
  readonly expectedNode: NodeId | null;
  /** NONCE_BYTES fresh bytes. */
  readonly nonce: Uint8Array;
  /** Default: all that this program speaks. */
  readonly versions?: VersionRange | undefined;
}

export interface HandshakeServerOptions {
  readonly credentials: Credentials;
  readonly node: NodeId;
  readonly disks: readonly Incarnation[];
  readonly nonce: Uint8Array;
  /** Default: all that this program speaks. */
  readonly versions?: VersionRange | undefined;
}

/** What the client knows once the node has proved itself. */
export interface NodeWelcome {
  readonly node: NodeId;
  readonly disks: readonly Incarnation[];
  readonly version: number;
}

/** What the server knows once the client has proved itself. */
export interface ClientWelcome extends ClientIdentity {
  readonly version: number;
}

/** `send`, if any, goes out before a failed connection is closed. */
export type HandshakeStep<T> =
  | { readonly type: 'continue'; readonly send: Uint8Array }
  | { readonly type: 'done'; readonly send: Uint8Array | null; readonly peer: T }
  | { readonly type: 'failed'; readonly send: Uint8Array | null; readonly error: HoldfastError };

const HINTS: Readonly<Record<RefusalCode, string>> = {
  MALFORMED: 'Check that the address is that of a holdfast node.',
  VERSION: 'A version works with the one before it.',
  WRONG_CLUSTER: 'Check the address and the metadata store of both sides.',
  UNAUTHENTICATED: 'Give both sides the same cluster secret (--secret-file).',
  WRONG_NODE: 'Another node has taken this address; wait until the node meant registers its own.',
};

function fault(code: RefusalCode, message: string): HoldfastError {
  const retryable = code === 'WRONG_NODE' || code === 'MALFORMED';
  return new HoldfastError(code, message, { hint: HINTS[code], retryable });
}

/** Two sides without a version in common; `peer` and `us` are what to call them. */
function noCommonVersion(
  names: { readonly peer: string; readonly us: string },
  theirs: VersionRange,
  ours: VersionRange,
): HoldfastError {
  const { peer, us } = names;
  const spoken = ({ min, max }: VersionRange): string =>
    min === max ? `${min}` : `${min} to ${max}`;
  const older = theirs.max < ours.min ? peer : us;
  const both = `${peer} speaks protocol ${spoken(theirs)}, ${us} ${spoken(ours)}`;
  return fault('VERSION', `${both}: upgrade ${older}`);
}

function begin(kind: number): ByteWriter {
  return new ByteWriter(192).u32(HANDSHAKE_MAGIC).u8(kind);
}

/** Checks size and magic; returns the frame's kind and a reader behind it. Throws MALFORMED. */
function open(frame: Buffer): { readonly kind: number; readonly input: ByteReader } {
  if (frame.length > FRAME_MAX_BYTES_UNAUTHENTICATED) throw malformed('handshake: frame too large');
  const input = new ByteReader(frame);
  if (input.u32('handshake magic') !== HANDSHAKE_MAGIC) throw malformed('handshake: wrong magic');
  return { kind: input.u8('handshake kind'), input };
}

function proofOf(
  credentials: Credentials,
  label: Uint8Array,
  transcript: readonly Uint8Array[],
): Buffer {
  const hmac = createHmac('sha256', credentials.secret).update(label);
  const length = Buffer.alloc(4);
  for (const part of transcript) {
    length.writeUInt32LE(part.length);
    hmac.update(length).update(part);
  }
  return hmac.digest();
}

function refusal(code: RefusalCode, versions: VersionRange): Uint8Array {
  return begin(FrameKind.refuse).u8(Reason[code]).u16(versions.min).u16(versions.max).done();
}

/**
 * The side that connected. `start` once, then `step` with each frame until it is done or has
 * failed.
 */
export class HandshakeClient {
  readonly #options: HandshakeClientOptions;
  readonly #versions: VersionRange;
  #hello: Uint8Array | null = null;
  #challenge: Uint8Array | null = null;
  #proof: Uint8Array | null = null;
  #version = 0;
  #over = false;

  constructor(options: HandshakeClientOptions) {
    assert(options.nonce.length === NONCE_BYTES, 'nonce of the handshake');
    this.#options = options;
    this.#versions = options.versions ?? SPOKEN_VERSIONS;
  }

  /** The first frame. */
  start(): Uint8Array {
    assert(this.#hello === null, 'the handshake starts once');
    const { credentials, role, id, expectedNode, nonce } = this.#options;
    this.#hello = begin(FrameKind.hello)
      .u16(this.#versions.min)
      .u16(this.#versions.max)
      .id(credentials.cluster)
      .u8(Role[role])
      .id(id)
      .id(expectedNode ?? ANY_NODE)
      .bytes(nonce)
      .done();
    return this.#hello;
  }

  step(frame: Buffer): HandshakeStep<NodeWelcome> {
    assert(this.#hello !== null && !this.#over, 'a handshake under way');
    try {
      return this.#step(frame, this.#hello);
    } catch (thrown) {
      const error = asFault(thrown, 'MALFORMED');
      this.#over = true;
      if (error.code !== 'MALFORMED') return { type: 'failed', send: null, error };
      const message = `the peer does not speak holdfast's protocol (${error.message})`;
      return { type: 'failed', send: null, error: fault('MALFORMED', message) };
    }
  }

  #step(frame: Buffer, hello: Uint8Array): HandshakeStep<NodeWelcome> {
    const { kind, input } = open(frame);
    if (kind === FrameKind.refuse) throw this.#refused(input);
    if (kind === FrameKind.challenge && this.#challenge === null) {
      this.#version = input.u16('version');
      input.bytes(NONCE_BYTES, 'nonce');
      input.end('challenge');
      if (this.#version < this.#versions.min || this.#version > this.#versions.max) {
        throw fault('VERSION', `the node chose protocol ${this.#version}, which was not offered`);
      }
      this.#challenge = frame;
      const proof = proofOf(this.#options.credentials, CLIENT_LABEL, [hello, frame]);
      this.#proof = begin(FrameKind.proof).bytes(proof).done();
      return { type: 'continue', send: this.#proof };
    }
    if (kind === FrameKind.welcome && this.#challenge !== null && this.#proof !== null) {
      return this.#welcome(frame, input, [hello, this.#challenge, this.#proof]);
    }
    throw malformed(`handshake: frame kind ${kind} out of turn`);
  }

  #welcome(
    frame: Buffer,
    input: ByteReader,
    transcript: readonly Uint8Array[],
  ): HandshakeStep<NodeWelcome> {
    const node = input.id<NodeId>('node');
    const count = input.u8('disks');
    if (count > NODE_MAX_DISKS) throw malformed(`welcome: ${count} disks`);
    const disks: Incarnation[] = [];
    for (let i = 0; i < count; i++) disks.push(input.id<Incarnation>('incarnation'));
    const content = frame.subarray(0, input.position);
    const proof = input.bytes(PROOF_BYTES, 'proof');
    input.end('welcome');
    const { credentials, expectedNode } = this.#options;
    const expected = proofOf(credentials, SERVER_LABEL, [...transcript, content]);
    if (!timingSafeEqual(proof, expected)) {
      throw fault('UNAUTHENTICATED', 'the node does not know the cluster secret');
    }
    if (expectedNode !== null && expectedNode !== ANY_NODE && node !== expectedNode) {
      throw fault('WRONG_NODE', `node ${node} answered where ${expectedNode} was expected`);
    }
    this.#over = true;
    return { type: 'done', send: null, peer: { node, disks, version: this.#version } };
  }

  /** A refusal is not authenticated: it can end this connection and do no more. */
  #refused(input: ByteReader): HoldfastError {
    const reason = input.u8('reason');
    const min = input.u16('min');
    const max = input.u16('max');
    input.end('refusal');
    const ours = this.#versions;
    switch (reason) {
      case Reason.VERSION:
        return noCommonVersion({ peer: 'the node', us: 'this program' }, { min, max }, ours);
      case Reason.WRONG_CLUSTER:
        return fault('WRONG_CLUSTER', 'the node belongs to another cluster');
      case Reason.UNAUTHENTICATED:
        return fault('UNAUTHENTICATED', 'the node refused our proof of the cluster secret');
      case Reason.WRONG_NODE:
        return fault('WRONG_NODE', 'another node answers at this address');
      default:
        return malformed('the node could not read our first frames');
    }
  }
}

/** The side that accepted. `step` with each frame until it is done or has failed. */
export class HandshakeServer {
  readonly #options: HandshakeServerOptions;
  readonly #versions: VersionRange;
  #state:
    | { readonly type: 'hello' }
    | {
        readonly type: 'proof';
        readonly hello: Uint8Array;
        readonly challenge: Uint8Array;
        readonly expectedNode: NodeId;
        readonly peer: ClientWelcome;
      }
    | { readonly type: 'over' } = { type: 'hello' };

  constructor(options: HandshakeServerOptions) {
    assert(options.nonce.length === NONCE_BYTES, 'nonce of the handshake');
    assert(options.disks.length <= NODE_MAX_DISKS, 'disks of a node');
    this.#options = options;
    this.#versions = options.versions ?? SPOKEN_VERSIONS;
  }

  step(frame: Buffer): HandshakeStep<ClientWelcome> {
    const state = this.#state;
    assert(state.type !== 'over', 'a handshake under way');
    try {
      const { kind, input } = open(frame);
      const expected = state.type === 'hello' ? FrameKind.hello : FrameKind.proof;
      if (kind !== expected) throw malformed(`handshake: frame kind ${kind} out of turn`);
      if (state.type === 'hello') return this.#onHello(frame, input);
      return this.#onProof(frame, input, state);
    } catch (thrown) {
      this.#state = { type: 'over' };
      const error = asFault(thrown, 'MALFORMED');
      // To a peer that does not even speak the protocol nothing is said.
      const spoken = error.code !== 'MALFORMED' && error.code in Reason;
      const send = spoken ? refusal(error.code as RefusalCode & ErrorCode, this.#versions) : null;
      return { type: 'failed', send, error };
    }
  }

  #onHello(frame: Buffer, input: ByteReader): HandshakeStep<ClientWelcome> {
    const min = input.u16('min version');
    const max = input.u16('max version');
    const ours = this.#versions;
    // Before the rest is read: another version's HELLO may go on differently.
    const version = Math.min(max, ours.max);
    if (min > max) throw malformed(`hello: versions ${min} to ${max}`);
    if (version < min || version < ours.min) {
      throw noCommonVersion({ peer: 'the peer', us: 'this node' }, { min, max }, ours);
    }
    const cluster = input.id<ClusterId>('cluster');
    const roleCode = input.u8('role');
    const id = input.id('peer id');
    const expectedNode = input.id<NodeId>('expected node');
    input.bytes(NONCE_BYTES, 'nonce');
    input.end('hello');
    const role = (Object.keys(Role) as RoleName[]).find((name) => Role[name] === roleCode);
    if (role === undefined) throw malformed(`hello: role ${roleCode}`);
    const { credentials, nonce } = this.#options;
    if (cluster !== credentials.cluster) {
      throw fault('WRONG_CLUSTER', 'a peer of another cluster connected');
    }
    const challenge = begin(FrameKind.challenge).u16(version).bytes(nonce).done();
    const peer = { role, id, version };
    this.#state = { type: 'proof', hello: frame, challenge, expectedNode, peer };
    return { type: 'continue', send: challenge };
  }

  #onProof(
    frame: Buffer,
    input: ByteReader,
    state: {
      readonly hello: Uint8Array;
      readonly challenge: Uint8Array;
      readonly expectedNode: NodeId;
      readonly peer: ClientWelcome;
    },
  ): HandshakeStep<ClientWelcome> {
    const proof = input.bytes(PROOF_BYTES, 'proof');
    input.end('proof');
    const { credentials, node, disks } = this.#options;
    const { hello, challenge, expectedNode, peer } = state;
    if (!timingSafeEqual(proof, proofOf(credentials, CLIENT_LABEL, [hello, challenge]))) {
      throw fault('UNAUTHENTICATED', 'a peer without the cluster secret connected');
    }
    if (expectedNode !== ANY_NODE && expectedNode !== node) {
      throw fault('WRONG_NODE', `a peer expected node ${expectedNode} here, this is ${node}`);
    }
    const out = begin(FrameKind.welcome).id(node).u8(disks.length);
    for (const disk of disks) out.id(disk);
    const length = out.length;
    const room = out.bytes(Buffer.alloc(PROOF_BYTES)).done();
    const content = room.subarray(0, length);
    room.set(proofOf(credentials, SERVER_LABEL, [hello, challenge, frame, content]), length);
    this.#state = { type: 'over' };
    return { type: 'done', send: room, peer };
  }
}
