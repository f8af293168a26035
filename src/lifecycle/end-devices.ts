/**
 * What comes before the orderly end of a block volume's mount, while that still serves: the
 * filesystem on its device is flushed and unmounted, and the device detached. A mount that ends
 * below a mounted filesystem takes with it all that this had in memory alone.
 */
import { asFault } from '../core/errors.js';
import { mountAt } from '../fuse/launcher.js';
import type { Clock } from '../io/clock.js';
import type { FuseMounts, MountEntry } from '../io/fuse-device.js';
import type { Log } from '../io/log.js';
import type { MachineCommands } from '../io/machine-commands.js';
import type { MountHost } from '../io/mount-host.js';
import { type LoopDevice, letGo, listLoops } from './loop-devices.js';
import type { MountSpec } from './mount-types.js';

/**
 * For users to end, as all do at a shutdown. What follows has to fit into the time that a unit has
 * to stop in, with GIVING_BACK_MS.
 */
const USERS_MS = 45_000;
const POLL_MS = 250;
/** For one program that is run when that time is over: one that hung took the time of all. */
const LATE_MS = 3_000;

export interface EndDevicesDeps {
  readonly clock: Clock;
  readonly log: Pick<Log, 'warn' | 'error'>;
  readonly host: Pick<MountHost, 'mounts'>;
  readonly commands: MachineCommands;
}

type Ended = Pick<MountSpec, 'kind' | 'volume' | 'directory'>;

/** Never rejects: what could not be done is in the log. Done at once for a volume of files. */
export async function endDevices(deps: EndDevicesDeps, spec: Ended): Promise<void> {
  if (spec.kind !== 'block') return;
  const { volume, directory } = spec;
  try {
    await end(deps, spec);
  } catch (thrown) {
    const { message } = asFault(thrown, 'UNAVAILABLE');
    deps.log.error({ volume, directory }, `Its device could not be ended first: ${message}`);
  }
}

async function end(deps: EndDevicesDeps, { volume, directory }: Ended): Promise<void> {
  const { clock, commands, log } = deps;
  const id = directory.slice(directory.lastIndexOf('/') + 1);
  const deadline = clock.monotonic() + USERS_MS;
  const limitMs = (): number => Math.max(deadline - clock.monotonic(), LATE_MS);
  for (let isFirst = true; ; isFirst = false) {
    const loops = (await listLoops(commands, limitMs())).filter((one) => one.id === id);
    if (loops.length === 0) return;
    const isLate = clock.monotonic() >= deadline;
    for (const loop of loops) {
      // Each time would be a burden for who still uses it, and unmounting flushes as well.
      if (isFirst || isLate) await flush(deps, loop, limitMs);
      await unmountAll(deps, loop, { isLate, limitMs });
      // It goes with its last user from now on.
      if (isFirst) await letGo(commands, loop, limitMs());
    }
    if (isLate) {
      const devices = loops.map(({ device }) => device).join(', ');
      return log.warn({ volume, devices }, 'It ends below its users, flushed until now.');
    }
    await new Promise<void>((resolve) => clock.after(POLL_MS, resolve));
  }
}

/** What the filesystem on it holds, wherever that is mounted; then what was written to it raw. */
async function flush(
  { host, commands }: EndDevicesDeps,
  { device, number }: LoopDevice,
  limitMs: () => number,
): Promise<void> {
  const place = placesOf(host.mounts, number)[0] ?? placeElsewhere(host.mounts, number);
  if (place !== null) await commands.run('sync', ['-f', place], limitMs());
  await commands.run('sync', [device], limitMs());
}

/** In use: another time, or lazily when there is none. */
async function unmountAll(
  { host, commands }: EndDevicesDeps,
  { number }: LoopDevice,
  { isLate, limitMs }: { readonly isLate: boolean; readonly limitMs: () => number },
): Promise<void> {
  for (const place of placesOf(host.mounts, number).reverse()) {
    await commands.run('umount', ['-i', '-c', ...(isLate ? ['-l'] : []), place], limitMs());
  }
}

/** Where a filesystem is seen in this mount namespace. */
function placesOf(mounts: FuseMounts, number: string): string[] {
  return seenIn(mounts.table(), number);
}

function seenIn(table: readonly MountEntry[], number: string): string[] {
  const places = table.filter((one) => one.device === number).map(({ mountPoint }) => mountPoint);
  return places.filter((place) => mountAt(table, place)?.device === number);
}

/** By way of a process in another mount namespace, as of a container, that sees it. */
function placeElsewhere(mounts: FuseMounts, number: string): string | null {
  for (const pid of mounts.processes()) {
    try {
      const [place] = seenIn(mounts.table(pid), number);
      if (place !== undefined) return `/proc/${pid}/root${place}`;
    } catch {
      // it has ended
    }
  }
  return null;
}
