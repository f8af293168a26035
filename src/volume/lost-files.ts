/**
 * Which files need pages of the log that are lost, and which parts of them: for people who have to
 * decide, and then to restore them. Changes nothing; yields after a bounded piece of work.
 */
import type { SegmentId } from '../core/ids.js';
import { PAGE_BYTES } from '../core/units.js';
import type { Inode } from './filesystem-api.js';
import { Field, ROOT_SLOT } from './inode-table.js';
import { isDirectory } from './mode.js';
import { pageOfPlace, RESERVED, slotOfPlace } from './segments.js';
import type { VolumeState } from './state.js';
import { timeFrom } from './time.js';

/** Pages of one segment. */
export interface PageSpan {
  readonly page: number;
  readonly count: number;
}

/** By segment, in order and apart. */
export type LostPages = ReadonlyMap<SegmentId, readonly PageSpan[]>;

export interface LostFile {
  readonly inode: Inode;
  /** From the root of the volume; null for one without a name. */
  readonly path: string | null;
  /** Offsets and lengths in bytes. */
  readonly ranges: { readonly offset: number; readonly length: number }[];
}

const CHUNKS_A_PIECE = 256;
const INODES_A_PIECE = 4_096;

/** In the order of inodes. */
export function* lostFiles(state: VolumeState, lost: LostPages): Generator<void, LostFile[]> {
  const ranges = new Map<number, { offset: number; length: number }[]>();
  let from: { slot: number; chunk: number } | null = { slot: 0, chunk: 0 };
  while (from !== null) {
    from = state.extents.visit(from, CHUNKS_A_PIECE, (slot, page, count, place) => {
      if (place === RESERVED) return;
      const use = state.segments.at(slotOfPlace(place));
      const first = pageOfPlace(place);
      for (const gone of (use === null ? undefined : lost.get(use.segment)) ?? []) {
        const begin = Math.max(first, gone.page);
        const pages = Math.min(first + count, gone.page + gone.count) - begin;
        if (pages > 0) add(ranges, slot, (page + begin - first) * PAGE_BYTES, pages * PAGE_BYTES);
      }
    });
    yield;
  }
  const names = yield* namesOf(state, ranges);
  return [...ranges].map(([slot, found]) => ({
    inode: state.inodes.inodeOf(slot),
    path: pathOf(names, slot),
    ranges: found,
  }));
}

/** Runs of a file come in its order: what follows the last range joins it. */
function add(
  ranges: Map<number, { offset: number; length: number }[]>,
  slot: number,
  offset: number,
  length: number,
): void {
  const list = ranges.get(slot) ?? [];
  ranges.set(slot, list);
  const last = list.at(-1);
  if (last !== undefined && last.offset + last.length === offset) last.length += length;
  else list.push({ offset, length });
}

type Names = ReadonlyMap<number, { readonly parent: number; readonly name: string }>;

/** Of all directories, and of the files that are wanted: one of the names of each. */
function* namesOf(
  state: VolumeState,
  wanted: ReadonlyMap<number, unknown>,
): Generator<void, Names> {
  const { inodes, directory } = state;
  const names = new Map<number, { parent: number; name: string }>();
  const isDirectorySlot = (slot: number): boolean => isDirectory(inodes.get(slot, Field.mode));
  for (let slot = ROOT_SLOT; slot < inodes.slots; slot++) {
    if (slot % INODES_A_PIECE === 0) yield;
    if (!isDirectorySlot(slot)) continue;
    directory.list(slot, 0, (_key, child, name) => {
      if (wanted.has(child) || isDirectorySlot(child)) {
        names.set(child, { parent: slot, name: name.toString() });
      }
      return true;
    });
  }
  return names;
}

function pathOf(names: Names, slot: number): string | null {
  const parts: string[] = [];
  for (let at = slot; at !== ROOT_SLOT; ) {
    const found = names.get(at);
    if (found === undefined || parts.length > names.size) return null;
    parts.unshift(found.name);
    at = found.parent;
  }
  return `/${parts.join('/')}`;
}

/** When the newest change was made that the state knows of: milliseconds since 1970, or null. */
export function newestChange({ inodes }: VolumeState): number | null {
  let newest: number | null = null;
  for (let slot = ROOT_SLOT; slot < inodes.slots; slot++) {
    if (inodes.get(slot, Field.mode) === 0) continue;
    const [low, high] = [Field.ctime, (Field.ctime + 1) as Field];
    const { seconds, nanoseconds } = timeFrom(inodes.get(slot, low), inodes.get(slot, high));
    const ms = seconds * 1_000 + Math.floor(nanoseconds / 1e6);
    if (newest === null || ms > newest) newest = ms;
  }
  return newest;
}
