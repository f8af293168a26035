/**
 * One process a disk directory. Node has no flock(2), and a lock file outlives a SIGKILL; a
 * listening socket does not. Two of them: one in the abstract namespace, named by the directory's
 * device and inode, which answers at once but only within one network namespace; and
 * `lock-RANDOM` in the directory itself, which containers that share the directory see as well.
 *
 * INVARIANT: of the sockets `lock-…`, one that listens is never renamed, nor removed by another
 * process. A name is used once, and appears (by a rename) when its socket listens already; so one
 * that refuses connections is dead for good, and whoever finds it may remove it.
 *
 * Who starts first shows its own socket and then looks at all the others; it has the directory when
 * none of them listens. Of two that start together the one that showed its own later sees the
 * other's: both can give up, never both go on, wherever any of them pauses or dies. So that not all
 * give up, the least name waits for the others to do so.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { HoldfastError } from '../../core/errors.js';

/** Whatever this lock may leave in a directory. */
export const LOCK_NAMES = /^lock(?:\.old|-[0-9a-f]{32}(?:-new)?)?$/;
/** Bound, perhaps not listening yet: nobody's claim. */
const UNFINISHED = '-new';
/** Older programs bind `lock`, and move it aside. Never removed: the next one may be alive. */
const SHARED_NAMES = /^lock(?:\.old)?$/;
/** It listens and does not come to accept, or it did until a moment ago: what next looks tell. */
const ALIVE: ReadonlySet<string> = new Set(['EAGAIN', 'ECONNRESET']);
/** How often, and after how long, the least of those that start together looks again. */
const LOOKS = 10;
const LOOK_AGAIN_MS = 50;

export interface DiskLock {
  release(): void;
}

type Done = (error: HoldfastError | null, lock: DiskLock | null) => void;

function inUse(directory: string): HoldfastError {
  return new HoldfastError('DISK_IN_USE', `${directory} is in use by another process`, {
    hint: 'Stop the other storage node, or give this one a directory of its own.',
  });
}

/** Locks a directory. NOT_FOUND, DISK_IN_USE, or DISK_FAILED. */
export function lockDirectory(directory: string, done: Done): void {
  let name: string;
  let fd: number;
  try {
    const { dev, ino } = statSync(directory, { bigint: true });
    name = `\0holdfast-disk-${dev}-${ino}`;
    fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'NOT_FOUND' : 'DISK_FAILED';
    const fault = new HoldfastError(code, `cannot open ${directory}`, { cause: error });
    process.nextTick(() => done(fault, null));
    return;
  }
  listen(name, (error, abstract) => {
    if (abstract === null) {
      closeSync(fd);
      done(error === 'EADDRINUSE' ? inUse(directory) : failed(directory, error), null);
      return;
    }
    lockInside(directory, fd, (fault, inner) => {
      if (inner === null) {
        abstract.close();
        closeSync(fd);
        done(fault, null);
        return;
      }
      const release = (): void => {
        inner.release();
        abstract.close();
        closeSync(fd);
      };
      done(null, { release });
    });
  });
}

function failed(directory: string, code: string | null): HoldfastError {
  switch (code) {
    case 'EROFS':
      return new HoldfastError('DISK_READ_ONLY', `${directory} is read-only`, {
        hint: 'Mount its filesystem for writing.',
      });
    case 'ENOSPC':
    case 'EDQUOT':
      return new HoldfastError('DISK_FULL', `${directory} is full`, { hint: 'Free some space.' });
    default:
      return new HoldfastError('DISK_FAILED', `cannot lock ${directory}: ${code}`);
  }
}

function listen(path: string, done: (code: string | null, server: Server | null) => void): void {
  const server = createServer((socket) => socket.destroy());
  const refused = (error: NodeJS.ErrnoException): void => done(error.code ?? 'unknown', null);
  server.once('error', refused);
  server.listen({ path, exclusive: true }, () => {
    // A connection that could not be accepted was seen to listen, which is all that it is for.
    server.off('error', refused).on('error', () => {});
    server.unref();
    done(null, server);
  });
}

/**
 * The lock inside the directory that `fd` has open: all that keeps out processes of other network
 * namespaces.
 */
export function lockInside(directory: string, fd: number, done: Done): void {
  // A socket's path may have 107 bytes; the directory's own may be longer.
  const short = `/proc/self/fd/${fd}`;
  const base = process.platform === 'linux' && readlinkSync(short) !== '' ? short : directory;
  const name = `lock-${randomBytes(16).toString('hex')}`;
  const path = join(base, name);
  listen(path + UNFINISHED, (code, server) => {
    if (server === null) return done(failed(directory, code), null);
    const release = (): void => {
      unlinkIfThere(path);
      server.close();
    };
    const refuse = (fault: HoldfastError): void => {
      release();
      done(fault, null);
    };
    const look = (left: number): void => {
      findLiving(base, name, (error, living) => {
        if (error !== null) return refuse(failed(directory, error));
        if (living.length === 0) return done(null, { release });
        const isLeast = living.every((other) => other > name);
        if (!isLeast || left === 0) return refuse(inUse(directory));
        setTimeout(() => look(left - 1), LOOK_AGAIN_MS);
      });
    };
    try {
      renameSync(path + UNFINISHED, path);
    } catch (thrown) {
      const { code } = thrown as NodeJS.ErrnoException;
      // Another one that starts found it before it listened, and took it for dead.
      return refuse(code === 'ENOENT' ? inUse(directory) : failed(directory, code ?? null));
    }
    look(LOOKS);
  });
}

/** The other sockets that listen in a directory; removes the dead. */
function findLiving(
  base: string,
  own: string,
  done: (error: string | null, living: readonly string[]) => void,
): void {
  let names: string[];
  try {
    names = readdirSync(base).filter((name) => LOCK_NAMES.test(name) && name !== own);
  } catch (thrown) {
    done((thrown as NodeJS.ErrnoException).code ?? 'unknown', []);
    return;
  }
  const living: string[] = [];
  const next = (at: number): void => {
    const name = names[at];
    if (name === undefined) {
      done(null, living);
      return;
    }
    const path = join(base, name);
    probe(path, (code) => {
      const isAlive = code === null || ALIVE.has(code);
      if (isAlive && !name.endsWith(UNFINISHED)) living.push(name);
      if (code === 'ECONNREFUSED' && !SHARED_NAMES.test(name)) unlinkIfThere(path);
      if (isAlive || code === 'ECONNREFUSED' || code === 'ENOENT') next(at + 1);
      else done(code, []);
    });
  };
  next(0);
}

/** Connects to a socket; null when somebody listens. */
function probe(path: string, done: (code: string | null) => void): void {
  const socket = connect({ path });
  const ended = (code: string | null): void => {
    socket.removeAllListeners().on('error', () => {});
    socket.destroy();
    done(code);
  };
  socket.once('connect', () => ended(null));
  socket.once('error', (error: NodeJS.ErrnoException) => ended(error.code ?? 'unknown'));
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Gone already, or nothing to be done: what is dead keeps nobody out.
  }
}
