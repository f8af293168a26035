/**
 * Writes checkpoints while the volume goes on working. At one moment (between two records) every
 * bucket that changed since its last image is captured; from then on whoever wants to change a
 * captured bucket has its image taken first, and the rest are taken bit by bit. So the images are
 * the state of that moment, and only what changed is written. When they, and the groups that were
 * on their way at that moment, are in the log, the manifest follows and the root is swapped.
 *
 * INVARIANT: nothing that an older root needs is given up before the swap is durable. A segment
 * may be deleted only if it was dead at the moment of a checkpoint whose root is durable: what the
 * live state has dropped since could come back by a crash.
 */
import { assert } from '../core/assert.js';
import type { HoldfastError } from '../core/errors.js';
import type { SegmentId } from '../core/ids.js';
import { type Lsn, PAGE_BYTES } from '../core/units.js';
import type { Appended } from '../replication/owner-api.js';
import type { Bucket, ImagePlace } from './bucket.js';
import {
  encodeInodePage,
  encodeLeaf,
  encodeManifest,
  encodeTop,
  leafBytes,
  type ManifestPart,
  padToPages,
} from './checkpoint-format.js';
import type { History } from './history.js';
import type { InodePage } from './inode-table.js';
import {
  CHECKPOINT_LOG_BYTES,
  CHECKPOINT_RECORD_BYTES,
  CHECKPOINT_WORTH,
  IMAGE_BATCH_BYTES,
} from './limits.js';
import type { PendingChunk } from './pending.js';
import type { CheckpointRoot, RootStore } from './root-store.js';
import type { VolumeState } from './state.js';
import type { Leaf } from './tree.js';

/** Batches of images given to the log at a time, so that they do not push writes aside. */
const BATCHES_IN_FLIGHT = 2;

type Piece = Leaf | InodePage;

interface Job {
  readonly lsn: Lsn;
  readonly inodeSlots: number;
  readonly sections: readonly (readonly Piece[])[];
  /** Those whose images have to be taken. */
  readonly captured: readonly Piece[];
  /** How many of them, from the first on, have been. */
  passed: number;
  readonly taken: { readonly bucket: Bucket; readonly bytes: Buffer }[];
  takenBytes: number;
  inFlight: number;
  /** Chunk id → place, null while on its way. */
  readonly pending: Map<number, number | null>;
  readonly dead: readonly SegmentId[];
  readonly done: (error: HoldfastError | null) => void;
}

/** Bytes in the log: of records, and of records and pages. */
export interface Logged {
  readonly recordBytes: number;
  readonly bytes: number;
}

export interface CheckpointDeps {
  readonly state: VolumeState;
  readonly history: History;
  readonly roots: RootStore;
  /** Was behind the newest checkpoint before this mount, and replayed. */
  readonly replayed: Logged;
}

export interface CheckpointLimits {
  readonly recordBytes?: number;
  readonly logBytes?: number;
}

export class CheckpointWriter {
  /** A checkpoint is durable: these segments were dead when it was taken. */
  onDurable: (root: CheckpointRoot, dead: readonly SegmentId[]) => void = () => {};
  readonly #deps: CheckpointDeps;
  readonly #limits: Required<CheckpointLimits>;
  #job: Job | null = null;
  /** What was logged when the last one began. */
  #since: Logged;
  #writtenPages = 0;

  constructor(deps: CheckpointDeps, limits: CheckpointLimits = {}) {
    this.#deps = deps;
    this.#limits = {
      recordBytes: limits.recordBytes ?? CHECKPOINT_RECORD_BYTES,
      logBytes: limits.logBytes ?? CHECKPOINT_LOG_BYTES,
    };
    const { state, history, replayed } = deps;
    this.#since = { recordBytes: -replayed.recordBytes, bytes: -replayed.bytes };
    state.inodes.onCapture = (page) => this.#take(page);
    for (const tree of state.trees) tree.onCapture = (leaf) => this.#take(leaf);
    history.placed.push((chunk, place) => this.#placed(chunk, place));
    history.onLogged.push(() => this.#consider());
    history.onFailure = (error) => {
      if (this.#job !== null) this.#end(this.#job, error);
    };
  }

  get isRunning(): boolean {
    return this.#job !== null;
  }

  /** Pages of checkpoints since the start: their cost. */
  get writtenPages(): number {
    return this.#writtenPages;
  }

  /** Bytes of images that were taken and wait for the log: what is done in bulk should wait. */
  get backlogBytes(): number {
    return this.#job?.takenBytes ?? 0;
  }

  /** How much of what makes a checkpoint due has been logged since the last. */
  get #due(): number {
    const { recordBytes, bytes } = this.#deps.history.logged;
    const records = (recordBytes - this.#since.recordBytes) / this.#limits.recordBytes;
    return Math.max(records, (bytes - this.#since.bytes) / this.#limits.logBytes);
  }

  /** Whether replaying what came since the last would take longer than writing one now. */
  get isWorthIt(): boolean {
    return this.#due >= CHECKPOINT_WORTH;
  }

  /** Begins one when enough has been logged since the last. */
  #consider(): void {
    if (this.#job !== null || this.#deps.history.failure !== null) return;
    if (this.#due >= 1) this.#deps.history.deferred.run(() => this.begin(() => {}));
  }

  /** Takes a checkpoint of this moment. Calls back at once if one is under way. */
  begin(done: (error: HoldfastError | null) => void): void {
    const { state, history } = this.#deps;
    if (this.#job !== null) {
      history.deferred.run(() => done(null));
      return;
    }
    history.close();
    this.#since = history.logged;
    const captured: Piece[] = [];
    const inodes = [...state.inodes.pages];
    for (const page of inodes) capture(page, captured);
    this.#divideLarge();
    const trees = state.trees.map((tree) => {
      const leaves: Leaf[] = [];
      for (let leaf: Leaf | null = tree.first; leaf !== null; leaf = leaf.next) {
        if (leaf.count === 0) continue;
        capture(leaf, captured);
        leaves.push(leaf);
      }
      return leaves;
    });
    this.#job = {
      lsn: history.nextLsn,
      inodeSlots: state.inodes.slots,
      sections: [inodes, ...trees],
      captured,
      passed: 0,
      taken: [],
      takenBytes: 0,
      inFlight: 0,
      pending: new Map(history.pool.ids().map((id) => [id, null])),
      dead: this.#deadSegments(history.nextLsn),
      done,
    };
    this.#work();
  }

  /**
   * An image goes to the log as one entry, and one that is larger than a batch may be would never
   * leave the queue. Only attributes can come to that: 60 KiB of each of a leaf's files. A leaf of
   * any other tree has an image of little more than 1 MiB at most.
   */
  #divideLarge(): void {
    const { arena, attributes } = this.#deps.state;
    for (let leaf: Leaf | null = attributes.tree.first; leaf !== null; leaf = leaf.next) {
      const isNew = leaf.dirty || leaf.image === null;
      while (isNew && leafBytes(leaf, arena) > IMAGE_BATCH_BYTES) attributes.tree.divide(leaf);
    }
  }

  #deadSegments(before: Lsn): SegmentId[] {
    const { state, roots } = this.#deps;
    return roots
      .sealed()
      .filter(({ segment, endLsn }) => {
        const use = state.segments.at(state.segments.known(segment));
        return endLsn <= before && (use === null || use.livePages === 0);
      })
      .map(({ segment }) => segment);
  }

  /** Of these, the segments in which no image of the new root stands. */
  #withoutImages(dead: readonly SegmentId[]): SegmentId[] {
    const { segments } = this.#deps.state;
    return dead.filter((id) => (segments.at(segments.known(id))?.imageBytes ?? 0) === 0);
  }

  /** Takes the image of one captured bucket, now. */
  #take(bucket: Piece): void {
    const job = this.#job;
    bucket.captured = false;
    if (job === null) return;
    const bytes =
      'words' in bucket
        ? Buffer.from(encodeInodePage(bucket))
        : encodeLeaf(bucket, this.#deps.state.arena);
    job.taken.push({ bucket, bytes });
    job.takenBytes += bytes.length;
  }

  /** Takes and sends images until enough are on their way, then finishes when all have arrived. */
  #work(): void {
    const job = this.#job;
    if (job === null || this.#failed(job)) return;
    while (job.inFlight < BATCHES_IN_FLIGHT) {
      while (job.takenBytes < IMAGE_BATCH_BYTES && job.passed < job.captured.length) {
        const bucket = job.captured[job.passed] as Piece;
        job.passed += 1;
        if (bucket.captured) this.#take(bucket);
      }
      if (job.taken.length === 0) break;
      this.#send(job);
    }
    if (job.passed < job.captured.length || job.taken.length > 0 || job.inFlight > 0) return;
    for (const place of job.pending.values()) if (place === null) return;
    this.#finish(job);
  }

  #failed(job: Job): boolean {
    const { failure } = this.#deps.history;
    if (failure === null) return false;
    this.#end(job, failure);
    return true;
  }

  /** One batch of images, packed. */
  #send(job: Job): void {
    const batch: { bucket: Bucket; bytes: Buffer; at: number }[] = [];
    let length = 0;
    for (const { bucket, bytes } of job.taken) {
      if (batch.length > 0 && length + bytes.length > IMAGE_BATCH_BYTES) break;
      batch.push({ bucket, bytes, at: length });
      length += bytes.length;
    }
    job.taken.splice(0, batch.length);
    job.takenBytes -= length;
    job.inFlight += 1;
    const pages = padToPages(Buffer.concat(batch.map((one) => one.bytes)));
    this.#append(job, pages, ({ segment, firstPage }) => {
      job.inFlight -= 1;
      const slot = this.#deps.state.segments.slotOf(segment);
      for (const { bucket, bytes, at } of batch) {
        const offset = firstPage * PAGE_BYTES + at;
        bucket.nextImage = { segment: slot, offset, length: bytes.length };
      }
      this.#work();
    });
  }

  #append(job: Job, pages: Buffer, then: (appended: Appended) => void): void {
    this.#writtenPages += pages.length / PAGE_BYTES;
    this.#deps.history.appendCheckpoint(pages, (error, appended) => {
      if (this.#job !== job) return;
      if (error !== null || appended === null) this.#end(job, error);
      else then(appended);
    });
  }

  /** A group that was on its way at the checkpoint's moment has come to the log. */
  #placed(chunk: PendingChunk, place: number): void {
    const job = this.#job;
    if (job === null || job.pending.get(chunk.id) !== null) return;
    job.pending.set(chunk.id, place);
    this.#deps.history.deferred.run(() => this.#work());
  }

  #finish(job: Job): void {
    const { state } = this.#deps;
    const segments: { slot: number; segment: SegmentId }[] = [];
    for (let slot = 1; slot < state.segments.slots; slot++) {
      const use = state.segments.at(slot);
      if (use !== null) segments.push({ slot, segment: use.segment });
    }
    const pending = [...job.pending].map(([chunk, place]) => ({ chunk, place: place as number }));
    const sections = job.sections.map((buckets) => buckets.map((bucket) => imageOf(bucket)));
    const { lsn, inodeSlots } = job;
    const manifest = encodeManifest({ lsn, inodeSlots, segments, pending, sections });
    job.inFlight += 1;
    this.#sendManifest(job, manifest, 0, []);
  }

  #sendManifest(job: Job, manifest: Buffer, from: number, parts: readonly ManifestPart[]): void {
    if (from >= manifest.length) {
      this.#append(job, encodeTop(manifest, parts), ({ segment, firstPage }) => {
        this.#swap(job, { segment, page: firstPage, lsn: job.lsn }, parts);
      });
      return;
    }
    const end = Math.min(manifest.length, from + IMAGE_BATCH_BYTES);
    const pages = padToPages(manifest.subarray(from, end));
    this.#append(job, pages, ({ segment, firstPage }) => {
      const part = { segment, page: firstPage, pages: pages.length / PAGE_BYTES };
      this.#sendManifest(job, manifest, end, [...parts, part]);
    });
  }

  #swap(job: Job, root: CheckpointRoot, parts: readonly ManifestPart[]): void {
    this.#deps.roots.setRoot(root, (error) => {
      if (this.#job !== job) return;
      if (error === null) this.#install(job, root, parts);
      this.#end(job, error);
      if (error === null) this.onDurable(root, this.#withoutImages(job.dead));
    });
  }

  /**
   * The images of the new root are the ones that count. Those that hold places of groups then on
   * their way are of dirty buckets: the arrival of the group changed them. So no later manifest
   * will use them.
   */
  #install(job: Job, root: CheckpointRoot, parts: readonly ManifestPart[]): void {
    const { segments } = this.#deps.state;
    segments.clearImages();
    for (const buckets of job.sections) {
      for (const bucket of buckets) {
        const image = imageOf(bucket);
        segments.countImage(image.segment, image.length);
        bucket.image = image;
      }
    }
    for (const { segment, pages } of parts) {
      segments.countImage(segments.slotOf(segment), pages * PAGE_BYTES);
    }
    segments.countImage(segments.slotOf(root.segment), PAGE_BYTES);
  }

  /** Whatever happened: a bucket without a durable image is dirty, and nothing is captured. */
  #end(job: Job, error: HoldfastError | null): void {
    assert(this.#job === job, 'one checkpoint at a time');
    this.#job = null;
    for (const bucket of job.captured) {
      bucket.captured = false;
      if (error !== null) bucket.dirty = true;
    }
    job.done(error);
  }
}

/** Marks what changed since its image was taken, and gives the rest the image it has. */
function capture(bucket: Piece, captured: Piece[]): void {
  const isClean = !bucket.dirty && bucket.image !== null;
  bucket.nextImage = isClean ? bucket.image : null;
  if (isClean) return;
  bucket.dirty = false;
  bucket.captured = true;
  captured.push(bucket);
}

function imageOf(bucket: Bucket): ImagePlace {
  assert(bucket.nextImage !== null, 'each bucket has its image when the manifest is written');
  return bucket.nextImage;
}
