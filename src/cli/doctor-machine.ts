/** What this machine must have: for running at all, for nodes, and for mounts. */
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, statfsSync } from 'node:fs';
import { release } from 'node:os';
import { dirname } from 'node:path';
import { HoldfastError } from '../core/errors.js';
import { formatSize } from '../core/sizes.js';
import { MIB } from '../core/units.js';
import { MOUNT_TYPE } from '../fuse/launcher.js';
import type { MountStatus } from '../lifecycle/mount-types.js';
import { listMounts } from '../lifecycle/mounts.js';
import { type Finding, note, ok, problem } from './findings.js';
import { mountDeps } from './machine.js';

/** zlib.crc32 came with it. */
const NODE_LEAST = [20, 15] as const;
/** FUSE_NOTIFY_RESEND: what a killed daemon had in its hands is given to its successor. */
const KERNEL_RESEND = [6, 9] as const;
/** Disks hold up to 256 files open, and each client is a connection. */
const OPEN_FILES_LEAST = 4096;
/** For some mounts more, and what their daemons leave for each other. */
const RUN_FREE_LEAST = 8 * MIB;
const CAP_SYS_ADMIN = 21n;
const COMMAND_TIMEOUT_MS = 5_000;

export async function checkMachine(): Promise<Finding[]> {
  return [
    checkNodeVersion(process.versions.node),
    ...checkLimits(readFileSync('/proc/self/limits', 'utf8')),
    ...checkFuse(),
    checkKernel(release()),
    checkRunDirectory(dirname(mountDeps(process.env).host.state.path(''))),
    ...(await checkMounts()),
  ];
}

/** Whether "6.12.3-amd64" is at least 6.9. */
export function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [, a = '0', b = '0'] = /^v?(\d+)\.(\d+)/.exec(version) ?? [];
  return Number(a) > major || (Number(a) === major && Number(b) >= minor);
}

export function checkNodeVersion(version: string): Finding {
  if (isAtLeast(version, NODE_LEAST)) return ok('node.js', `Node.js ${version}`);
  const advice = `Install Node.js ${NODE_LEAST.join('.')} or newer.`;
  return problem('node.js', `Node.js ${version} is too old`, advice);
}

export function checkKernel(version: string): Finding {
  if (isAtLeast(version, KERNEL_RESEND)) return ok('kernel', `Linux ${version}`);
  const message = `Linux ${version}: calls under way fail when a mount's daemon is killed`;
  const advice = 'Use Linux 6.9 or newer where volumes are mounted (FUSE resend).';
  return problem('kernel', message, advice);
}

/** `text`: /proc/self/limits. Node.js has raised its soft limit as far as it may. */
export function checkLimits(text: string): Finding[] {
  const found = /^Max open files\s+(\d+|unlimited)/m.exec(text)?.[1];
  if (found === undefined) return [note('open files', 'the limit is not known')];
  const most = found === 'unlimited' ? Number.POSITIVE_INFINITY : Number(found);
  if (most >= OPEN_FILES_LEAST) return [ok('open files', `up to ${found}`)];
  const advice = 'Set LimitNOFILE=65536 in the unit, or "ulimit -Hn 65536" before starting.';
  return [problem('open files', `at most ${found}, nodes need ${OPEN_FILES_LEAST}`, advice)];
}

/** The state of mounts stands there, and what they were told and have not yet committed. */
export function checkRunDirectory(path: string): Finding {
  if (!existsSync(path) && path !== '/') return checkRunDirectory(dirname(path));
  const { bavail, bsize, files, ffree } = statfsSync(path);
  const free = formatSize(bavail * bsize);
  const hasRoom = bavail * bsize >= RUN_FREE_LEAST && (files === 0 || ffree > 0);
  if (hasRoom) return ok('run directory', `${path} has ${free} left`);
  const what = ffree > 0 ? `${free} left` : 'no room for another file';
  const message = `${path} has ${what}: volumes cannot be mounted, nor a mount be taken over`;
  return problem('run directory', message, `Make room there: df -h ${path}.`);
}

function checkFuse(): Finding[] {
  if (process.geteuid?.() !== 0) {
    const advice = 'Run it as root to see whether volumes can be mounted here.';
    return [note('root', 'not root: nodes and commands work, mounting does not', advice)];
  }
  return [
    checkCapabilities(readFileSync('/proc/self/status', 'utf8')),
    checkDevice(),
    ...['mount', 'umount'].map(checkProgram),
  ];
}

/** `text`: /proc/self/status. */
export function checkCapabilities(text: string): Finding {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(text)?.[1] ?? '0';
  const has = ((BigInt(`0x${effective}`) >> CAP_SYS_ADMIN) & 1n) === 1n;
  if (has) return ok('root', 'root, and may mount');
  const advice = 'In a container: --cap-add SYS_ADMIN --device /dev/fuse, or --privileged.';
  return problem('root', 'root without CAP_SYS_ADMIN cannot mount', advice);
}

function checkDevice(): Finding {
  try {
    closeSync(openSync('/dev/fuse', 'r+'));
    return ok('/dev/fuse', 'can be opened');
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    const advice = '"modprobe fuse"; in a container: --device /dev/fuse.';
    return problem('/dev/fuse', `cannot be opened: ${code}`, advice);
  }
}

function checkProgram(name: string): Finding {
  const check = `${name}(8)`;
  const found = spawnSync(name, ['--version'], { encoding: 'utf8', timeout: COMMAND_TIMEOUT_MS });
  const version = /util-linux [\d.]+/.exec(`${found.stdout}${found.stderr}`)?.[0];
  if (found.error === undefined && version !== undefined) return ok(check, version);
  const advice = `Install the package "mount" (util-linux).`;
  return problem(check, `is ${found.error === undefined ? 'another one' : 'missing'}`, advice);
}

async function checkMounts(): Promise<Finding[]> {
  const deps = mountDeps(process.env);
  let ours: MountStatus[];
  try {
    ours = await listMounts(deps);
  } catch (thrown) {
    if (!(thrown instanceof HoldfastError)) throw thrown;
    const { message, hint = 'See docs/MOUNT.md.' } = thrown;
    // Their state is for root alone: what else there is can be looked at all the same.
    const isRoot = process.geteuid?.() === 0;
    return [isRoot ? problem('mounts', message, hint) : note('mounts', message, hint)];
  }
  const bad = ours.flatMap(({ directory, volume, state, logFile, live }) => {
    const what = `${directory} (${volume})`;
    const advice = `See ${logFile}; "holdfast umount ${directory}" clears it.`;
    if (state === 'dead') return [problem('mounts', `${what} is left of a dead daemon`, advice)];
    if (state === 'unresponsive') return [problem('mounts', `${what} does not answer`, advice)];
    if (state !== 'failed') return [];
    return [problem('mounts', `${what} has failed: ${live?.detail ?? 'see its log'}`, advice)];
  });
  const known = new Set(ours.map(({ directory }) => directory));
  const stray = deps.host.mounts
    .table()
    .filter(({ type, mountPoint }) => type === MOUNT_TYPE && !known.has(mountPoint))
    .map(({ mountPoint }) => {
      const advice = `If no other program serves it: umount -l ${mountPoint}`;
      return note('mounts', `${mountPoint} is mounted, and nothing is known of it here`, advice);
    });
  const all = [...bad, ...stray];
  return all.length > 0 ? all : [ok('mounts', `${ours.length} here`)];
}
