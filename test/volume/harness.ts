/** A volume on a fake log in simulated time, driven step by step. */
import { assert, present } from '../../src/core/assert.js';
import type { HoldfastError } from '../../src/core/errors.js';
import type { OwnerId, SegmentId, VolumeId } from '../../src/core/ids.js';
import { lsn, MIB } from '../../src/core/units.js';
import { type CheckReport, type CheckSource, checkVolume } from '../../src/volume/check.js';
import type { CheckedSegment, SegmentCopy } from '../../src/volume/check-pages.js';
import type { VolumeFilesystem } from '../../src/volume/filesystem.js';
import type { FsError, Inode } from '../../src/volume/filesystem-api.js';
import type { Result } from '../../src/volume/intent-format.js';
import { IntentLog } from '../../src/volume/intent-log.js';
import { type MountOptions, mountVolume, replayInto } from '../../src/volume/mount.js';
import { digest, VolumeState } from '../../src/volume/state.js';
import { FakeLog, FakeOwner, type FakeOwnerOptions } from '../fixtures/fake-owner.js';
import { SimProcess, SimScheduler } from '../fixtures/sim-clock.js';
import type { MemoryIntents } from './memory-intents.js';

export const CALLER = { uid: 1000, gid: 100 };
export const ROOT = 1;

export interface BedOptions extends FakeOwnerOptions {
  readonly sizeBytes?: number;
  readonly segmentPages?: number;
  readonly mount?: Partial<MountOptions>;
  /** Where the daemon's intent log is, so that a successor can adopt the mount. */
  readonly intents?: MemoryIntents;
}

export type Fault = FsError | HoldfastError | null;

const SETTLE_MS = 1_000;

export class Bed {
  readonly scheduler = new SimScheduler();
  readonly log: FakeLog;
  process: SimProcess;
  owner: FakeOwner;
  fs: VolumeFilesystem;
  readonly #options: BedOptions;

  constructor(options: BedOptions = {}) {
    this.#options = options;
    this.log = new FakeLog(options.segmentPages);
    this.process = new SimProcess(this.scheduler);
    this.owner = new FakeOwner(this.log, this.process.clock, options);
    this.fs = this.#mount({});
  }

  #mount(adopted: Pick<MountOptions, 'adopted'>): VolumeFilesystem {
    let found: VolumeFilesystem | null = null;
    const { process, owner, log } = this;
    const options = {
      owner,
      roots: log,
      clock: process.clock,
      sizeBytes: this.#options.sizeBytes ?? 1024 * MIB,
      ...this.#options.mount,
      ...adopted,
      ...this.#intents(adopted.adopted?.intents?.results ?? []),
    };
    mountVolume(options, (error, filesystem) => {
      if (error !== null) throw error;
      found = filesystem;
    });
    while (found === null) assert(this.scheduler.step(), 'the mount ends');
    return present(found as VolumeFilesystem | null, 'a filesystem');
  }

  #intents(carried: readonly Result[]): Pick<MountOptions, 'intents'> {
    const { intents } = this.#options;
    if (intents === undefined) return {};
    const volume = '00'.repeat(16) as VolumeId;
    const identity = { volume, owner: '11'.repeat(16) as OwnerId, epoch: 1, mount: 'mount' };
    const { clock } = this.process;
    const endOfTurn = (run: () => void): void => clock.soon(run);
    return { intents: new IntentLog({ file: intents.create(), identity, carried, endOfTurn }) };
  }

  /**
   * The daemon is killed after what it did so far was answered; of what was on its way, the first
   * `survive` records are in the log. A successor adopts the mount.
   */
  adopt(survive = 0, onFull?: () => void): void {
    const { intents } = this.#options;
    assert(intents !== undefined, 'an intent log');
    this.fs.history.intents?.flush();
    this.#die(survive);
    const full = onFull === undefined ? {} : { onFull };
    this.fs = this.#mount({ adopted: { intents: intents.read(), ...full } });
  }

  /** Steps until the call has called back; returns its error. */
  wait(call: (done: (error: Fault) => void) => void): Fault {
    let result: Fault | undefined;
    call((error) => {
      result = error;
    });
    while (result === undefined) assert(this.scheduler.step(), 'the call ends');
    return result;
  }

  write(inode: Inode, offset: number, data: Buffer | string): Fault {
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    return this.wait((done) => this.fs.write(inode, offset, bytes, done));
  }

  read(inode: Inode, offset: number, length: number): Buffer {
    let bytes: Buffer | null = null;
    const error = this.wait((done) =>
      this.fs.read(inode, offset, length, (fault, parts) => {
        bytes = Buffer.concat(parts);
        done(fault);
      }),
    );
    if (error !== null) throw error;
    return present(bytes as Buffer | null, 'bytes');
  }

  /** The whole file. */
  content(inode: Inode): Buffer {
    return this.read(inode, 0, this.fs.getattr(inode).size);
  }

  file(name: string, parent: Inode = ROOT): Inode {
    return this.fs.mknod(parent, Buffer.from(name), 0o100644, 0, CALLER).inode;
  }

  commit(): void {
    const error = this.wait((done) => this.fs.commit(done));
    if (error !== null) throw error;
  }

  /** A power cut: what was not acknowledged survives up to some record. */
  crash(survive = 0): void {
    this.#die(survive);
    this.fs = this.#mount({});
  }

  #die(survive: number): void {
    this.owner.assertUnchanged();
    this.owner.crash(survive);
    this.process.kill();
    this.process = new SimProcess(this.scheduler);
    this.owner = new FakeOwner(this.log, this.process.clock, this.#options);
  }

  /** The digest of replaying the whole log from its beginning. */
  replayDigest(): string {
    const state = new VolumeState();
    const owner = new FakeOwner(this.log, this.process.clock, { remembersAll: true });
    const error = this.wait((done) => replayInto(state, owner, lsn(0), (fault) => done(fault)));
    if (error !== null) throw error;
    return digest(state);
  }

  /** Comes to rest and commits, then compares the live state with a replay of the log. */
  isReproduced(): boolean {
    // The cleaner may be moving something: its last record must have come to the log.
    this.fs.reclaimer.stop();
    this.scheduler.runFor(SETTLE_MS);
    this.commit();
    return digest(this.fs.state) === this.replayDigest();
  }
}

/** One copy of a segment of a log. */
export function copyOf(owner: FakeOwner, segment: SegmentId): SegmentCopy {
  return {
    name: 'copy',
    read: (page, count, done) => owner.readPages(segment, page, count, done),
  };
}

/** Checks what is in the bed's log, as a process of its own would. */
export function checkBed(
  bed: Bed,
  options: Partial<CheckSource> = {},
  change = (segments: CheckedSegment[]): CheckedSegment[] => segments,
): CheckReport {
  const { log, scheduler } = bed;
  const { clock } = new SimProcess(scheduler);
  const owner = new FakeOwner(log, clock);
  const segments = log.segments.map(({ id, end }) => {
    return { segment: id, pages: end, copies: [copyOf(owner, id)] };
  });
  const base = { owner, clock, root: log.root, segments: change(segments) };
  let report: CheckReport | null = null;
  const error = bed.wait((done) =>
    checkVolume({ ...base, ...options }, (fault, found) => {
      report = found;
      done(fault);
    }),
  );
  if (error !== null) throw error;
  return present(report as CheckReport | null, 'a report');
}

/** What a call is refused with, or null. */
export function errnoOf(call: () => unknown): string | null {
  try {
    call();
    return null;
  } catch (error) {
    return (error as FsError).errno ?? String(error);
  }
}
