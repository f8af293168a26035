/**
 * Block volumes as devices: loop devices over the one file of a volume, with direct I/O, so that a
 * flush of the device is an fsync of the file and nothing is cached twice. Which device belongs to
 * which volume is read from the kernel; the file's name is the volume's id, which is seen there
 * even when the mount below it is gone.
 *
 * INVARIANT: a file has one loop device at most (two would not see each other's writes).
 * INVARIANT: a device is formatted only when nothing was ever written to it, or when a former
 * format was begun and not ended. Whatever cannot be told counts as data.
 * INVARIANT: no marker of a format stands beside a device that anybody else may write to. As a
 * belt, a filesystem without the UUID that our formats give is not ours to format again.
 */
import { z } from 'zod';
import { HoldfastError, invalid, malformed } from '../core/errors.js';
import { isId, type VolumeId } from '../core/ids.js';
import { PAGE_BYTES } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { CommandOutput, MachineCommands } from '../io/machine-commands.js';
import type { BlockFilesystem } from './volume-types.js';

const COMMAND_MS = 30_000;
const FORMAT_MS = 90_000;
const SUFFIX = '.block';
/** Beside the file while a format is under way. */
const FORMATTING = 'formatting';
/** What blkid says when it knows nothing of what it saw. */
const BLKID_NOTHING = 2;
/** Who else attaches is a program of a driver that died: it ends by itself. */
const TURN_SECONDS = 20;
const NO_TURN = 75;
/** Udev and blkid open a device when somebody has closed it, and close it after a moment. */
const LOOKERS_MS = 5_000;
const POLL_MS = 100;
/** Below it, what e2fsck found is repaired. */
const E2FSCK_UNREPAIRED = 4;

export interface LoopDevice {
  /** /dev/loop3 */
  readonly device: string;
  /** As in the table of mounts. */
  readonly number: string;
  readonly id: VolumeId;
  /** As the kernel names it now. */
  readonly file: string;
  readonly readOnly: boolean;
}

const listing = z.object({
  loopdevices: z.array(
    z.object({
      name: z.string(),
      'maj:min': z.string(),
      'back-file': z.string().nullable(),
      ro: z.boolean(),
    }),
  ),
});

/** The file of a block volume, below its mount. */
export function blockFile(directory: string, id: VolumeId): string {
  return `${directory}/${id}${SUFFIX}`;
}

/** All loop devices over files of volumes. */
export async function listLoops(
  commands: MachineCommands,
  limitMs = COMMAND_MS,
): Promise<LoopDevice[]> {
  const args = ['--list', '--json', '--output', 'NAME,MAJ:MIN,BACK-FILE,RO'];
  const { status, stdout, stderr } = await commands.run('losetup', args, limitMs);
  if (status !== 0) throw failed('the loop devices cannot be listed', stderr);
  // With no loop device at all it says nothing.
  if (stdout.trim() === '') return [];
  const parsed = listing.safeParse(parseJson(stdout));
  if (!parsed.success) throw malformed('losetup said something that cannot be understood');
  return parsed.data.loopdevices.flatMap((one) => {
    const file = (one['back-file'] ?? '').replace(/ \(deleted\)$/, '');
    const name = file.slice(file.lastIndexOf('/') + 1);
    const id = name.endsWith(SUFFIX) ? name.slice(0, -SUFFIX.length) : '';
    if (!isId(id)) return [];
    const number = one['maj:min'].trim();
    return [{ device: one.name, number, id: id as VolumeId, file, readOnly: one.ro }];
  });
}

/** Makes the file as large as the volume; never smaller. */
export async function sizeFile(
  commands: MachineCommands,
  file: string,
  sizeBytes: number,
): Promise<void> {
  const size = String(sizeBytes - (sizeBytes % PAGE_BYTES));
  const { status, stderr } = await commands.run('truncate', ['-s', `>${size}`, file], COMMAND_MS);
  if (status !== 0) throw failed(`${file} cannot be made`, stderr);
}

/**
 * The device over `file`, attached now or before. Whoever attaches does so alone: losetup looks for
 * a device over the file and makes one in two steps, and what a dead driver began may go on.
 */
export async function attachLoop(
  commands: MachineCommands,
  file: string,
  readOnly: boolean,
): Promise<LoopDevice> {
  const args = [
    ...['--wait', String(TURN_SECONDS), '--conflict-exit-code', String(NO_TURN), file, 'losetup'],
    ...['--find', '--show', '--nooverlap', '--direct-io=on'],
    ...['--sector-size', String(PAGE_BYTES), ...(readOnly ? ['--read-only'] : []), file],
  ];
  const { status, stderr } = await commands.run('flock', args, COMMAND_MS);
  if (status === NO_TURN) {
    const message = `somebody else is attaching ${file}`;
    throw new HoldfastError('BUSY', message, { retryable: true, hint: 'Try again.' });
  }
  if (status !== 0) throw failed(`no loop device for ${file}`, stderr);
  const found = (await listLoops(commands)).find((one) => one.file === file);
  if (found !== undefined) return found;
  throw new HoldfastError('UNAVAILABLE', `the loop device of ${file} was detached again at once`);
}

/**
 * With any other device over its file. Throws BUSY when somebody keeps it open: the kernel then
 * detaches it with its last user. Whoever only looks at it, as udev does, is waited for.
 */
export async function detachLoop(
  commands: MachineCommands,
  clock: Clock,
  { device: first, file }: LoopDevice,
): Promise<void> {
  for (let device: string | undefined = first; device !== undefined; ) {
    const { status, stderr } = await commands.run('losetup', ['--detach', device], COMMAND_MS);
    const deadline = clock.monotonic() + LOOKERS_MS;
    let left = await loopsOver(commands, file);
    while (left.includes(device)) {
      if (status !== 0) throw failed(`${device} cannot be detached`, stderr);
      if (clock.monotonic() >= deadline) {
        const hint = `See who with "fuser -v ${device}".`;
        throw new HoldfastError('BUSY', `${device} is in use`, { hint });
      }
      await new Promise<void>((resolve) => clock.after(POLL_MS, resolve));
      left = await loopsOver(commands, file);
    }
    device = left[0];
  }
}

/** Without waiting: it goes with its last user, if it has any. */
export async function letGo(
  commands: MachineCommands,
  { device }: LoopDevice,
  limitMs = COMMAND_MS,
): Promise<void> {
  await commands.run('losetup', ['--detach', device], limitMs);
}

/**
 * MAJOR:MINOR of the filesystem that a device's file is on, whatever its path says; null when that
 * answers nothing any more.
 */
export async function filesystemBelow(
  commands: MachineCommands,
  { device }: LoopDevice,
): Promise<string | null> {
  const args = ['--list', '--noheadings', '--output', 'BACK-MAJ:MIN', device];
  const { status, stdout, stderr } = await commands.run('losetup', args, COMMAND_MS);
  if (status === null) throw failed(`${device} cannot be looked at`, stderr);
  return /^\d+:\d+$/.exec(stdout.trim())?.[0] ?? null;
}

async function loopsOver(commands: MachineCommands, file: string): Promise<string[]> {
  const all = await listLoops(commands);
  return all.filter((one) => one.file === file).map(({ device }) => device);
}

/** Lets a device see how large its file is now, then the filesystem on it, if any. */
export async function growLoop(
  commands: MachineCommands,
  { device }: LoopDevice,
  mounted: { readonly directory: string; readonly type: string } | null,
): Promise<void> {
  const grown = await commands.run('losetup', ['--set-capacity', device], COMMAND_MS);
  if (grown.status !== 0) throw failed(`${device} cannot grow`, grown.stderr);
  if (mounted === null) return;
  const [command, target] =
    mounted.type === 'xfs' ? ['xfs_growfs', mounted.directory] : ['resize2fs', device];
  const { status, stderr } = await commands.run(command, [target], FORMAT_MS);
  if (status === 0) return;
  const fault = failed(`the filesystem on ${device} cannot grow`, stderr);
  if (!/permission denied|not permitted/i.test(stderr)) throw fault;
  const hint = 'It needs the capabilities SYS_ADMIN and, for ext4, SYS_RESOURCE.';
  throw new HoldfastError('UNAVAILABLE', fault.message, { hint });
}

/** An ext4 that is mounted nowhere grows to the size of its device, for which it is checked. */
export async function growUnmounted(
  commands: MachineCommands,
  { device }: LoopDevice,
): Promise<void> {
  const checked = await commands.run('e2fsck', ['-f', '-p', device], FORMAT_MS);
  if (checked.status === null || checked.status >= E2FSCK_UNREPAIRED) {
    throw failed(`the filesystem on ${device} needs a repair by hand`, checked.stderr);
  }
  const { status, stderr } = await commands.run('resize2fs', [device], FORMAT_MS);
  if (status !== 0) throw failed(`the filesystem on ${device} cannot grow`, stderr);
}

/**
 * Makes sure that a filesystem of this type is on the device, and makes one when the device is
 * blank. INCONSISTENT: something else is on it, or nobody can tell what; ALREADY_EXISTS: another
 * filesystem.
 */
export async function ensureFilesystem(
  commands: MachineCommands,
  loop: LoopDevice,
  type: BlockFilesystem,
): Promise<void> {
  const { device, file, id, readOnly } = loop;
  const marker = markerOf(file);
  let wasBegun = commands.kind(marker) === 'file';
  const found = await probe(commands, device);
  if (wasBegun && found !== null && found.uuid !== uuidOf(id)) {
    if (!readOnly) await forgetFormat(commands, file);
    wasBegun = false;
  }
  // With our UUID and the marker it is a format that was cut off, or one that nobody has used yet.
  if (found !== null && !wasBegun) {
    if (found.type === type) return;
    const message = `${device} holds "${found.type}", not ${type}: it stays as it is`;
    throw new HoldfastError('ALREADY_EXISTS', message, { hint: 'Name its own filesystem.' });
  }
  if (!wasBegun && !(await wasNeverWritten(commands, file))) {
    const message = `${device} holds data that is no filesystem: it is not formatted`;
    const hint = 'Use it as a raw device, or make a filesystem on it by hand.';
    throw new HoldfastError('INCONSISTENT', message, { hint });
  }
  await format(commands, loop, type);
}

/**
 * What is on a device from now on is its users': a format that was cut off is not to be begun
 * again over that. Done when it is durable. By programs: the mount below may not answer just now.
 */
export async function forgetFormat(commands: MachineCommands, file: string): Promise<void> {
  const marker = markerOf(file);
  const args = ['-f', '-v', '--', marker];
  const { status, stdout, stderr } = await commands.run('rm', args, COMMAND_MS);
  if (status !== 0) throw failed(`${marker} cannot be removed`, stderr);
  if (stdout.trim() !== '') await flush(commands, directoryOf(file));
}

function markerOf(file: string): string {
  return `${directoryOf(file)}/${FORMATTING}`;
}

function directoryOf(file: string): string {
  return file.slice(0, file.lastIndexOf('/'));
}

/** Of the filesystems that are made here: whoever made another one wants to keep it. */
function uuidOf(id: VolumeId): string {
  return id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

interface OnDevice {
  readonly type: string;
  readonly uuid: string | null;
}

/** Null: blkid looked, and knows nothing of what it saw. */
async function probe(commands: MachineCommands, device: string): Promise<OnDevice | null> {
  const args = ['--probe', '--output', 'export', device];
  const { status, stdout, stderr } = await commands.run('blkid', args, COMMAND_MS);
  if (status === BLKID_NOTHING) return null;
  const type = /^(?:TYPE|PTTYPE)=(.+)$/m.exec(stdout)?.[1];
  const uuid = /^UUID=(.+)$/m.exec(stdout)?.[1] ?? null;
  if (status === 0 && type !== undefined) return { type, uuid };
  const message = `nobody can tell what is on ${device}: ${stderr || `blkid ended with ${status}`}`;
  throw new HoldfastError('INCONSISTENT', message, { hint: 'It is not formatted.' });
}

/** A file that has no block of its own holds nothing. */
async function wasNeverWritten(commands: MachineCommands, file: string): Promise<boolean> {
  const { status, stdout, stderr } = await commands.run('stat', ['-c', '%b', file], COMMAND_MS);
  if (status !== 0) throw failed(`${file} cannot be looked at`, stderr);
  return stdout.trim() === '0';
}

async function format(
  commands: MachineCommands,
  { device, file, id }: LoopDevice,
  type: BlockFilesystem,
): Promise<void> {
  const mkfs = `mkfs.${type}`;
  const version = await commands.run(mkfs, ['-V'], COMMAND_MS);
  if (version.status !== 0) throw failed(`no ${type} can be made on ${device}`, version.stderr);
  const marker = markerOf(file);
  commands.makeFile(marker);
  await flush(commands, marker);
  const named = type === 'ext4' ? ['-m', '0', '-U', uuidOf(id)] : ['-m', `uuid=${uuidOf(id)}`];
  const options = ['-q', type === 'ext4' ? '-F' : '-f', ...named];
  const { status, stderr } = await commands.run(mkfs, [...options, device], FORMAT_MS);
  if (status === 0) {
    await flush(commands, device);
    return commands.removeEmpty(marker);
  }
  // One that was killed may still write what the kernel has of it; one that ended does not.
  if (status !== null && (await wasNeverWritten(commands, file))) {
    await forgetFormat(commands, file);
  }
  // What mkfs refuses from the start is the caller's to change; all else may go better later.
  if (status !== null && /too small|must be (?:at least|larger)/i.test(stderr)) {
    throw invalid(`no ${type} can be made on ${device}: ${oneLine(stderr)}`);
  }
  throw failed(`no ${type} could be made on ${device}`, stderr);
}

async function flush(commands: MachineCommands, path: string): Promise<void> {
  const { status, stderr } = await commands.run('sync', [path], COMMAND_MS);
  if (status !== 0) throw failed(`${path} cannot be flushed`, stderr);
}

export function failed(what: string, why: CommandOutput['stderr']): HoldfastError {
  return new HoldfastError('UNAVAILABLE', `${what}: ${oneLine(why)}`);
}

function oneLine(text: string): string {
  return text.trim().replace(/\s+/g, ' ');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
