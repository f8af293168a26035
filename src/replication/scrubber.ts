/**
 * Verifies what is on a node's own disks, on a schedule: every page of every sealed copy is read
 * at a bounded rate, in the order of segment ids, and compared with its checksum. What is rotten,
 * found so or by anybody's read, is made good by the COPY that repair uses. The place where a pass
 * is stands in the metadata store now and then, so a restart costs minutes of it at most.
 *
 * INVARIANT: nothing is written but by COPY, which the node confirms with the metadata store and
 * which takes nothing that does not verify; a copy counts as good only when it was read again.
 */
import type { Reply, Request } from '../block/wire/messages.js';
import { HoldfastError } from '../core/errors.js';
import type { Incarnation, NodeId, SegmentId, VolumeId } from '../core/ids.js';
import { INVENTORY_PAGE, READ_MAX_PAGES } from '../core/limits.js';
import { PAGE_BYTES, pageIndex } from '../core/units.js';
import type { Clock, Timer } from '../io/clock.js';
import type { Log } from '../io/log.js';
import { listNodes } from '../metadata/nodes.js';
import {
  type DiskScrub,
  type RottenCopy,
  readScrub,
  SCRUB_ROTTEN_MAX,
  writeScrub,
} from '../metadata/scrub-progress.js';
import { type ClusterSettings, DEFAULT_SETTINGS, readSettings } from '../metadata/settings.js';
import type { MetadataStore } from '../metadata/store.js';
import { readVolume, type VersionedVolume } from '../metadata/stored-volume.js';
import { copyRequest } from './copy-request.js';
import { Pace } from './pace.js';

/** The node's own disks, as its storage offers them. */
export interface ScrubbedDisks {
  /** Those that can be read now. */
  readonly incarnations: () => readonly Incarnation[];
  readonly handle: (request: Request, reply: (reply: Reply) => void) => void;
  /** Sealed copies that a read found rotten since the last call. */
  readonly takeRotten: (disk: Incarnation) => readonly (readonly [SegmentId, VolumeId])[];
}

export interface ScrubTimes {
  /** How often settings and what reads have found are looked at. */
  readonly lookMs: number;
  /** How often the place of a pass is noted. */
  readonly noteMs: number;
  /** What could not be made good is tried again after this. */
  readonly retryMs: number;
}

const SCRUB_TIMES: ScrubTimes = { lookMs: 5_000, noteMs: 60_000, retryMs: 60_000 };

export interface ScrubberOptions {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly node: NodeId;
  readonly disks: ScrubbedDisks;
  readonly times?: Partial<ScrubTimes>;
}

/** Of one disk, for metrics; bytes count since this process began. */
export interface ScrubNumbers extends DiskScrub {
  readonly readBytes: number;
}

interface Rotten extends RottenCopy {
  /** Monotonic: not again before. */
  readonly retryAt: number;
}

/** One disk's place, and what is known to be rotten on it. */
interface Place {
  readonly incarnation: Incarnation;
  readonly pace: Pace;
  readonly rotten: Map<SegmentId, Rotten>;
  /** What reads have found and nobody has looked at yet. */
  readonly marked: Map<SegmentId, VolumeId>;
  startedAt: string | null;
  endedAt: string | null;
  after: SegmentId | null;
  repaired: number;
  readBytes: number;
  isBusy: boolean;
}

interface Found {
  readonly segment: SegmentId;
  readonly length: number;
}

export class Scrubber {
  readonly #options: ScrubberOptions;
  readonly #times: ScrubTimes;
  readonly #places = new Map<Incarnation, Place>();
  #settings: ClusterSettings = DEFAULT_SETTINGS;
  /** Null until it has been read: then nobody knows where to go on. */
  #noted: readonly DiskScrub[] | null = null;
  #told = '';
  #notedAt = Number.NEGATIVE_INFINITY;
  /** Something people should see has happened: noted at the next look. */
  #isNews = false;
  #timer: Timer | null = null;
  #isStopped = false;

  constructor(options: ScrubberOptions) {
    this.#options = options;
    this.#times = { ...SCRUB_TIMES, ...options.times };
  }

  start(): void {
    this.#timer = this.#options.clock.after(0, () => void this.#turn());
  }

  /** Where it is by then is noted, unless that takes longer than the caller waits. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.cancel();
    for (const { pace } of this.#places.values()) pace.close();
    await this.#try('', () => this.#note());
  }

  numbers(): ScrubNumbers[] {
    return [...this.#places.values()].map((place) => {
      return { ...progressOf(place), readBytes: place.readBytes };
    });
  }

  async #turn(): Promise<void> {
    const { store, clock, node, disks } = this.#options;
    await this.#try(
      'The settings of scrub cannot be read; going on with those before.',
      async () => {
        this.#settings = await readSettings(store);
        this.#noted ??= await readScrub(store, node);
      },
    );
    if (this.#isStopped) return;
    if (this.#noted !== null) {
      for (const incarnation of disks.incarnations()) this.#look(this.#place(incarnation));
      const isDue = this.#isNews || clock.monotonic() - this.#notedAt >= this.#times.noteMs;
      if (isDue) await this.#try('', () => this.#note());
    }
    if (this.#isStopped) return;
    this.#timer = clock.after(this.#times.lookMs, () => void this.#turn());
  }

  #place(incarnation: Incarnation): Place {
    const known = this.#places.get(incarnation);
    if (known !== undefined) return known;
    const noted = this.#noted?.find((one) => one.incarnation === incarnation);
    const {
      startedAt = null,
      endedAt = null,
      after = null,
      repaired = 0,
      first = [],
    } = noted ?? {};
    const rotten = new Map(first.map((one) => [one.segment, { ...one, retryAt: 0 }]));
    const pace = new Pace(this.#options.clock);
    const state = { startedAt, endedAt, after, repaired, readBytes: 0, isBusy: false };
    const place: Place = { incarnation, pace, rotten, marked: new Map(), ...state };
    this.#places.set(incarnation, place);
    return place;
  }

  /** Begins, or goes on with, what is to be done on a disk, unless something is. */
  #look(place: Place): void {
    place.pace.setRate(this.#settings.scrubBytesPerSecond);
    if (place.isBusy) return;
    place.isBusy = true;
    const work = this.#isDue(place) ? this.#pass(place) : this.#mend(place);
    void work.finally(() => {
      place.isBusy = false;
    });
  }

  #isDue({ after, startedAt }: Place): boolean {
    const { scrubIntervalMs } = this.#settings;
    if (scrubIntervalMs === null) return false;
    if (after !== null || startedAt === null) return true;
    // A clock that was set back must not put scrub off for as long.
    const ago = this.#options.clock.wall() - Date.parse(startedAt);
    return !(ago < scrubIntervalMs && ago > -scrubIntervalMs);
  }

  get #isOn(): boolean {
    return !this.#isStopped && this.#settings.scrubIntervalMs !== null;
  }

  /** Reads all sealed copies behind the place where it is. */
  async #pass(place: Place): Promise<void> {
    const { clock } = this.#options;
    const now = (): string => new Date(clock.wall()).toISOString();
    if (place.after === null) place.startedAt = now();
    for (;;) {
      const page = await this.#sealed(place);
      if (page === null) return;
      for (const one of page.found) {
        const isDone = await this.#verify(place, one);
        await this.#mend(place);
        if (!this.#isOn || isDone === null) return;
        place.after = one.segment;
      }
      place.after = page.after;
      if (page.after === null) break;
    }
    place.endedAt = now();
    this.#isNews = true;
  }

  /** A page of the sealed copies, and where the next one begins; null when the disk is gone. */
  async #sealed({ incarnation, after }: Place): Promise<{
    readonly found: readonly Found[];
    readonly after: SegmentId | null;
  } | null> {
    const request = { type: 'inventory', incarnation, after, limit: INVENTORY_PAGE } as const;
    const { status, body } = await this.#ask(request);
    if (status !== 'OK' || body?.type !== 'inventory') return null;
    const found = body.entries.filter(({ state, length }) => state === 'sealed' && length > 0);
    return { found, after: body.more ? (body.entries.at(-1)?.segment ?? null) : null };
  }

  /**
   * Whether all pages verify; a copy that is no more is nobody's business. Null: not known, since
   * scrub is to stop or the disk does not answer as it should.
   */
  async #verify(place: Place, { segment, length }: Found): Promise<boolean | null> {
    const { incarnation, pace } = place;
    const pages = length / PAGE_BYTES;
    for (let page = 0; page < pages; page += READ_MAX_PAGES) {
      const count = Math.min(READ_MAX_PAGES, pages - page);
      await pace.take(count * PAGE_BYTES);
      if (this.#isStopped) return null;
      const read = { type: 'read', incarnation, segment, page: pageIndex(page), count } as const;
      const { status } = await this.#ask(read);
      if (status === 'INCARNATION' || status === 'BUSY') return null;
      if (status === 'DISK') return this.#works(incarnation) ? false : null;
      if (status !== 'OK') return true;
      place.readBytes += count * PAGE_BYTES;
    }
    return true;
  }

  /** Makes good what reads have found, and what could not be made good before. */
  async #mend(place: Place): Promise<void> {
    const { marked, rotten } = place;
    const now = this.#options.clock.monotonic();
    this.#collect(place);
    for (const { segment, volume, retryAt } of rotten.values()) {
      if (retryAt <= now) marked.set(segment, volume);
      else marked.delete(segment);
    }
    const records = new Map<VolumeId, VersionedVolume>();
    for (const [segment, volume] of [...marked]) {
      if (this.#isStopped || !this.#works(place.incarnation)) return;
      marked.delete(segment);
      const why = await this.#mendOne(place, volume, segment, records);
      this.#judge(place, { volume, segment }, why);
    }
  }

  #collect({ incarnation, marked }: Place): void {
    const { disks } = this.#options;
    for (const [segment, volume] of disks.takeRotten(incarnation)) marked.set(segment, volume);
  }

  #judge(
    { incarnation: disk, rotten }: Place,
    { volume, segment }: Omit<RottenCopy, 'why'>,
    why: string | null,
  ): void {
    const { clock, log } = this.#options;
    const isKnown = rotten.has(segment);
    if (why === null) rotten.delete(segment);
    else
      rotten.set(segment, {
        volume,
        segment,
        why,
        retryAt: clock.monotonic() + this.#times.retryMs,
      });
    if (isKnown === (why !== null)) return;
    this.#isNews = true;
    if (why !== null)
      log.error({ disk, volume, segment, why }, 'A rotten copy cannot be repaired.');
  }

  /**
   * Null when the copy is good, or is none any more; else why it is not. `records`: as they were
   * read for the copies before, so that only what has changed since is read again.
   */
  async #mendOne(
    place: Place,
    volume: VolumeId,
    segment: SegmentId,
    records: Map<VolumeId, VersionedVolume>,
  ): Promise<string | null> {
    const { store, log } = this.#options;
    const { incarnation } = place;
    try {
      const found = await readVolume(store, volume, records.get(volume) ?? null);
      if (found !== null) records.set(volume, found);
      const sealed = found?.record.sealed.find((one) => one.segment === segment);
      if (sealed === undefined) return null;
      if (!sealed.replicas.some((one) => one.incarnation === incarnation)) return null;
      const nodes = new Map((await listNodes(store)).map(({ node, address }) => [node, address]));
      const request = copyRequest(volume, sealed, incarnation, (node) => nodes.get(node) ?? null);
      const { status } = await this.#ask(request);
      if (status !== 'OK') return meaningOf(status);
      // What was read before says nothing of the copy as it is now; what is read from here on does.
      this.#collect(place);
      place.marked.delete(segment);
      const isGood = await this.#verify(place, { segment, length: sealed.end });
      if (isGood !== true) return 'it was repaired, and does not verify';
      place.repaired += 1;
      this.#isNews = true;
      log.info({ disk: incarnation, volume, segment }, 'A rotten copy was repaired.');
      return null;
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError)) throw thrown;
      return `it could not be repaired yet: ${thrown.message}`;
    }
  }

  async #note(): Promise<void> {
    const { store, node, clock } = this.#options;
    if (this.#noted === null) return;
    const disks = [...this.#places.values()].map(progressOf);
    const text = JSON.stringify(disks);
    if (text === this.#told || disks.length === 0) return;
    this.#isNews = false;
    await writeScrub(store, node, disks);
    this.#told = text;
    this.#notedAt = clock.monotonic();
  }

  /** What the store cannot do now is done later; `message`: what to say of it, or nothing. */
  async #try(message: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError)) throw thrown;
      const { code, message: error } = thrown;
      if (message !== '') this.#options.log.warn({ code, error }, message);
    }
  }

  /** What a disk that has failed does not read says nothing of single copies. */
  #works(incarnation: Incarnation): boolean {
    return this.#options.disks.incarnations().includes(incarnation);
  }

  #ask(request: Request): Promise<Reply> {
    return new Promise((resolve) => this.#options.disks.handle(request, resolve));
  }
}

function progressOf({
  incarnation,
  startedAt,
  endedAt,
  after,
  repaired,
  rotten,
}: Place): DiskScrub {
  const first = [...rotten.values()].slice(0, SCRUB_ROTTEN_MAX).map(({ segment, volume, why }) => {
    return { segment, volume, why };
  });
  return { incarnation, startedAt, endedAt, after, repaired, rotten: rotten.size, first };
}

/** Why a COPY that was to make a copy good did not. */
export function meaningOf(status: string): string {
  if (status === 'BUSY') return 'nobody who answers has good pages (or it is copied now)';
  if (status === 'INCARNATION') return 'its disk is not there any more';
  if (status === 'UNCONFIRMED') return 'the metadata store could not confirm it';
  return `the node answered ${status}`;
}
