/**
 * One process a disk directory. Node has no flock(2), and a lock file outlives a SIGKILL; a
 * listening socket does not. Two sockets: one in the abstract namespace, named by the directory's
 * device and inode, which the kernel frees with the process; and `lock` in the directory itself,
 * which also holds across network namespaces (containers that share the directory): if somebody
 * accepts there, the disk is in use.
 */
import {
  closeSync,
  constants,
  openSync,
  readlinkSync,
  renameSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { HoldfastError } from '../../core/errors.js';

const LOCK = 'lock';

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
        // Node unlinks `lock` when it closes the server.
        inner.close();
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
  server.once('error', (error: NodeJS.ErrnoException) => done(error.code ?? 'unknown', null));
  server.listen({ path, exclusive: true }, () => {
    server.unref();
    done(null, server);
  });
}

/** Listens on `lock` in the directory, after making sure that nobody does. */
function lockInside(
  directory: string,
  fd: number,
  done: (error: HoldfastError | null, server: Server | null) => void,
): void {
  // A socket's path may have 107 bytes; the directory's own may be longer.
  const short = `/proc/self/fd/${fd}`;
  const base = process.platform === 'linux' && readlinkSync(short) !== '' ? short : directory;
  const path = join(base, LOCK);
  const bind = (): void => {
    listen(path, (code, server) => {
      if (server !== null) done(null, server);
      else done(code === 'EADDRINUSE' ? inUse(directory) : failed(directory, code), null);
    });
  };
  const probe = connect({ path });
  probe.once('connect', () => {
    probe.destroy();
    done(inUse(directory), null);
  });
  probe.once('error', (error: NodeJS.ErrnoException) => {
    probe.destroy();
    if (error.code === 'ENOENT') return bind();
    if (error.code !== 'ECONNREFUSED') return done(failed(directory, error.code ?? null), null);
    try {
      // Left by a process that was killed.
      renameSync(path, `${path}.old`);
      unlinkSync(`${path}.old`);
    } catch {
      // Somebody else was faster; binding tells.
    }
    bind();
  });
}
