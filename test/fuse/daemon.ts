/**
 * A mount daemon for tests, to be run as a child process: an in-memory filesystem at the directory
 * of the first argument. Prints `ready`, answers `stats` on standard input with a line of JSON, and
 * ends when it is unmounted.
 */
import { createInterface } from 'node:readline';
import { mountFuse } from '../../src/fuse/launcher.js';
import {
  MAX_REPLY_PARTS,
  MAX_REQUESTS_A_WAKEUP,
  REPLY_COPY_MAX_BYTES,
  REQUEST_BUFFER_BYTES,
} from '../../src/fuse/limits.js';
import { FuseSession } from '../../src/fuse/session.js';
import { NodeFuseDevice } from '../../src/io/node/fuse-device.js';
import { NodeFuseMounts } from '../../src/io/node/fuse-device-mounts.js';
import { MemoryFilesystem } from '../fixtures/memory-filesystem.js';

const [directory = '', ...flags] = process.argv.slice(2);
const capacity = flags.find((flag) => flag.startsWith('--capacity='))?.slice(11);
const memory = new MemoryFilesystem(
  capacity === undefined ? {} : { capacityBytes: Number(capacity) },
);
const readOnly = flags.includes('--read-only');
if (flags.includes('--many')) {
  const caller = { uid: 0, gid: 0 };
  const many = memory.mkdir(1, Buffer.from('many'), 0o755, caller);
  for (let index = 0; index < 200_000; index++) {
    const made = memory.mknod(many.inode, Buffer.from(`entry-${index}`), 0o100644, 0, caller);
    memory.forget(made.inode, 1);
  }
  memory.forget(many.inode, 1);
}

const options = { source: 'memory', readOnly: readOnly && !flags.includes('--kernel-read-write') };
const { descriptor } = await mountFuse(new NodeFuseMounts(), directory, options);
const session = new FuseSession({
  device: new NodeFuseDevice(descriptor.fd, {
    bufferBytes: REQUEST_BUFFER_BYTES,
    maxRequestsAWakeup: MAX_REQUESTS_A_WAKEUP,
    copyMaxBytes: REPLY_COPY_MAX_BYTES,
    maxReplyParts: MAX_REPLY_PARTS,
  }),
  filesystem: memory,
  log: {
    info: () => {},
    warn: (fields, message) => console.error(message, fields),
    error: (fields, message) => console.error(message, fields),
  },
  readOnly,
  onReady: (agreed) => console.log(`ready ${JSON.stringify(agreed)}`),
  onEnd: (error) => {
    console.log(`end ${JSON.stringify({ error: error?.message ?? null, ...stats() })}`);
    process.exit(error === null ? 0 : 1);
  },
});
session.start();

function stats(): Record<string, unknown> {
  return {
    underWay: session.requestsUnderWay,
    inodes: memory.inodes,
    commits: memory.commits,
    complaints: memory.complaints,
    seen: memory.seen,
    residentBytes: process.memoryUsage().rss,
  };
}

createInterface({ input: process.stdin }).on('line', (line) => {
  if (line === 'stats') console.log(`stats ${JSON.stringify(stats())}`);
});
