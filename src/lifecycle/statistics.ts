/**
 * How full a volume is. Of a FUSE mount its daemon tells, over its socket: a mount whose daemon
 * hangs is not touched. Of a filesystem on a device the kernel tells, asked by a child.
 */
import { HoldfastError } from '../core/errors.js';
import type { MachineCommands } from '../io/machine-commands.js';
import type { Found } from './here.js';
import { failed } from './loop-devices.js';
import type { VolumeStats } from './volume-types.js';

const STAT_MS = 5_000;

/** `where` is one of its directory, its device and its targets. */
export async function statsOf(
  commands: MachineCommands,
  found: Found,
  where: string,
): Promise<VolumeStats> {
  const { id, name, condition, mount, loop, kind } = found;
  const known = { id, name, condition };
  const { live } = mount;
  if (kind === 'filesystem') {
    if (live === null) throw noAnswer(name, condition.message);
    const { sizeBytes, usedBytes, files, freeFiles } = live;
    const availableBytes = Math.max(0, sizeBytes - usedBytes);
    const bytes = { totalBytes: sizeBytes, usedBytes, availableBytes };
    const inodes = {
      totalInodes: files + freeFiles,
      usedInodes: files,
      availableInodes: freeFiles,
    };
    return { ...known, ...bytes, ...inodes };
  }
  const isFilesystem = found.entries.some(({ mountPoint, device }) => {
    return mountPoint === where && device === loop?.number;
  });
  if (isFilesystem) return { ...known, ...(await filesystemStats(commands, where)) };
  const totalBytes = live?.sizeBytes ?? 0;
  const usedBytes = live?.usedBytes ?? 0;
  const bytes = { totalBytes, usedBytes, availableBytes: Math.max(0, totalBytes - usedBytes) };
  return { ...known, ...bytes, totalInodes: null, usedInodes: null, availableInodes: null };
}

async function filesystemStats(commands: MachineCommands, where: string) {
  const args = ['--file-system', '--format', '%S %b %f %a %c %d', where];
  const { status, stdout, stderr } = await commands.run('stat', args, STAT_MS);
  const numbers = stdout.trim().split(' ').map(Number);
  const [unit = 0, blocks = 0, free = 0, available = 0, inodes = 0, freeInodes = 0] = numbers;
  if (status !== 0 || numbers.length !== 6) throw failed(`${where} cannot be asked`, stderr);
  return {
    totalBytes: blocks * unit,
    usedBytes: (blocks - free) * unit,
    availableBytes: available * unit,
    totalInodes: inodes,
    usedInodes: inodes - freeInodes,
    availableInodes: freeInodes,
  };
}

function noAnswer(name: string, why: string): HoldfastError {
  return new HoldfastError('UNAVAILABLE', `"${name}" cannot be asked: ${why}`, { retryable: true });
}
