/**
 * The real FuseMounts: /dev/fuse, mount(8), umount(8), /proc/self/mountinfo and the kernel's
 * read-ahead setting. Commands run as children with a time limit and never through a shell; while
 * one runs, the event loop goes on, since umount may wait for requests that this very process
 * serves.
 */
import { spawn } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { HoldfastError } from '../../core/errors.js';
import type { CommandResult, FuseDescriptor, FuseMounts, MountEntry } from '../fuse-device.js';

const DEVICE = '/dev/fuse';
const MESSAGE_MAX = 2_000;
/** fusectl: a directory for each connection, named by the device number of its filesystem. */
const CONNECTIONS = '/sys/fs/fuse/connections';
const MINOR_BITS = 20;
const FUSECTL_TIMEOUT_MS = 5_000;

export class NodeFuseMounts implements FuseMounts {
  effectiveUid(): number {
    return process.geteuid?.() ?? -1;
  }

  open(): FuseDescriptor {
    try {
      return { fd: openSync(DEVICE, constants.O_RDWR | constants.O_NONBLOCK) };
    } catch (thrown) {
      throw openFault(thrown as NodeJS.ErrnoException);
    }
  }

  closeDescriptor(descriptor: FuseDescriptor): void {
    closeSync(descriptor.fd);
  }

  table(pid?: number): MountEntry[] {
    const who = pid ?? 'self';
    try {
      return parseMountTable(readFileSync(`/proc/${who}/mountinfo`, 'latin1'));
    } catch (cause) {
      throw new HoldfastError('NOT_FOUND', `there is no process ${who}`, { cause });
    }
  }

  processes(): number[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  }

  resolve(path: string): string {
    const absolute = resolve(path);
    if (absolute === '/') return absolute;
    const linked = targetOf(absolute);
    if (linked !== null) return linked;
    try {
      return join(realpathSync(dirname(absolute)), basename(absolute));
    } catch (thrown) {
      const message = `there is no directory ${dirname(absolute)}`;
      throw new HoldfastError('NOT_FOUND', message, { cause: thrown });
    }
  }

  kind(path: string): 'directory' | 'other' | 'missing' {
    try {
      return statSync(path).isDirectory() ? 'directory' : 'other';
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return 'missing';
      const message = `${path} cannot be used: ${(thrown as Error).message}`;
      throw new HoldfastError('UNAVAILABLE', message, { cause: thrown });
    }
  }

  mount(
    args: readonly string[],
    descriptor: FuseDescriptor,
    timeoutMs: number,
  ): Promise<CommandResult> {
    return run('mount', args, timeoutMs, descriptor.fd);
  }

  umount(args: readonly string[], timeoutMs: number): Promise<CommandResult> {
    return run('umount', args, timeoutMs, undefined);
  }

  async abort(device: string): Promise<boolean> {
    const [major = 0, minor = 0] = device.split(':').map(Number);
    const file = join(CONNECTIONS, String(major * 2 ** MINOR_BITS + minor), 'abort');
    if (!existsSync(file)) {
      // Usually mounted by the init system, but not in every container.
      await run('mount', ['-t', 'fusectl', 'fusectl', CONNECTIONS], FUSECTL_TIMEOUT_MS, undefined);
    }
    try {
      writeFileSync(file, '1');
      return true;
    } catch {
      return false;
    }
  }

  setReadahead(device: string, kib: number): boolean {
    try {
      writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, String(kib));
      return true;
    } catch {
      return false;
    }
  }
}

function openFault(cause: NodeJS.ErrnoException): HoldfastError {
  if (cause.code === 'ENOENT' || cause.code === 'ENODEV' || cause.code === 'ENXIO') {
    const hint = 'Load it with "modprobe fuse"; a container needs --device /dev/fuse.';
    return new HoldfastError('NOT_FOUND', `this kernel offers no ${DEVICE}`, { hint, cause });
  }
  const hint = 'Run as root; a container also needs --device /dev/fuse and --cap-add SYS_ADMIN.';
  const message = `${DEVICE} cannot be opened: ${cause.message}`;
  return new HoldfastError('UNAVAILABLE', message, { hint, cause });
}

/** Runs a command; `fd`, if given, becomes the child's descriptor 3. */
function run(
  command: string,
  args: readonly string[],
  timeoutMs: number,
  fd: number | undefined,
): Promise<CommandResult> {
  return new Promise((done) => {
    const child = spawn(command, args, {
      stdio: ['ignore', 'ignore', 'pipe', ...(fd === undefined ? [] : [fd])],
      env: { ...process.env, LC_ALL: 'C' },
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    let message = '';
    child.stderr?.on('data', (data: Buffer) => {
      message = (message + data.toString()).slice(0, MESSAGE_MAX);
    });
    child.on('error', (error) => done({ status: null, message: error.message }));
    child.on('close', (status) => {
      const what = status === null ? `${command} did not end in ${timeoutMs / 1000} s` : '';
      done({ status, message: [message.trim(), what].filter((text) => text !== '').join('; ') });
    });
  });
}

/** Space, tab, newline and backslash are written as octal numbers. */
function plain(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

/**
 * The kernel's table of mounts as /proc/self/mountinfo has it (proc(5)). Lines that do not have the
 * form are left out. `text` has one character a byte; paths come back as UTF-8 text.
 */
export function parseMountTable(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const [before, after] = line.split(' - ');
    const [, , device, root, mountPoint, options] = (before ?? '').split(' ');
    const [type, source] = (after ?? '').split(' ');
    if (device === undefined || mountPoint === undefined || type === undefined) continue;
    entries.push({
      mountPoint: asText(plain(mountPoint)),
      type,
      source: asText(plain(source ?? '')),
      device,
      root: asText(plain(root ?? '')),
      readOnly: (options ?? '').split(',').includes('ro'),
    });
  }
  return entries;
}

function asText(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

/**
 * Where a symbolic link leads; null: it is none, or leads nowhere. readlink(2) of a mount point
 * asks no daemon, and so does not hang with one.
 */
function targetOf(path: string): string | null {
  try {
    readlinkSync(path);
    return realpathSync.native(path);
  } catch {
    return null;
  }
}
