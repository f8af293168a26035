/**
 * Reads a checkpoint back into a state: top page, manifest, then the images window by window in the
 * manifest's order, which is also the order in which most of them stand in the log. Without a root
 * the state is empty and replay begins at the beginning.
 */
import { crc32 } from '../core/checksum.js';
import { asFault, HoldfastError, malformed } from '../core/errors.js';
import { type Lsn, lsn, PAGE_BYTES } from '../core/units.js';
import type { VolumeOwner } from '../replication/owner-api.js';
import type { Bucket, ImagePlace } from './bucket.js';
import {
  decodeInodePage,
  decodeLeaf,
  decodeManifest,
  decodeTop,
  type Manifest,
  type ManifestPart,
} from './checkpoint-format.js';
import { CHUNK_STRIDE, isPending } from './pending.js';
import type { CheckpointRoot } from './root-store.js';
import { VolumeState } from './state.js';
import type { Leaf } from './tree.js';

export interface LoadedCheckpoint {
  readonly state: VolumeState;
  readonly replayFrom: Lsn;
}

type Loaded = (error: HoldfastError | null, loaded: LoadedCheckpoint | null) => void;

/** Bytes of images that are read before they are built in. */
const WINDOW_BYTES = 1024 * 1024;

interface Item {
  readonly section: number;
  readonly image: ImagePlace;
}

/** Loads the checkpoint under `root`. Fails with MALFORMED, VERSION or what reading fails with. */
export function loadCheckpoint(
  owner: VolumeOwner,
  root: CheckpointRoot | null,
  done: Loaded,
): void {
  if (root === null) {
    done(null, { state: new VolumeState(), replayFrom: lsn(0) });
    return;
  }
  readManifest(owner, root, (error, manifest, parts) => {
    if (error !== null || manifest === null) done(error, null);
    else new Loader(owner, root, manifest, parts, done).next();
  });
}

type ManifestDone = (
  error: HoldfastError | null,
  manifest: Manifest | null,
  parts: readonly ManifestPart[],
) => void;

function readManifest(owner: VolumeOwner, root: CheckpointRoot, done: ManifestDone): void {
  owner.readPages(root.segment, root.page, 1, (error, bytes) => {
    if (error !== null || bytes === null) {
      done(error, null, []);
      return;
    }
    attempt(done, () => {
      const top = decodeTop(bytes);
      const read: Uint8Array[] = [];
      const next = (index: number): void => {
        const part = top.parts[index];
        if (part === undefined) {
          attempt(done, () => {
            const whole = Buffer.concat(read).subarray(0, top.length);
            if (crc32(whole) !== top.crc) throw malformed('manifest: checksum mismatch');
            done(null, decodeManifest(whole), top.parts);
          });
          return;
        }
        owner.readPages(part.segment, part.page, part.pages, (fault, data) => {
          if (data !== null) read.push(data);
          if (fault !== null) done(fault, null, []);
          else next(index + 1);
        });
      };
      next(0);
    });
  });
}

/** What is thrown while bytes are decoded becomes the call's fault. */
function attempt(
  done: (error: HoldfastError, nothing: null, none: never[]) => void,
  run: () => void,
) {
  try {
    run();
  } catch (error) {
    done(asFault(error, 'MALFORMED'), null, []);
  }
}

class Loader {
  readonly #owner: VolumeOwner;
  readonly #manifest: Manifest;
  readonly #done: Loaded;
  readonly #state = new VolumeState();
  readonly #items: Item[];
  readonly #last: (Leaf | null)[];
  #at = 0;

  constructor(
    owner: VolumeOwner,
    root: CheckpointRoot,
    manifest: Manifest,
    parts: readonly ManifestPart[],
    done: Loaded,
  ) {
    this.#owner = owner;
    this.#manifest = manifest;
    this.#done = done;
    this.#items = manifest.sections.flatMap((images, section) =>
      images.map((image) => ({ section, image })),
    );
    this.#last = manifest.sections.map(() => null);
    const { segments } = this.#state;
    for (const { slot, segment } of manifest.segments) segments.define(slot, segment);
    for (const { image } of this.#items) segments.countImage(image.segment, image.length);
    for (const { segment, pages } of parts) {
      segments.countImage(segments.slotOf(segment), pages * PAGE_BYTES);
    }
    segments.countImage(segments.slotOf(root.segment), PAGE_BYTES);
  }

  /** Reads the next stretch of images that stand together, and builds them in. */
  next(): void {
    const first = this.#items[this.#at];
    if (first === undefined) {
      attempt(
        (error) => this.#done(error, null),
        () => this.#complete(),
      );
      return;
    }
    const { segment, offset } = first.image;
    let end = offset;
    let count = 0;
    for (let item: Item | undefined = first; item !== undefined; ) {
      const { image } = item;
      if (image.segment !== segment || image.offset !== end) break;
      if (count > 0 && end + image.length - offset > WINDOW_BYTES) break;
      end += image.length;
      count += 1;
      item = this.#items[this.#at + count];
    }
    const page = Math.floor(offset / PAGE_BYTES);
    const pages = Math.ceil(end / PAGE_BYTES) - page;
    const id = this.#state.segments.idOf(segment);
    this.#owner.readPages(id, page, pages, (error, data) => {
      if (error !== null || data === null) {
        this.#done(error, null);
        return;
      }
      const start = page * PAGE_BYTES;
      attempt(
        (fault) => this.#done(fault, null),
        () => {
          const items = this.#items.slice(this.#at, this.#at + count);
          for (const { section, image } of items) {
            const at = image.offset - start;
            const bytes = Buffer.from(data.subarray(at, at + image.length));
            this.#build(section, bytes, image);
          }
          this.#at += count;
          this.next();
        },
      );
    });
  }

  #build(section: number, bytes: Buffer, image: ImagePlace): void {
    const { inodes, trees, arena } = this.#state;
    let bucket: Bucket;
    if (section === 0) {
      const page = inodes.loadPage();
      decodeInodePage(bytes, page);
      bucket = page;
    } else {
      const tree = trees[section - 1];
      if (tree === undefined) throw malformed(`section ${section}`);
      const leaf = decodeLeaf(bytes, tree, this.#last[section] ?? null, arena);
      this.#last[section] = leaf;
      bucket = leaf;
    }
    bucket.dirty = false;
    bucket.image = image;
  }

  #complete(): void {
    const state = this.#state;
    state.inodes.loaded(this.#manifest.inodeSlots);
    state.recount();
    this.#resolvePending();
    this.#done(null, { state, replayFrom: this.#manifest.lsn });
  }

  /** Pages that were on their way when their images were taken have their places now. */
  #resolvePending(): void {
    if (this.#manifest.pending.length === 0) return;
    const places = new Map(this.#manifest.pending.map(({ chunk, place }) => [chunk, place]));
    const found: { slot: number; page: number; count: number; place: number }[] = [];
    const from = { slot: 0, chunk: 0 };
    this.#state.extents.visit(from, Number.MAX_SAFE_INTEGER, (slot, page, count, place) => {
      if (!isPending(place)) return;
      const base = places.get(Math.floor(place / CHUNK_STRIDE));
      if (base === undefined) throw new HoldfastError('INCONSISTENT', 'a page without a place');
      found.push({ slot, page, count, place: base + (place % CHUNK_STRIDE) });
    });
    for (const { slot, page, count, place } of found) {
      this.#state.extents.set(slot, page, count, place);
    }
  }
}
