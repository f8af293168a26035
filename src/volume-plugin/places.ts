/**
 * Where volumes appear on this machine, one directory each below a root, and where the engine sees
 * them: at the same path, or, for an engine that sees nothing but a plugin's own directory, once
 * more below that.
 */
import { posix } from 'node:path';
import { HoldfastError } from '../core/errors.js';
import type { MachineCommands } from '../io/machine-commands.js';
import type { MachineVolumes } from '../lifecycle/machine.js';

export interface Places {
  /** Where the machine mounts a volume. */
  directory(volume: string): string;
  /** The volume whose directory this is; null: none of this plugin's. */
  volumeAt(directory: string): string | null;
  /** The path to tell the engine. */
  shown(volume: string): string;
  /** Makes a mounted volume appear at shown(); idempotent. */
  show(volume: string): Promise<void>;
  /** Takes it away from shown(), if it is there. */
  hide(volume: string): Promise<void>;
  /** Removes the directory of a volume that is not mounted any more. */
  tidy(volume: string): void;
}

/** The engine sees what the machine sees. `resolve` follows symbolic links. */
export function samePlaces(
  root: string,
  commands: Pick<MachineCommands, 'removeEmpty'>,
  resolve: (path: string) => string,
): Places {
  const directory = (volume: string): string => posix.join(root, volume);
  return {
    directory,
    // Where something is mounted, links are followed.
    volumeAt: (path) => volumeBelow(resolve(root), path),
    shown: directory,
    show: async () => {},
    hide: async () => {},
    tidy: (volume) => removeUnlessUsed(commands, directory(volume)),
  };
}

export interface PropagatedPlaces {
  /** Where the machine mounts. */
  readonly root: string;
  /** The plugin's own directory, as its config.json names it. */
  readonly propagated: string;
  /** The same directory, as the machine names it. */
  readonly propagatedOutside: string;
  /** The machine's root directory, as this mount namespace names it. */
  readonly machineRoot: string;
  readonly machine: Pick<MachineVolumes, 'bind' | 'unbind'>;
  readonly commands: Pick<MachineCommands, 'removeEmpty'>;
}

/**
 * The engine sees the propagated directory of a managed plugin. What is bound there goes with the
 * plugin; the mounts below `root` do not.
 */
export function propagatedPlaces(options: PropagatedPlaces): Places {
  const { root, propagated, propagatedOutside, machineRoot, machine, commands } = options;
  const directory = (volume: string): string => posix.join(root, volume);
  const outside = (volume: string): string => posix.join(propagatedOutside, volume);
  return {
    directory,
    volumeAt: (path) => volumeBelow(root, path),
    shown: (volume) => posix.join(propagated, volume),
    show: (volume) => machine.bind({ source: directory(volume), target: outside(volume) }),
    hide: (volume) => machine.unbind(outside(volume)),
    tidy: (volume) => removeUnlessUsed(commands, posix.join(machineRoot, directory(volume))),
  };
}

/** What somebody put into a directory while nothing was mounted there stays. */
function removeUnlessUsed(commands: Pick<MachineCommands, 'removeEmpty'>, directory: string): void {
  try {
    commands.removeEmpty(directory);
  } catch (thrown) {
    if (!(thrown instanceof HoldfastError) || thrown.code !== 'BUSY') throw thrown;
  }
}

function volumeBelow(root: string, path: string): string | null {
  return posix.dirname(path) === root ? posix.basename(path) : null;
}
