/**
 * Giving a group the use of a directory's files. Whoever already uses the volume may rename files
 * and put symbolic links in their place while this runs as root: so each file is opened by its name
 * in a directory that is itself open, following nothing, and changed through that descriptor.
 */
import { constants } from 'node:fs';
import { chmod, chown, type FileHandle, lchown, open, readdir } from 'node:fs/promises';
import { HoldfastError } from '../../core/errors.js';
import type { GroupAccess } from '../group-access.js';

/** Names a file without opening it: no fifo blocks, no device is touched. Not in node:constants. */
const O_PATH = 0o10000000;
const SET_GROUP_ID = 0o2000;
const FILE_BITS = 0o660;
const DIRECTORY_BITS = SET_GROUP_ID | 0o770;
const MODE_BITS = 0o7777;
const KEEP_OWNER = -1;

export const nodeGroupAccess: GroupAccess = {
  async grant(directory, group) {
    try {
      const root = await open(directory, O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW);
      try {
        const { gid, mode } = await root.stat();
        if (gid === group && (mode & DIRECTORY_BITS) === DIRECTORY_BITS) return;
        await grantBelow(root, group);
        await change(root, group, DIRECTORY_BITS);
      } finally {
        await root.close();
      }
    } catch (thrown) {
      const message = `group ${group} cannot be given ${directory}: ${(thrown as Error).message}`;
      throw new HoldfastError('UNAVAILABLE', message, { retryable: true, cause: thrown });
    }
  },
};

async function grantBelow(directory: FileHandle, group: number): Promise<void> {
  for (const name of await readdir(through(directory), { encoding: 'buffer' })) {
    const path = Buffer.concat([Buffer.from(`${through(directory)}/`), name]);
    const file = await open(path, O_PATH | constants.O_NOFOLLOW).catch(unlessGone);
    if (file === null) continue;
    try {
      const found = await file.stat();
      if (found.isSymbolicLink()) await lchown(path, KEEP_OWNER, group).catch(unlessGone);
      else if (found.isDirectory()) {
        await grantBelow(file, group);
        await change(file, group, DIRECTORY_BITS);
      } else await change(file, group, FILE_BITS);
    } finally {
      await file.close();
    }
  }
}

/** The group first: changing it may clear bits of the mode. */
async function change(file: FileHandle, group: number, bits: number): Promise<void> {
  const { gid, mode } = await file.stat();
  if (gid !== group) await chown(through(file), KEEP_OWNER, group);
  if ((mode & bits) !== bits || gid !== group) {
    await chmod(through(file), (mode | bits) & MODE_BITS);
  }
}

/** A path that leads to what is open, whatever has become of its name. */
function through({ fd }: FileHandle): string {
  return `/proc/self/fd/${fd}`;
}

function unlessGone(thrown: NodeJS.ErrnoException): null {
  if (thrown.code === 'ENOENT') return null;
  throw thrown;
}
