/** Where cgroup v2 is, and whether groups can be made there. */
import { accessSync, constants, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';

const GROUP = 'holdfast';

/**
 * A directory below which groups of processes can be made, outside of this process's own: the root
 * of cgroup v2 as it is seen here. Null: there is none.
 */
export function writableGroup(): string | null {
  const root = groupRoot();
  if (root === null) return null;
  const group = join(root, GROUP);
  const probe = join(group, `probe-${process.pid}`);
  try {
    mkdirSync(probe, { recursive: true });
    accessSync(join(probe, 'cgroup.procs'), constants.W_OK);
    return group;
  } catch {
    return null;
  } finally {
    try {
      rmdirSync(probe);
    } catch {
      // it could not be made
    }
  }
}

function groupRoot(): string | null {
  const table = readFileSync('/proc/self/mountinfo', 'utf8');
  for (const line of table.split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    if (after.startsWith('cgroup2 ')) return before.split(' ')[4] ?? null;
  }
  return null;
}
