/**
 * From a log that is owned to a filesystem that answers: load the newest checkpoint, replay what
 * came after it, format a new volume, end the orphans of the former mount.
 */
import type { HoldfastError } from '../core/errors.js';
import { asFault } from '../core/errors.js';
import { type Lsn, lsn, PAGE_BYTES } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import type { ReplayedRecord, VolumeOwner } from '../replication/owner-api.js';
import { apply } from './apply.js';
import { loadCheckpoint } from './checkpoint-loader.js';
import type { CheckpointLimits, Logged } from './checkpoint-writer.js';
import { VolumeFilesystem } from './filesystem.js';
import { History, type HistoryOptions } from './history.js';
import type { FoundIntents } from './intent-format.js';
import { applyIntents } from './intent-replay.js';
import { S_IFDIR } from './mode.js';
import { dataPages } from './operations.js';
import type { ReclaimLimits } from './reclaimer.js';
import { decodeRecord } from './record-codec.js';
import type { RootStore } from './root-store.js';
import { placeOf } from './segments.js';
import type { VolumeState } from './state.js';
import { timeNow } from './time.js';

const ROOM_POLL_MS = 500;

export interface MountOptions extends HistoryOptions {
  /** In the state `serving`. */
  readonly owner: VolumeOwner;
  readonly roots: RootStore;
  readonly clock: Clock;
  readonly sizeBytes: number;
  /**
   * The kernel's mount outlived the former daemon: its inodes may still be held, and what it had
   * recorded last is in what it left, or in the log. Null: it left nothing that is not in the log.
   */
  readonly adopted?: {
    readonly intents: FoundIntents | null;
    /** Told, again and again, that it waits for room for its own intents. */
    readonly onFull?: (fault: HoldfastError) => void;
  };
  readonly readOnly?: boolean;
  readonly cachePages?: number;
  readonly checkpointLimits?: CheckpointLimits;
  readonly reclaimLimits?: ReclaimLimits;
  /** Told of each piece of the newest checkpoint: how many bytes of so many are loaded by now. */
  readonly onLoaded?: (bytes: number, ofBytes: number) => void;
  /** Told of each record that was replayed: its bytes, pages included. */
  readonly onReplayed?: (bytes: number) => void;
}

export type Mounted = (error: HoldfastError | null, filesystem: VolumeFilesystem | null) => void;

/** Applies one record of the log. Throws MALFORMED, VERSION or INCONSISTENT. */
export function applyRecord(state: VolumeState, replayed: ReplayedRecord): void {
  const operations = decodeRecord(replayed.record);
  if (operations === null) return;
  let place = 0;
  if (replayed.pageCount > 0) {
    place = placeOf(state.segments.slotOf(replayed.segment), replayed.firstPage);
  }
  for (const operation of operations) {
    apply(state, operation, place);
    place += dataPages(operation);
  }
}

/** The state after replaying the log from `from` on, and the LSN behind it. */
export function replayInto(
  state: VolumeState,
  owner: Pick<VolumeOwner, 'replay'>,
  from: Lsn,
  done: (error: HoldfastError | null, next: Lsn) => void,
  onReplayed: (record: ReplayedRecord) => void = () => {},
): void {
  let failure: HoldfastError | null = null;
  let next = from;
  const onRecord = (record: ReplayedRecord): void => {
    if (failure !== null) return;
    try {
      applyRecord(state, record);
      next = lsn(record.lsn + 1);
      onReplayed(record);
    } catch (error) {
      failure = asFault(error, 'INCONSISTENT');
    }
  };
  owner.replay(from, onRecord, (error) => done(failure ?? error, next));
}

/** Mounts a volume whose log is owned. */
export function mountVolume(options: MountOptions, done: Mounted): void {
  const { owner, clock, roots, onReplayed, onLoaded } = options;
  loadCheckpoint({ owner, clock, root: roots.root, onLoaded }, (error, loaded) => {
    if (error !== null || loaded === null) {
      done(error, null);
      return;
    }
    const replayed = { recordBytes: 0, bytes: 0 };
    const count = ({ record, pageCount }: ReplayedRecord): void => {
      const bytes = record.length + pageCount * PAGE_BYTES;
      replayed.recordBytes += record.length;
      replayed.bytes += bytes;
      onReplayed?.(bytes);
    };
    const ended = (failure: HoldfastError | null, next: Lsn): void => {
      let fault = failure;
      let filesystem: VolumeFilesystem | null = null;
      try {
        if (fault === null) filesystem = serve({ ...options, replayed }, loaded.state, next);
      } catch (thrown) {
        fault = asFault(thrown, 'INCONSISTENT');
      }
      if (filesystem === null) done(fault, null);
      else establish(options, filesystem, done);
    };
    replayInto(loaded.state, owner, loaded.replayFrom, ended, count);
  });
}

function serve(
  options: MountOptions & { readonly replayed: Logged },
  state: VolumeState,
  next: Lsn,
): VolumeFilesystem {
  const { owner, clock, readOnly = false } = options;
  const adopted = options.adopted !== undefined;
  const history = new History({ owner, clock, state }, next, options);
  const filesystem = new VolumeFilesystem({ ...options, state, history, adopted, readOnly });
  const left = options.adopted?.intents ?? null;
  if (left !== null) applyIntents(left, history, state);
  if (state.isEmpty) {
    const time = timeNow(clock);
    const format = { type: 'format', mode: S_IFDIR | 0o755, uid: 0, gid: 0, time } as const;
    // Who may not write sees the empty root that it would have, and leaves the log as it is.
    if (readOnly) apply(state, format, 0);
    else history.perform(format);
  }
  if (!adopted && !readOnly) filesystem.endOrphans();
  return filesystem;
}

/** Nothing goes to the log before. Who has a predecessor's intents to lose waits for room. */
function establish(options: MountOptions, filesystem: VolumeFilesystem, done: Mounted): void {
  try {
    filesystem.history.intents?.establish();
  } catch (thrown) {
    const fault = asFault(thrown, 'INCONSISTENT');
    const { clock, adopted } = options;
    if (fault.code !== 'DISK_FULL' || adopted?.onFull === undefined) {
      done(fault, null);
      return;
    }
    adopted.onFull(fault);
    clock.after(ROOM_POLL_MS, () => establish(options, filesystem, done));
    return;
  }
  done(null, filesystem);
}
