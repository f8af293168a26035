/**
 * Which parts of a file take space: fallocate, SEEK_HOLE and SEEK_DATA, sharing ranges between
 * files. All from the extents alone; no data is read or written.
 */
import { PAGE_BYTES } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import { FsError, type Inode } from './filesystem-api.js';
import type { History } from './history.js';
import type { InodeOperations } from './inode-operations.js';
import { FILE_MAX_BYTES } from './limits.js';
import type { VolumeState } from './state.js';
import { timeNow } from './time.js';

export const FALLOC_KEEP_SIZE = 1;
export const FALLOC_PUNCH_HOLE = 2;
export const FALLOC_ZERO_RANGE = 16;

export interface FileSpaceDeps {
  readonly state: VolumeState;
  readonly history: History;
  readonly clock: Clock;
  readonly inodes: InodeOperations;
  /** Throws ENOSPC unless so many more pages fit. */
  readonly requireRoom: (pages: number) => void;
}

export class FileSpace {
  readonly #deps: FileSpaceDeps;

  constructor(deps: FileSpaceDeps) {
    this.#deps = deps;
  }

  fallocate(inode: Inode, offset: number, length: number, mode: number): void {
    const { state, history, clock } = this.#deps;
    const slot = this.#deps.inodes.file(inode);
    if (offset < 0 || length <= 0) throw new FsError('EINVAL', 'not a range');
    const end = offset + length;
    if (end > FILE_MAX_BYTES) throw new FsError('EFBIG', 'the file would be too large');
    const keep = (mode & FALLOC_KEEP_SIZE) !== 0;
    const action = mode & ~FALLOC_KEEP_SIZE;
    const punches = action === FALLOC_PUNCH_HOLE && keep;
    if (!punches && action !== 0 && action !== FALLOC_ZERO_RANGE) {
      throw new FsError('ENOTSUP', 'fallocate with a mode that is not known');
    }
    const former = state.inodes.size(slot);
    const size = keep ? former : Math.max(former, end);
    const time = timeNow(clock);
    if (!punches) this.#requireRange(slot, offset, end);
    if (action === 0) {
      const page = Math.floor(offset / PAGE_BYTES);
      const count = Math.ceil(end / PAGE_BYTES) - page;
      history.perform({ type: 'allocate', inode, page, count, size, time });
    } else {
      const reserve = !punches;
      history.perform({ type: 'punch', inode, offset, length, reserve, size, time });
    }
  }

  #requireRange(slot: number, offset: number, end: number): void {
    const page = Math.floor(offset / PAGE_BYTES);
    const count = Math.ceil(end / PAGE_BYTES) - page;
    this.#deps.requireRoom(count - this.#deps.state.extents.countMapped(slot, page, count));
  }

  seek(inode: Inode, offset: number, whence: 'data' | 'hole'): number {
    const { state } = this.#deps;
    const slot = this.#deps.inodes.file(inode);
    const size = state.inodes.size(slot);
    if (offset < 0 || offset >= size) throw new FsError('ENXIO', 'behind the end of the file');
    const page = Math.floor(offset / PAGE_BYTES);
    const end = Math.ceil(size / PAGE_BYTES);
    if (whence === 'hole') {
      const found = state.extents.nextHole(slot, page, end);
      return Math.min(size, Math.max(offset, found * PAGE_BYTES));
    }
    const found = state.extents.nextData(slot, page, end);
    if (found < 0) throw new FsError('ENXIO', 'no data up to the end');
    return Math.max(offset, found * PAGE_BYTES);
  }

  /**
   * Shares whole pages; the end of the source may be shared, too, when it becomes the end of the
   * target. EXDEV for ranges that cannot be shared: the caller then copies bytes.
   */
  copyRange(from: Inode, at: number, to: Inode, toAt: number, length: number): number {
    const { state, history, clock } = this.#deps;
    const source = this.#deps.inodes.file(from);
    const target = this.#deps.inodes.file(to);
    const sourceSize = state.inodes.size(source);
    const bytes = Math.min(length, sourceSize - at);
    if (bytes <= 0) return 0;
    if (toAt + bytes > FILE_MAX_BYTES) throw new FsError('EFBIG', 'the file would be too large');
    if (source === target && at < toAt + bytes && toAt < at + bytes) {
      throw new FsError('EINVAL', 'the ranges overlap');
    }
    if (at % PAGE_BYTES !== 0 || toAt % PAGE_BYTES !== 0) {
      throw new FsError('EXDEV', 'only whole pages can be shared');
    }
    const targetSize = state.inodes.size(target);
    const isTail = at + bytes === sourceSize && toAt + bytes >= targetSize;
    const count = isTail ? Math.ceil(bytes / PAGE_BYTES) : Math.floor(bytes / PAGE_BYTES);
    if (count === 0) throw new FsError('EXDEV', 'only whole pages can be shared');
    const copied = Math.min(bytes, count * PAGE_BYTES);
    const page = at / PAGE_BYTES;
    const toPage = toAt / PAGE_BYTES;
    const { extents } = state;
    const before = extents.countMapped(target, toPage, count);
    this.#deps.requireRoom(Math.max(0, extents.countMapped(source, page, count) - before));
    // Pages of the open group could still change in place, under both files.
    history.close();
    const size = Math.max(targetSize, toAt + copied);
    const time = timeNow(clock);
    history.perform({ type: 'share', from, page, inode: to, toPage, count, size, time });
    return copied;
  }
}
