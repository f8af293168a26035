/**
 * Verifies what belongs to inodes: extents (in segments of the log, below their ends, as many as
 * the inode and the segments count), zero masks, attributes and link targets. Changes nothing;
 * yields after a bounded piece of work.
 */
import type { SegmentId } from '../core/ids.js';
import { PAGE_BYTES } from '../core/units.js';
import type { Findings } from './check-findings.js';
import { CHECK_PIECE, inUse, leavesOf } from './check-state.js';
import { CHUNK_PAGES, isChunk, visitRuns } from './extent-chunk.js';
import { Field, ROOT_SLOT } from './inode-table.js';
import { XATTR_NAME_MAX, XATTR_TOTAL_MAX, XATTR_VALUE_MAX } from './limits.js';
import { isRegular, isSymlink } from './mode.js';
import { HOLE, pageOfPlace, RESERVED, slotOfPlace } from './segments.js';
import type { VolumeState } from './state.js';

const PAIR_BYTES = 4;
const TARGET = 0;
const XATTRS = 1;
const XATTR_HEAD_BYTES = 3;

/** Pages up to the end of each segment of the log. */
export type SegmentEnds = ReadonlyMap<SegmentId, number>;

export function* checkData(
  state: VolumeState,
  ends: SegmentEnds,
  findings: Findings,
): Generator<void> {
  yield* checkExtents(state, ends, findings);
  yield* checkMasks(state, findings);
  yield* checkAttributes(state, findings);
}

/** What the extents add up to, by inode slot and by segment slot. */
interface Sums {
  readonly pages: Float64Array;
  readonly live: Float64Array;
}

function* checkExtents(state: VolumeState, ends: SegmentEnds, findings: Findings): Generator<void> {
  const { inodes, segments, extents, arena } = state;
  const pages = new Float64Array(inodes.slots);
  const sums: Sums = { pages, live: new Float64Array(segments.slots) };
  for (const leaf of leavesOf(extents.tree)) {
    if (leaf === null) {
      yield;
      continue;
    }
    for (let i = 0; i < leaf.count; i++) {
      const slot = leaf.high(i);
      if (!inUse(state, slot) || !isRegular(inodes.get(slot, Field.mode))) {
        findings.add('extent', `extents of slot ${slot}, which is no regular file`);
      } else if (!isChunk(arena, leaf.blob(i))) {
        const what = `extents of MiB ${leaf.low(i)} cannot be read`;
        findings.add('extent', what, inodes.inodeOf(slot));
      } else {
        const base = leaf.low(i) * CHUNK_PAGES;
        visitRuns(arena, leaf.blob(i), 0, CHUNK_PAGES, (page, count, place) => {
          checkRun(state, ends, { slot, page: base + page, count, place }, sums, findings);
        });
      }
    }
  }
  yield* checkSums(state, sums, findings);
}

function checkRun(
  state: VolumeState,
  ends: SegmentEnds,
  run: { slot: number; page: number; count: number; place: number },
  sums: Sums,
  findings: Findings,
): void {
  const { inodes, segments } = state;
  const { slot, page, count, place } = run;
  sums.pages[slot] = (sums.pages[slot] as number) + count;
  if (place === RESERVED) return;
  const inode = inodes.inodeOf(slot);
  const at = `page ${page}`;
  if (page + count > Math.ceil(inodes.size(slot) / PAGE_BYTES)) {
    findings.add('extent', `${at}: data behind the end of the file`, inode);
  }
  const segmentSlot = slotOfPlace(place);
  const segment = segmentSlot === 0 ? null : segments.at(segmentSlot);
  if (segment === null) {
    findings.add('extent', `${at}: place ${place} is in no segment`, inode);
    return;
  }
  sums.live[segmentSlot] = (sums.live[segmentSlot] as number) + count;
  const end = ends.get(segment.segment);
  if (end === undefined) {
    findings.add('extent', `${at}: segment ${segment.segment} is not in the log`, inode);
  } else if (pageOfPlace(place) === 0 || pageOfPlace(place) + count > end) {
    findings.add('extent', `${at}: behind the end of segment ${segment.segment}`, inode);
  }
}

function* checkSums(state: VolumeState, sums: Sums, findings: Findings): Generator<void> {
  const { inodes, segments } = state;
  for (let slot = ROOT_SLOT; slot < inodes.slots; slot++) {
    if (slot % CHECK_PIECE === 0) yield;
    const found = sums.pages[slot] as number;
    const counted = inodes.get(slot, Field.pages);
    if (found === counted || !inUse(state, slot)) continue;
    findings.add('space', `extents of ${found} pages, counted ${counted}`, inodes.inodeOf(slot));
  }
  for (let slot = 1; slot < segments.slots; slot++) {
    const use = segments.at(slot);
    const found = sums.live[slot] as number;
    if (use === null || use.livePages === found) continue;
    findings.add('segment', `${use.segment}: ${found} pages live, counted ${use.livePages}`);
  }
}

function* checkMasks(state: VolumeState, findings: Findings): Generator<void> {
  const { inodes, masks, arena, extents } = state;
  for (const leaf of leavesOf(masks.tree)) {
    if (leaf === null) {
      yield;
      continue;
    }
    for (let i = 0; i < leaf.count; i++) {
      const [slot, page] = [leaf.high(i), leaf.low(i)];
      if (!inUse(state, slot) || !isRegular(inodes.get(slot, Field.mode))) {
        findings.add('mask', `a mask of slot ${slot}, which is no regular file`);
        continue;
      }
      const inode = inodes.inodeOf(slot);
      if (!isMask(arena.view(leaf.blob(i)))) {
        findings.add('mask', `the mask of page ${page} is none`, inode);
      }
      const place = extents.place(slot, page);
      if (place === HOLE || place === RESERVED) {
        findings.add('mask', `page ${page} has a mask and no data`, inode);
      }
    }
  }
}

/** Ranges inside a page, in order and apart. */
function isMask(bytes: Buffer): boolean {
  if (bytes.length === 0 || bytes.length % PAIR_BYTES !== 0) return false;
  let former = -1;
  for (let at = 0; at < bytes.length; at += PAIR_BYTES) {
    const [start, end] = [bytes.readUInt16LE(at), bytes.readUInt16LE(at + 2)];
    if (start <= former || end <= start || end > PAGE_BYTES) return false;
    former = end;
  }
  return true;
}

function* checkAttributes(state: VolumeState, findings: Findings): Generator<void> {
  const { inodes, attributes, arena } = state;
  const bytes = new Float64Array(inodes.slots);
  for (const leaf of leavesOf(attributes.tree)) {
    if (leaf === null) {
      yield;
      continue;
    }
    for (let i = 0; i < leaf.count; i++) {
      const [slot, kind] = [leaf.high(i), leaf.low(i)];
      if (!inUse(state, slot)) {
        findings.add('attribute', `attributes of slot ${slot}, which is free`);
        continue;
      }
      const blob = arena.view(leaf.blob(i));
      bytes[slot] = (bytes[slot] as number) + blob.length;
      const isTarget = kind === TARGET && isSymlink(inodes.get(slot, Field.mode));
      const isFine = isTarget
        ? blob.length === inodes.size(slot)
        : kind === XATTRS && areXattrs(blob);
      if (isFine) continue;
      const what = kind === TARGET ? 'target of a symbolic link' : 'extended attributes';
      findings.add('attribute', `${what}: not what they should be`, inodes.inodeOf(slot));
    }
  }
  for (let slot = ROOT_SLOT; slot < inodes.slots; slot++) {
    if (slot % CHECK_PIECE === 0) yield;
    const counted = inodes.get(slot, Field.attributeBytes);
    if (bytes[slot] === counted || !inUse(state, slot)) continue;
    const what = `${bytes[slot]} bytes of attributes, counted ${counted}`;
    findings.add('attribute', what, inodes.inodeOf(slot));
  }
}

/** A list of attributes, sorted by name, each once. */
function areXattrs(bytes: Buffer): boolean {
  if (bytes.length === 0 || bytes.length > XATTR_TOTAL_MAX) return false;
  let former = '';
  for (let at = 0; at < bytes.length; ) {
    if (at + XATTR_HEAD_BYTES > bytes.length) return false;
    const nameBytes = bytes.readUInt8(at);
    const valueBytes = bytes.readUInt16LE(at + 1);
    const nameEnd = at + XATTR_HEAD_BYTES + nameBytes;
    if (nameBytes === 0 || nameBytes > XATTR_NAME_MAX || valueBytes > XATTR_VALUE_MAX) return false;
    if (nameEnd + valueBytes > bytes.length) return false;
    const name = bytes.toString('latin1', at + XATTR_HEAD_BYTES, nameEnd);
    if (name <= former) return false;
    former = name;
    at = nameEnd + valueBytes;
  }
  return true;
}
