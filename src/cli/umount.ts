/** `holdfast umount`: commits, unmounts, and waits until the volume is released. */
import type { Command } from 'commander';
import { parseSeconds } from '../core/durations.js';
import { HoldfastError } from '../core/errors.js';
import { LEASE_TTL_SECONDS } from '../core/limits.js';
import { nodeClock } from '../io/node/clock.js';
import { nodeRandom } from '../io/node/random.js';
import { endPresence } from '../lifecycle/dead-presence.js';
import { type HeldByDead, stopMount } from '../lifecycle/mounts.js';
import type { MachineVolume } from '../lifecycle/volume-types.js';
import { openMetadata } from '../metadata/open.js';
import { localMachine } from './lifecycle.js';
import { mountDeps } from './machine.js';
import { addExamples, printResult } from './output.js';

/** For the metadata store to be told of a dead mount; it would find out by itself. */
const TELL_TIMEOUT_MS = 2_000;

interface UmountOptions {
  readonly lazy?: boolean;
  readonly timeout: string;
  readonly json?: boolean;
}

export function addUmountCommand(program: Command): void {
  const command = program
    .command('umount <directory>')
    .description('commit, unmount and release a volume')
    .option('--lazy', 'take it out of the tree at once; it ends with its last user')
    .option('--timeout <time>', 'how long the commit may take', '60s')
    .option('--json', 'print JSON')
    .action((directory: string, options: UmountOptions) => umount(directory, options));
  addExamples(command, [
    ['When nobody uses it', 'holdfast umount /mnt/db'],
    ['Although somebody does', 'holdfast umount --lazy /mnt/db'],
  ]);
}

async function umount(directory: string, options: UmountOptions): Promise<void> {
  const timeoutMs = parseSeconds(options.timeout, '--timeout');
  const lazy = options.lazy === true;
  if (await unmountBlock(directory, { lazy, timeoutMs }, options)) return;
  const status = await stopMount(mountDeps(process.env), directory, { lazy, timeoutMs, onDead });
  const { volume, directory: where } = status;
  const text =
    status.state === 'dead'
      ? `cleared what a dead mount of ${volume} left at ${where}`
      : unmounted(volume, where, lazy);
  if (!status.released && !lazy) {
    process.stderr.write(
      `The metadata store does not answer: ${volume} is committed, and free for others when its ` +
        `lease ends, ${LEASE_TTL_SECONDS} s from now.\n`,
    );
  }
  const { mount, released } = status;
  printResult(options.json === true, { mount, volume, directory: where, released }, text);
}

/** Whether a filesystem on a block volume's device was mounted there, and is not any more. */
async function unmountBlock(
  directory: string,
  how: { readonly lazy: boolean; readonly timeoutMs: number },
  options: UmountOptions,
): Promise<boolean> {
  const machine = localMachine(null, process.env);
  const where = mountDeps(process.env).host.mounts.resolve(directory);
  const all = await machine.list();
  const found = all.find((one) => {
    if (one.kind !== 'block') return false;
    if (isDeviceAlone(one)) return one.mount.directory === where;
    // Without a device of its own, what is seen is what an earlier mount left.
    return one.directory === where || (one.device === null && one.targets.includes(where));
  });
  if (found === undefined) return false;
  const { name: volume, mount } = found;
  if (isDeviceAlone(found) && !how.lazy) await machine.closeDevice(volume);
  else await machine.unmount(where, how);
  const text = unmounted(volume, where, how.lazy);
  printResult(options.json === true, { mount: mount.mount, volume, directory: where }, text);
  return true;
}

/** As an umount leaves it that found the device in use: it goes by the place of its own mount. */
function isDeviceAlone({ directory, device }: MachineVolume): boolean {
  return directory === null && device !== null;
}

function unmounted(volume: string, where: string, lazy: boolean): string {
  const text = `${volume} is no longer mounted at ${where}`;
  return lazy ? `${text}; who has something open there keeps the volume until it is closed` : text;
}

/** So that the next mount, wherever it is, need not wait for the dead one's lease. */
async function onDead(held: HeldByDead): Promise<void> {
  const parts = { clock: nodeClock, random: nodeRandom, env: process.env };
  try {
    const store = await openMetadata(held.metadata, { ...parts, timeoutMs: TELL_TIMEOUT_MS });
    try {
      await endPresence(store, held);
    } finally {
      await store.close();
    }
  } catch (thrown) {
    if (!(thrown instanceof HoldfastError)) throw thrown;
  }
}
