/**
 * A volume's whole state in memory: what replaying its log gives. Changed only by apply.ts (and, in
 * the owner, by relocate when the log tells where pages have come to stand); filled from a
 * checkpoint by checkpoint-loader.ts.
 */
import { createHash, type Hash } from 'node:crypto';
import { PAGE_BYTES } from '../core/units.js';
import { BlobArena } from './arena.js';
import { AttributeStore } from './attributes.js';
import { Directory } from './directory.js';
import { Extents } from './extents.js';
import {
  Field,
  INODE_WORDS,
  type InodePage,
  InodeTable,
  PAGE_INODES,
  ROOT_SLOT,
} from './inode-table.js';
import { INODE_BYTES } from './limits.js';
import { pageOfPlace, RESERVED, SegmentTable, slotOfPlace } from './segments.js';
import { LEAF_ITEMS, Tree } from './tree.js';
import { ZeroMasks } from './zero-masks.js';

/** A leaf's items and its objects. */
const LEAF_BYTES = LEAF_ITEMS * 12 + 250;

export class VolumeState {
  readonly arena = new BlobArena();
  readonly segments = new SegmentTable();
  readonly inodes = new InodeTable();
  readonly directory = new Directory(new Tree(), this.arena);
  readonly extents = new Extents(new Tree(), this.arena, this.segments);
  readonly masks = new ZeroMasks(new Tree(), this.arena);
  readonly attributes = new AttributeStore(new Tree(), this.arena);
  /** Slots of inodes without a name, which `free` will end. */
  readonly orphans = new Set<number>();
  /** Pages that files take, reserved ones included; a shared page counts for each sharer. */
  usedPages = 0;
  /** Bytes of extended attributes and symbolic links. */
  attributeBytes = 0;

  /** Whether the volume has been formatted. */
  get isEmpty(): boolean {
    return this.inodes.slots <= ROOT_SLOT;
  }

  /** The trees, in the order in which checkpoints number them (format). */
  get trees(): readonly Tree[] {
    return [this.directory.tree, this.extents.tree, this.masks.tree, this.attributes.tree];
  }

  /** Space taken, as the size limit and statfs count it. */
  get usedBytes(): number {
    return this.usedPages * PAGE_BYTES + this.inodes.count * INODE_BYTES + this.attributeBytes;
  }

  /** Bytes of memory that the state takes, apart from what few objects need. */
  get memoryBytes(): number {
    let leaves = 0;
    for (const tree of this.trees) leaves += tree.leaves;
    return this.arena.reservedBytes + leaves * LEAF_BYTES + this.inodes.slots * INODE_WORDS * 4;
  }

  /** While a checkpoint is loaded: counts what follows from the inodes of a page. */
  countInodes(page: InodePage, slots: number): void {
    const first = page.index * PAGE_INODES;
    for (let i = 0; i < PAGE_INODES && first + i < slots; i++) {
      const at = i * INODE_WORDS;
      if (page.words[at + Field.mode] === 0) continue;
      this.usedPages += page.words[at + Field.pages] as number;
      this.attributeBytes += page.words[at + Field.attributeBytes] as number;
      if (page.words[at + Field.nlink] === 0) this.orphans.add(first + i);
    }
  }
}

/**
 * A fingerprint of all that replay must reproduce, independent of where it lies in memory. Two
 * states with the same digest answer every question alike. Pages still on their way to the log have
 * no place yet: let them arrive first.
 */
export function digest(state: VolumeState): string {
  const hash = createHash('sha256');
  digestInodes(state, hash);
  const slots = state.inodes.slots;
  for (let slot = ROOT_SLOT; slot < slots; slot++) {
    state.directory.list(slot, 0, (key, child, name) => {
      hash.update(`entry ${slot} ${key} ${child} ${name.toString('hex')}\n`);
      return true;
    });
    for (const { name, value } of state.attributes.list(slot)) {
      hash.update(`xattr ${slot} ${name} ${value.toString('hex')}\n`);
    }
  }
  digestExtents(state, hash);
  digestRest(state, hash);
  return hash.digest('hex');
}

function digestInodes(state: VolumeState, hash: Hash): void {
  const { inodes } = state;
  hash.update(`inodes ${inodes.slots} ${inodes.count} used ${state.usedBytes}\n`);
  for (let slot = ROOT_SLOT; slot < inodes.slots; slot++) {
    const words: number[] = [];
    for (let field = 0; field < INODE_WORDS; field++) words.push(inodes.get(slot, field as Field));
    hash.update(`inode ${slot} ${words.join(' ')}\n`);
  }
  hash.update(`orphans ${[...state.orphans].sort((a, b) => a - b).join(' ')}\n`);
}

/** Runs are cut where chunks end, the same way in every state. */
function digestExtents(state: VolumeState, hash: Hash): void {
  const from = { slot: 0, chunk: 0 };
  state.extents.visit(from, Number.MAX_SAFE_INTEGER, (slot, page, count, place) => {
    const at = place === RESERVED ? 'reserved' : placeText(state, place);
    hash.update(`extent ${slot} ${page} ${count} ${at}\n`);
  });
}

function placeText(state: VolumeState, place: number): string {
  const slot = slotOfPlace(place);
  return slot === 0 ? `pending ${place}` : `${state.segments.idOf(slot)} ${pageOfPlace(place)}`;
}

function digestRest(state: VolumeState, hash: Hash): void {
  const masks = state.masks.tree.seek(0, 0);
  for (; masks.valid; masks.advance()) {
    const ranges = state.masks.of(masks.high, masks.low);
    hash.update(`mask ${masks.high} ${masks.low} ${JSON.stringify(ranges)}\n`);
  }
  const targets = state.attributes.tree.seek(0, 0);
  for (; targets.valid; targets.advance()) {
    hash.update(`attribute ${targets.high} ${targets.low} `);
    hash.update(state.arena.view(targets.blob));
  }
  const live: string[] = [];
  for (let slot = 1; slot < state.segments.slots; slot++) {
    const use = state.segments.at(slot);
    if (use !== null && use.livePages > 0) live.push(`${use.segment} ${use.livePages}`);
  }
  hash.update(live.sort().join('\n'));
}
