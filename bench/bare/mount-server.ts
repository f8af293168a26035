/**
 * A bare mount in a process of its own: files and directories in memory; what is written goes to
 * three bare replicas, and an fsync is done when two have flushed it. No history, no checkpoints,
 * no space, no takeover: what this machine gives to a program behind FUSE that does nothing else.
 * Only what the workloads of data in few files need; everything else is ENOSYS.
 */

import { GIB, KIB, MIB } from '../../src/core/units.js';
import { decodeRequest } from '../../src/fuse/decode.js';
import { ERRNO } from '../../src/fuse/errno.js';
import { mountDescriptor } from '../../src/fuse/launcher.js';
import {
  BUSY_POLL_MS,
  MAX_REPLY_PARTS,
  MAX_REQUESTS_A_WAKEUP,
  REPLY_COPY_MAX_BYTES,
  REQUEST_BUFFER_BYTES,
} from '../../src/fuse/limits.js';
import { negotiate } from '../../src/fuse/negotiate.js';
import type { Operation, Request } from '../../src/fuse/operations.js';
import { Mode } from '../../src/fuse/protocol.js';
import { type Answer, Reply, ReplyChannel } from '../../src/fuse/reply.js';
import { nodeClock } from '../../src/io/node/clock.js';
import { NodeFuseDevice } from '../../src/io/node/fuse-device.js';
import { NodeFuseMounts } from '../../src/io/node/fuse-device-mounts.js';
import { lowLatencyHere } from '../../src/io/node/low-latency.js';
import { expectBuffers, optimizeEarly } from '../../src/io/node/process.js';
import type { Attributes } from '../../src/volume/filesystem-api.js';
import { BareReplicas } from './replicas.js';
import { COMMIT_HEADER_BYTES, FRAME_HEADER_BYTES, FrameKind, frameHeader } from './shapes.js';

const [directory = '', mountPoint = ''] = process.argv.slice(2);
const CHUNK_BYTES = MIB;
/** What is larger goes out at once, and is flushed by the next fsync. */
const COMMIT_MAX_BYTES = 64 * KIB;
const PERMISSIONS = 0o755;
const ROOT = 1;

interface Node {
  readonly inode: number;
  readonly mode: number;
  readonly names: Map<string, Node>;
  readonly chunks: Buffer[];
  size: number;
}

const nodes = new Map<number, Node>();

function make(mode: number): Node {
  const inode = nodes.size + ROOT;
  const node = { inode, mode: mode | PERMISSIONS, names: new Map(), chunks: [], size: 0 };
  nodes.set(inode, node);
  return node;
}

function attributes({ inode, mode, size }: Node): Attributes {
  const epoch = { seconds: 0, nanoseconds: 0 };
  const times = { atime: epoch, mtime: epoch, ctime: epoch };
  return { inode, size, blocks: size / 512, ...times, mode, nlink: 1, uid: 0, gid: 0, rdev: 0 };
}

/** The bytes of a file in memory, in the pieces that they lie in. */
function pieces({ chunks }: Node, offset: number, bytes: number): Buffer[] {
  const found: Buffer[] = [];
  for (let at = offset; at < offset + bytes; ) {
    const index = Math.floor(at / CHUNK_BYTES);
    const from = at % CHUNK_BYTES;
    const chunk = chunks[index] ?? Buffer.alloc(CHUNK_BYTES);
    chunks[index] = chunk;
    const piece = chunk.subarray(from, from + offset + bytes - at);
    found.push(piece);
    at += piece.length;
  }
  return found;
}

const replicas = await BareReplicas.start(directory);
/** Written, and not sent. */
let kept: Buffer[] = [];
let keptBytes = 0;
let isDataUnflushed = false;
let isAsking = false;
/** What waits for the next answer of the replicas. */
let waiting: Reply[] = [];

function sendData(): void {
  replicas.send([
    frameHeader(Buffer.alloc(FRAME_HEADER_BYTES), FrameKind.DATA, keptBytes),
    ...kept,
  ]);
  kept = [];
  keptBytes = 0;
  isDataUnflushed = true;
}

function write(node: Node, offset: number, data: Buffer): void {
  let from = 0;
  for (const piece of pieces(node, offset, data.length)) {
    data.copy(piece, 0, from);
    from += piece.length;
    kept.push(piece);
  }
  keptBytes += data.length;
  node.size = Math.max(node.size, offset + data.length);
  if (keptBytes > COMMIT_MAX_BYTES) sendData();
}

/** Everything up to now is on two replicas when it answers. */
function sync(reply: Reply): Answer {
  waiting.push(reply);
  if (!isAsking) ask();
  return 'later';
}

function ask(): void {
  const asked = waiting;
  waiting = [];
  const answer = (): void => {
    isAsking = false;
    for (const reply of asked) reply.ok();
    if (waiting.length > 0) ask();
  };
  if (keptBytes === 0 && !isDataUnflushed) {
    answer();
    return;
  }
  isAsking = true;
  if (isDataUnflushed) {
    if (keptBytes > 0) sendData();
    isDataUnflushed = false;
    const flush = frameHeader(Buffer.alloc(FRAME_HEADER_BYTES), FrameKind.FLUSH, 0);
    replicas.ask([flush], answer);
    return;
  }
  const header = Buffer.alloc(COMMIT_HEADER_BYTES);
  const frame = Buffer.concat([frameHeader(header, FrameKind.COMMIT, keptBytes), ...kept]);
  kept = [];
  keptBytes = 0;
  replicas.ask([frame], answer);
}

function create(parent: Node, name: Buffer, mode: number): Attributes {
  const node = make(mode);
  parent.names.set(name.toString(), node);
  return attributes(node);
}

function handle(operation: Operation, node: Node, reply: Reply): Answer {
  switch (operation.op) {
    case 'init': {
      const agreed = negotiate(operation);
      return agreed.kind === 'too-old' ? reply.error(ERRNO.EPROTO) : reply.init(agreed.reply);
    }
    case 'lookup': {
      const found = node.names.get(operation.name.toString());
      return found === undefined ? reply.noEntry() : reply.entry(attributes(found));
    }
    case 'getattr':
      return reply.attributes(attributes(node));
    case 'setattr':
      node.size = operation.changes.size ?? node.size;
      return reply.attributes(attributes(node));
    case 'mkdir':
      return reply.entry(create(node, operation.name, Mode.DIRECTORY));
    case 'create':
      return reply.created(create(node, operation.name, Mode.REGULAR), 0);
    case 'unlink':
      node.names.delete(operation.name.toString());
      return reply.ok();
    case 'open':
    case 'opendir':
      return reply.opened(0);
    case 'read': {
      const bytes = Math.max(0, Math.min(operation.size, node.size - operation.offset));
      return reply.data(pieces(node, operation.offset, bytes));
    }
    case 'write':
      write(node, operation.offset, operation.data);
      return reply.count(operation.data.length);
    case 'fsync':
      return sync(reply);
    case 'statfs': {
      const space = { totalBytes: GIB, freeBytes: GIB, files: 0, freeFiles: GIB };
      return reply.statfs(space);
    }
    case 'release':
    case 'releasedir':
      return reply.ok();
    case 'forget':
    case 'batch-forget':
    case 'interrupt':
      return reply.none();
    default:
      return reply.error(ERRNO.ENOSYS);
  }
}

expectBuffers();
optimizeEarly();
const root = make(Mode.DIRECTORY);
const mounts = new NodeFuseMounts();
const descriptor = mounts.open();
const lowLatency = lowLatencyHere(process.env);
const device = new NodeFuseDevice(descriptor.fd, {
  bufferBytes: REQUEST_BUFFER_BYTES,
  maxRequestsAWakeup: MAX_REQUESTS_A_WAKEUP,
  copyMaxBytes: REPLY_COPY_MAX_BYTES,
  maxReplyParts: MAX_REPLY_PARTS,
  busyPollMs: BUSY_POLL_MS,
  onReply: (bytes) => lowLatency?.came(bytes),
});
const channel = new ReplyChannel({
  device,
  clock: nodeClock,
  intents: null,
  answered: () => {},
  abandoned: () => {},
});
await mountDescriptor(mounts, { mountPoint, descriptor }, { source: 'bare' });
device.start({
  onRequest: (buffer, length) => {
    const request: Request = decodeRequest(buffer, length, { extendedSetxattr: true });
    const node = nodes.get(request.inode) ?? root;
    handle(request.operation, node, new Reply(channel, request.unique, 0));
  },
  onClose: () => void replicas.close().then(() => process.exit(0)),
});
process.stdout.write('mounted\n');
// Ends with the benchmark, however that ends: the connection with its descriptor.
process.stdin.on('end', () => device.close()).resume();
