/**
 * Files that somebody may have mapped and changed without our knowing yet. The kernel asks us where
 * holes are and does not look at its own dirty pages first: a copy that leaves out holes would lose
 * what a program has just put there. Such pages exist only while a file is open for writing (the
 * kernel writes them back with munmap and close), so until then a file has no holes to tell of.
 *
 * A session that took over a living mount does not know what was opened before: for it every file
 * is such a file.
 */
import type { Filesystem, Inode } from '../volume/filesystem-api.js';
import { FsError } from '../volume/filesystem-api.js';

const ACCESS_MODE = 0x3; // O_ACCMODE: 0 is read-only

/** Whether open(2) with these flags asks to change the file. */
export function opensForWriting(flags: number): boolean {
  return (flags & ACCESS_MODE) !== 0;
}

export class WriteOpens {
  readonly #knowsAll: boolean;
  readonly #counts = new Map<Inode, number>();

  constructor(knowsAll: boolean) {
    this.#knowsAll = knowsAll;
  }

  opened(inode: Inode, flags: number): void {
    if (!opensForWriting(flags)) return;
    this.#counts.set(inode, (this.#counts.get(inode) ?? 0) + 1);
  }

  released(inode: Inode, flags: number): void {
    if (!opensForWriting(flags)) return;
    const left = (this.#counts.get(inode) ?? 1) - 1;
    if (left > 0) this.#counts.set(inode, left);
    else this.#counts.delete(inode);
  }

  /** SEEK_DATA and SEEK_HOLE. Throws ENXIO behind the end. */
  seek(filesystem: Filesystem, inode: Inode, offset: number, whence: 'data' | 'hole'): number {
    if (this.#knowsAll && !this.#counts.has(inode)) return filesystem.seek(inode, offset, whence);
    const { size } = filesystem.getattr(inode);
    if (offset < 0 || offset >= size) throw new FsError('ENXIO', 'behind the end of the file');
    return whence === 'data' ? offset : size;
  }
}
