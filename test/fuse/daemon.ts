/**
 * A mount daemon for tests, to be run as a child process: serves an in-memory filesystem, or with
 * `--volume` a real one on a log in memory, at the directory of the first argument. Prints `ready`,
 * obeys lines of standard input (`stats`; of a volume also `remount` and `crash N`), and ends when
 * it is unmounted.
 */
import { createInterface } from 'node:readline';
import { mountFuse, unmountFuse } from '../../src/fuse/launcher.js';
import {
  BUSY_POLL_MS,
  MAX_REPLY_PARTS,
  MAX_REQUESTS_A_WAKEUP,
  REPLY_COPY_MAX_BYTES,
  REQUEST_BUFFER_BYTES,
} from '../../src/fuse/limits.js';
import { FuseSession } from '../../src/fuse/session.js';
import { nodeClock } from '../../src/io/node/clock.js';
import { NodeFuseDevice } from '../../src/io/node/fuse-device.js';
import { NodeFuseMounts } from '../../src/io/node/fuse-device-mounts.js';
import type { Filesystem } from '../../src/volume/filesystem-api.js';
import { MemoryFilesystem } from '../fixtures/memory-filesystem.js';
import { VolumeBacking } from './volume-backing.js';

/** What stands behind the mount. */
interface Backing {
  readonly name: string;
  /** The filesystem for a new mount. */
  open(): Promise<Filesystem>;
  stats(): Record<string, unknown>;
  crash(survive: number): void;
}

const [directory = '', ...flags] = process.argv.slice(2);
const capacity = flags.find((flag) => flag.startsWith('--capacity='))?.slice(11);
const readOnly = flags.includes('--read-only');
const mounts = new NodeFuseMounts();
const backing = flags.includes('--volume')
  ? new VolumeBacking(capacity === undefined ? undefined : Number(capacity))
  : memoryBacking();
let device: NodeFuseDevice | null = null;
let session: FuseSession | null = null;
/** Set while the end of the mount is not the end of the daemon. */
let ended: (() => void) | null = null;

function memoryBacking(): Backing {
  const memory = new MemoryFilesystem(
    capacity === undefined ? {} : { capacityBytes: Number(capacity) },
  );
  if (flags.includes('--many')) fill(memory);
  return {
    name: 'memory',
    open: () => Promise.resolve(memory),
    crash: () => {},
    stats: () => ({
      inodes: memory.inodes,
      commits: memory.commits,
      complaints: memory.complaints,
      seen: memory.seen,
    }),
  };
}

function fill(memory: MemoryFilesystem): void {
  const caller = { uid: 0, gid: 0 };
  const many = memory.mkdir(1, Buffer.from('many'), 0o755, caller);
  for (let index = 0; index < 200_000; index++) {
    const made = memory.mknod(many.inode, Buffer.from(`entry-${index}`), 0o100644, 0, caller);
    memory.forget(made.inode, 1);
  }
  memory.forget(many.inode, 1);
}

async function mount(): Promise<void> {
  const filesystem = await backing.open();
  const fuseReadOnly = readOnly && !flags.includes('--kernel-read-write');
  const options = { source: backing.name, readOnly: fuseReadOnly };
  const { descriptor } = await mountFuse(mounts, directory, options);
  device = new NodeFuseDevice(descriptor.fd, {
    bufferBytes: REQUEST_BUFFER_BYTES,
    maxRequestsAWakeup: MAX_REQUESTS_A_WAKEUP,
    copyMaxBytes: REPLY_COPY_MAX_BYTES,
    maxReplyParts: MAX_REPLY_PARTS,
    busyPollMs: BUSY_POLL_MS,
  });
  session = new FuseSession({
    device,
    filesystem,
    log: {
      info: () => {},
      warn: (fields, message) => console.error(message, fields),
      error: (fields, message) => console.error(message, fields),
    },
    clock: nodeClock,
    readOnly,
    onReady: (agreed) => console.log(`ready ${JSON.stringify(agreed)}`),
    onEnd: (error) => onEnd(error?.message ?? null),
  });
  session.start();
}

function onEnd(error: string | null): void {
  if (ended !== null && error === null) {
    ended();
    return;
  }
  console.log(`end ${JSON.stringify({ error, ...stats() })}`);
  process.exit(error === null ? 0 : 1);
}

/** Unmounts in order, and mounts again. */
async function remount(): Promise<void> {
  const end = new Promise<void>((resolve) => {
    ended = resolve;
  });
  await unmountFuse(mounts, directory);
  await end;
  ended = null;
  backing.crash(0);
  await mount();
}

/** What was not committed is lost but for the first `survive` records; then mounts again. */
async function crash(survive: number): Promise<void> {
  backing.crash(survive);
  device?.close();
  await unmountFuse(mounts, directory, { lazy: true });
  await mount();
}

function stats(): Record<string, unknown> {
  return {
    underWay: session?.requestsUnderWay,
    residentBytes: process.memoryUsage().rss,
    ...backing.stats(),
  };
}

async function obey(line: string): Promise<void> {
  const [command, argument] = line.split(' ');
  if (command === 'stats') console.log(`stats ${JSON.stringify(stats())}`);
  if (command === 'remount') await remount();
  if (command === 'crash') await crash(Number(argument));
}

await mount();
createInterface({ input: process.stdin }).on('line', (line) => {
  obey(line).catch((error: unknown) => {
    console.error(error);
    process.exit(2);
  });
});
