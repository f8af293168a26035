/** One loop device over a file, whoever attaches: with the machine's own losetup(8). */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type Test, test } from 'tap';
import type { VolumeId } from '../../src/core/ids.js';
import type { CommandOutput, MachineCommands } from '../../src/io/machine-commands.js';
import { nodeClock } from '../../src/io/node/clock.js';
import { NodeMachineCommands } from '../../src/io/node/machine-commands.js';
import {
  attachLoop,
  blockFile,
  detachLoop,
  ensureFilesystem,
  forgetFormat,
  type LoopDevice,
  listLoops,
} from '../../src/lifecycle/loop-devices.js';

const commands = new NodeMachineCommands();
const ID = 'ab'.repeat(16) as VolumeId;

function cannotAttach(): string | false {
  if (process.getuid?.() !== 0) return 'loop devices need root';
  return spawnSync('losetup', ['--find']).status === 0 ? false : 'there are no loop devices here';
}

const skip = cannotAttach();

async function devicesOf(file: string): Promise<string[]> {
  return (await listLoops(commands)).filter((one) => one.file === file).map((one) => one.device);
}

/** A file like that of a block volume, and an end for whatever is attached to it. */
function blockVolume(t: Test, sizeBytes = 2 ** 20): string {
  const root = mkdtempSync(join(tmpdir(), 'hf-loops-'));
  const file = blockFile(root, ID);
  writeFileSync(file, '');
  truncateSync(file, sizeBytes);
  t.teardown(async () => {
    for (const device of await devicesOf(file)) spawnSync('losetup', ['--detach', device]);
    rmSync(root, { recursive: true });
  });
  return file;
}

test('many that attach at once get one device', { skip }, async (t) => {
  const file = blockVolume(t);
  const all = await Promise.all(
    Array.from({ length: 30 }, () => attachLoop(commands, file, false)),
  );
  const [first, ...others] = await devicesOf(file);
  t.same(others, []);
  t.same(new Set(all.map(({ device }) => device)), new Set([first]));
});

test('all devices over the file of a volume go with it', { skip }, async (t) => {
  const file = blockVolume(t);
  const loop = await attachLoop(commands, file, false);
  for (const _ of [1, 2]) spawnSync('losetup', ['--find', file]);
  t.equal((await devicesOf(file)).length, 3, 'as an older program may have left them');
  await detachLoop(commands, nodeClock, loop);
  t.same(await devicesOf(file), []);
});

test('who looks at a device for a moment holds nobody up, who keeps it does', {
  skip,
}, async (t) => {
  const file = blockVolume(t);
  const loop = await attachLoop(commands, file, false);
  const held = openSync(loop.device, 'r');
  const late = setTimeout(() => closeSync(held), 700);
  t.teardown(() => clearTimeout(late));
  await detachLoop(commands, nodeClock, loop);
  t.same(await devicesOf(file), []);
  const again = await attachLoop(commands, file, false);
  const kept = openSync(again.device, 'r');
  await t.rejects(detachLoop(commands, nodeClock, again), { code: 'BUSY' });
  closeSync(kept);
});

const MIB = 2 ** 20;
const OUR_UUID = 'abababab-abab-abab-abab-abababababab';

/** A blank device with `sizeBytes`, and whether the marker of a format stands beside its file. */
async function blank(t: Test, sizeBytes: number): Promise<[LoopDevice, string]> {
  const file = blockVolume(t, sizeBytes);
  return [await attachLoop(commands, file, false), join(dirname(file), 'formatting')];
}

function sh(command: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
  return stdout.trim();
}

/** One program is missing, or does as told. */
function withProgram(
  name: string,
  run: (args: readonly string[]) => Promise<CommandOutput>,
): MachineCommands {
  return new Proxy(commands, {
    get(target, property: keyof MachineCommands) {
      if (property !== 'run') return target[property].bind(target);
      return (command: string, args: readonly string[], timeoutMs: number) =>
        command === name ? run(args) : target.run(command, args, timeoutMs);
    },
  });
}

test('an mkfs that cannot run, or refuses, leaves no marker behind', { skip }, async (t) => {
  const [loop, marker] = await blank(t, MIB);
  const missing = withProgram('mkfs.xfs', async () => {
    return { status: null, stdout: '', stderr: 'mkfs.xfs cannot be run: ENOENT' };
  });
  await t.rejects(ensureFilesystem(missing, loop, 'xfs'), { code: 'UNAVAILABLE' });
  t.notOk(existsSync(marker));
  await t.rejects(ensureFilesystem(commands, loop, 'xfs'), { code: 'INVALID_ARGUMENT' });
  t.notOk(existsSync(marker), 'too small');
});

test('a format that was cut off is begun again', { skip }, async (t) => {
  const [loop, marker] = await blank(t, 32 * MIB);
  const killed = withProgram('mkfs.ext4', async (args) => {
    if (args.includes('-V')) return { status: 0, stdout: '', stderr: '' };
    sh('dd', 'if=/dev/urandom', `of=${loop.device}`, 'bs=4096', 'seek=9', 'count=9', 'conv=fsync');
    return { status: null, stdout: '', stderr: 'mkfs.ext4 did not end' };
  });
  await t.rejects(ensureFilesystem(killed, loop, 'ext4'), { code: 'UNAVAILABLE' });
  t.ok(existsSync(marker));
  await ensureFilesystem(commands, loop, 'ext4');
  t.notOk(existsSync(marker));
  t.equal(sh('blkid', '-p', '-o', 'value', '-s', 'UUID', loop.device), OUR_UUID);
  writeFileSync(marker, '');
  const before = sh('dumpe2fs', '-h', loop.device);
  await ensureFilesystem(commands, loop, 'ext4');
  t.not(sh('dumpe2fs', '-h', loop.device), before, 'with its marker it may be half of one');
});

test('a stale marker costs nobody a filesystem', { skip }, async (t) => {
  const [loop, marker] = await blank(t, 32 * MIB);
  sh('mkfs.ext4', '-q', '-F', loop.device);
  const before = sh('blkid', '-p', loop.device);
  writeFileSync(marker, '');
  await ensureFilesystem(commands, loop, 'ext4');
  t.notOk(existsSync(marker));
  writeFileSync(marker, '');
  await t.rejects(ensureFilesystem(commands, loop, 'xfs'), { code: 'ALREADY_EXISTS' });
  t.notOk(existsSync(marker));
  t.equal(sh('blkid', '-p', loop.device), before);
});

test('who writes to a device by himself loses nothing to a format', { skip }, async (t) => {
  const [loop, marker] = await blank(t, 32 * MIB);
  writeFileSync(marker, '');
  for (const _ of [1, 2]) await forgetFormat(commands, loop.file);
  t.notOk(existsSync(marker));
  sh('dd', 'if=/dev/urandom', `of=${loop.device}`, 'bs=4096', 'count=1', 'conv=fsync');
  await t.rejects(ensureFilesystem(commands, loop, 'ext4'), { code: 'INCONSISTENT' });
});
