/** One loop device over a file, whoever attaches: with the machine's own losetup(8). */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import type { VolumeId } from '../../src/core/ids.js';
import { nodeClock } from '../../src/io/node/clock.js';
import { NodeMachineCommands } from '../../src/io/node/machine-commands.js';
import { attachLoop, blockFile, detachLoop, listLoops } from '../../src/lifecycle/loop-devices.js';

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
function blockVolume(t: Test): string {
  const root = mkdtempSync(join(tmpdir(), 'hf-loops-'));
  const file = blockFile(root, ID);
  writeFileSync(file, '');
  truncateSync(file, 2 ** 20);
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
