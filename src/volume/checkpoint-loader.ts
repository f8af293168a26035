/**
 * Reads a checkpoint back into a state: top page, manifest, then the images in the manifest's
 * order, which is also the order in which most of them stand in the log: several windows are read
 * ahead, each is built in in a turn of its own. Without a root the state is empty and replay begins
 * at the beginning.
 */
import { crc32 } from '../core/checksum.js';
import { asBuffer } from '../core/codec.js';
import { asFault, HoldfastError, malformed } from '../core/errors.js';
import { type Lsn, lsn, PAGE_BYTES } from '../core/units.js';
import type { Clock } from '../io/clock.js';
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
import { RESERVED } from './segments.js';
import { VolumeState } from './state.js';
import type { Leaf } from './tree.js';

export interface LoadedCheckpoint {
  readonly state: VolumeState;
  readonly replayFrom: Lsn;
}

type Loaded = (error: HoldfastError | null, loaded: LoadedCheckpoint | null) => void;

/** The section of the inode table; those of the trees follow. */
const INODES = 0;
/** What is read at once, and built in in one turn. */
const WINDOW_BYTES = 256 * 1024;
const READS_IN_FLIGHT = 16;

interface Item {
  readonly section: number;
  readonly image: ImagePlace;
}

/** A stretch of the log with images that follow each other in the manifest. */
interface Window {
  readonly items: readonly Item[];
  readonly page: number;
  /** Null until it has arrived. */
  data: Buffer | null;
}

/** A log of which pages can be read, owned or not. */
export type PagesOfLog = Pick<VolumeOwner, 'readPages'>;

/** What to load from, and how. */
export interface LoadSource {
  readonly owner: PagesOfLog;
  readonly clock: Clock;
  readonly root: CheckpointRoot | null;
  /** Told of each piece that was built in: how many bytes of so many there are by now. */
  readonly onLoaded?: ((bytes: number, ofBytes: number) => void) | undefined;
}

/** Loads the checkpoint under `root`. Fails with MALFORMED, VERSION or what reading fails with. */
export function loadCheckpoint(source: LoadSource, done: Loaded): void {
  const { owner, root } = source;
  if (root === null) {
    done(null, { state: new VolumeState(), replayFrom: lsn(0) });
    return;
  }
  readManifest(owner, root, (error, manifest, parts) => {
    if (error !== null || manifest === null) done(error, null);
    else new Loader({ ...source, root }, manifest, parts, done).start();
  });
}

type ManifestDone = (
  error: HoldfastError | null,
  manifest: Manifest | null,
  parts: readonly ManifestPart[],
) => void;

function readManifest(owner: PagesOfLog, root: CheckpointRoot, done: ManifestDone): void {
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
  readonly #owner: PagesOfLog;
  readonly #clock: Clock;
  readonly #onLoaded: LoadSource['onLoaded'];
  readonly #manifest: Manifest;
  readonly #done: Loaded;
  readonly #state = new VolumeState();
  readonly #items: Item[];
  readonly #last: (Leaf | null)[];
  /** Where pages stand that were on their way when their images were taken, by chunk. */
  readonly #places: ReadonlyMap<number, number>;
  readonly #unplaced: { slot: number; page: number; count: number; place: number }[] = [];
  /** Items from here on have not been asked for. */
  #asked = 0;
  /** In the manifest's order. */
  readonly #windows: Window[] = [];
  #isBuilding = false;
  #builtBytes = 0;
  readonly #ofBytes: number;
  #isOver = false;

  constructor(
    source: LoadSource & { readonly root: CheckpointRoot },
    manifest: Manifest,
    parts: readonly ManifestPart[],
    done: Loaded,
  ) {
    this.#owner = source.owner;
    this.#clock = source.clock;
    this.#onLoaded = source.onLoaded;
    this.#manifest = manifest;
    this.#done = done;
    this.#items = manifest.sections.flatMap((images, section) =>
      images.map((image) => ({ section, image })),
    );
    this.#ofBytes = this.#items.reduce((sum, { image }) => sum + image.length, 0);
    this.#last = manifest.sections.map(() => null);
    this.#places = new Map(manifest.pending.map(({ chunk, place }) => [chunk, place]));
    const { segments } = this.#state;
    for (const { slot, segment } of manifest.segments) segments.define(slot, segment);
    for (const { image } of this.#items) segments.countImage(image.segment, image.length);
    for (const { segment, pages } of parts) {
      segments.countImage(segments.slotOf(segment), pages * PAGE_BYTES);
    }
    segments.countImage(segments.slotOf(source.root.segment), PAGE_BYTES);
  }

  start(): void {
    this.#onLoaded?.(0, this.#ofBytes);
    this.#attempt(() => this.#readOn());
  }

  #end(error: HoldfastError | null, loaded: LoadedCheckpoint | null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#done(error, loaded);
  }

  /** What is thrown while images are built in ends the load. */
  #attempt(run: () => void): void {
    try {
      if (!this.#isOver) run();
    } catch (error) {
      this.#end(asFault(error, 'MALFORMED'), null);
    }
  }

  #readOn(): void {
    while (this.#windows.length < READS_IN_FLIGHT) {
      const window = this.#nextWindow();
      if (window === null) break;
      this.#windows.push(window);
      this.#read(window);
    }
    if (this.#windows.length === 0) this.#complete();
  }

  /** The next images that stand together. */
  #nextWindow(): Window | null {
    const first = this.#items[this.#asked];
    if (first === undefined) return null;
    const { segment, offset } = first.image;
    let end = offset;
    let count = 0;
    for (let item: Item | undefined = first; item !== undefined; ) {
      const { image } = item;
      if (image.segment !== segment || image.offset !== end) break;
      if (count > 0 && end + image.length - offset > WINDOW_BYTES) break;
      end += image.length;
      count += 1;
      item = this.#items[this.#asked + count];
    }
    const items = this.#items.slice(this.#asked, this.#asked + count);
    this.#asked += count;
    return { items, page: Math.floor(offset / PAGE_BYTES), data: null };
  }

  #read(window: Window): void {
    const { image } = window.items[window.items.length - 1] as Item;
    const end = Math.ceil((image.offset + image.length) / PAGE_BYTES);
    const id = this.#state.segments.idOf(image.segment);
    this.#owner.readPages(id, window.page, end - window.page, (error, data) => {
      if (error !== null || data === null) {
        this.#end(error, null);
        return;
      }
      window.data = asBuffer(data);
      this.#buildNext();
    });
  }

  /** Builds the first window in, when it has arrived, in a turn of its own. */
  #buildNext(): void {
    if (this.#isBuilding || this.#isOver || (this.#windows[0]?.data ?? null) === null) return;
    this.#isBuilding = true;
    this.#clock.soon(() => {
      this.#isBuilding = false;
      this.#attempt(() => {
        const window = this.#windows.shift() as Window;
        const start = window.page * PAGE_BYTES;
        for (const { section, image } of window.items) {
          const at = image.offset - start;
          const bytes = (window.data as Buffer).subarray(at, at + image.length);
          this.#build(section, bytes, image);
          this.#builtBytes += image.length;
        }
        this.#onLoaded?.(this.#builtBytes, this.#ofBytes);
        this.#readOn();
        this.#buildNext();
      });
    });
  }

  #build(section: number, bytes: Buffer, image: ImagePlace): void {
    const { inodes, trees, arena } = this.#state;
    let bucket: Bucket;
    if (section === INODES) {
      const page = inodes.loadPage();
      decodeInodePage(bytes, page);
      this.#state.countInodes(page, this.#manifest.inodeSlots);
      bucket = page;
    } else {
      const tree = trees[section - 1];
      if (tree === undefined) throw malformed(`section ${section}`);
      const leaf = decodeLeaf(bytes, tree, this.#last[section] ?? null, arena);
      this.#last[section] = leaf;
      if (tree === this.#state.extents.tree) this.#countExtents(leaf);
      bucket = leaf;
    }
    bucket.dirty = false;
    bucket.image = image;
  }

  /** Counts what a leaf of extents refers to. */
  #countExtents(leaf: Leaf): void {
    const { extents, segments } = this.#state;
    extents.visitLeaf(leaf, (slot, page, count, place) => {
      if (isPending(place)) {
        const base = this.#places.get(Math.floor(place / CHUNK_STRIDE));
        if (base === undefined) throw new HoldfastError('INCONSISTENT', 'a page without a place');
        this.#unplaced.push({ slot, page, count, place: base + (place % CHUNK_STRIDE) });
      } else if (place !== RESERVED) {
        segments.count(place, count);
      }
    });
  }

  #complete(): void {
    const state = this.#state;
    state.inodes.loaded(this.#manifest.inodeSlots);
    // Pages that were on their way when their images were taken have their places now.
    for (const { slot, page, count, place } of this.#unplaced) {
      state.extents.set(slot, page, count, place);
    }
    state.segments.releaseUnused();
    this.#end(null, { state, replayFrom: this.#manifest.lsn });
  }
}
