/**
 * Disks of the machines: an ext4 in a sparse file each, so that one can be filled at no cost, has a
 * limit, and is flushed as disks are. `close` unmounts them all; their loop devices go with that.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../test/fixtures/processes.js';

const MIB = 1024 * 1024;
/** What fills a disk; not where a node looks. */
const BALLAST = 'ballast';
const UNMOUNT_TRIES = 50;

export class Disk {
  readonly name: string;
  /** Where it is mounted. */
  readonly directory: string;
  readonly #image: string;

  private constructor(root: string, name: string) {
    this.name = name;
    this.directory = join(root, 'disks', name);
    this.#image = join(root, `${name}.img`);
  }

  /** Makes and mounts one below a directory. */
  static async create(root: string, name: string, sizeMiB: number): Promise<Disk> {
    const disk = new Disk(root, name);
    writeFileSync(disk.#image, '');
    truncateSync(disk.#image, sizeMiB * MIB);
    const lazy = 'lazy_itable_init=1,lazy_journal_init=1';
    await run('mkfs.ext4', '-q', '-F', '-m', '0', '-E', lazy, disk.#image);
    mkdirSync(disk.directory, { recursive: true });
    await run('mount', '-o', 'loop', disk.#image, disk.directory);
    return disk;
  }

  /** Where a node keeps its data. */
  get data(): string {
    return join(this.directory, 'data');
  }

  /** Leaves this much room. */
  async fill(freeMiB: number): Promise<void> {
    const free = await run('stat', '-f', '-c', '%a %S', this.directory);
    const [blocks = 0, size = 0] = free.split(' ').map(Number);
    const bytes = blocks * size - freeMiB * MIB;
    if (bytes > 0) await run('fallocate', '-l', `${bytes}`, join(this.directory, BALLAST));
  }

  /** Makes room again. Idempotent. */
  drain(): void {
    rmSync(join(this.directory, BALLAST), { force: true });
  }

  /** An empty disk in its place; nobody may be using it. */
  wipe(): void {
    rmSync(this.data, { recursive: true, force: true });
    mkdirSync(this.data);
  }

  /** Unmounts it, once nobody uses it any more. Idempotent. */
  async close(): Promise<void> {
    for (let tries = UNMOUNT_TRIES; isMountPoint(this.directory); tries--) {
      await run('umount', this.directory).catch((error: Error) => {
        if (tries === 0) throw error;
        return run('sleep', '0.1');
      });
    }
    rmSync(this.#image, { force: true });
  }
}

function isMountPoint(directory: string): boolean {
  return mountsBelow(directory).includes(directory);
}

/** What is mounted at a directory or below it, by the kernel's table. */
export function mountsBelow(directory: string): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'latin1').split('\n');
  const points = lines.map((line) => line.split(' ')[4] ?? '');
  return points.filter((point) => point === directory || point.startsWith(`${directory}/`));
}

/** Loop devices whose file is below a directory. */
export function loopsBelow(directory: string): string[] {
  return readdirSync('/sys/block').filter((name) => {
    try {
      const file = readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8');
      return file.startsWith(`${directory}/`);
    } catch {
      return false;
    }
  });
}
