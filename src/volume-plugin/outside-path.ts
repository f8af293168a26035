/**
 * The name that a directory of this mount namespace has in the machine's own one, found by what
 * both of them know: the filesystem and the place in it, as the kernel's tables of mounts say.
 */
import { HoldfastError } from '../core/errors.js';
import type { MountEntry } from '../io/fuse-device.js';

type Place = Pick<MountEntry, 'device' | 'root' | 'mountPoint'>;

/**
 * `directory` must be a mount point in `inside`. Throws NOT_FOUND when it is none, or when the
 * machine does not have it mounted.
 */
export function outsidePath(
  directory: string,
  inside: readonly Place[],
  outside: readonly Place[],
): string {
  const found = inside.findLast(({ mountPoint }) => mountPoint === directory);
  if (found === undefined) {
    const hint = "It is the propagatedMount of the plugin's config.json.";
    throw new HoldfastError('NOT_FOUND', `${directory} is no mount point here`, { hint });
  }
  const { device, root } = found;
  const [best] = outside
    .filter((place) => place.device === device && isBelow(place.root, root))
    .sort((a, b) => b.root.length - a.root.length);
  if (best !== undefined) return joined(best.mountPoint, root.slice(lengthOf(best.root)));
  const hint = 'The plugin needs "pidhost": true in its config.json.';
  throw new HoldfastError('NOT_FOUND', `the machine does not show ${directory}`, { hint });
}

function isBelow(root: string, path: string): boolean {
  return root === '/' || path === root || path.startsWith(`${root}/`);
}

function lengthOf(root: string): number {
  return root === '/' ? 0 : root.length;
}

function joined(mountPoint: string, rest: string): string {
  return mountPoint === '/' ? rest : `${mountPoint}${rest}`;
}
