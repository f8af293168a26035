/**
 * What accepting the loss of a volume's data would mean, before anybody does: which files and
 * ranges, which records at the end of the log, and whether the volume works afterwards.
 */
import type { SegmentHeader } from '../block/wire/segment-header.js';
import { HoldfastError } from '../core/errors.js';
import { formatSize } from '../core/sizes.js';
import { type Lsn, lsn, offset, PAGE_BYTES } from '../core/units.js';
import type { VolumeRecord } from '../metadata/model.js';
import { isRawLog } from '../metadata/names.js';
import type { Directory } from '../replication/directory.js';
import { type LogView, logView } from '../replication/log-view.js';
import { SegmentReader } from '../replication/reader.js';
import type { ReplayTail } from '../replication/replay-core.js';
import type { SaidLengths } from '../replication/takeover-rules.js';
import { loadCheckpoint } from '../volume/checkpoint-loader.js';
import { type LostFile, lostFiles, newestChange } from '../volume/lost-files.js';
import { replayInto } from '../volume/mount.js';
import type { VolumeState } from '../volume/state.js';
import { headerIn } from './inventory.js';
import {
  type Copies,
  type LostSegment,
  type MissingCopy,
  type OpenState,
  openStates,
  withGoodCopies,
} from './loss-survey.js';
import type { Session } from './session.js';

export interface LossPlan {
  readonly lost: readonly LostSegment[];
  /** Files that need what is lost. Null: the tree cannot be read, or there is none. */
  readonly files: readonly LostFile[] | null;
  readonly open: readonly OpenState[];
  /** Whether too few replicas tell where the log ends. */
  readonly isEndUnknown: boolean;
  /** How much of each of `open` stays: the taker ends the log with no less. */
  readonly stays: SaidLengths;
  /** Of `open`, those that would be dropped although there is something of them. */
  readonly dropped: readonly OpenState[];
  /** The log as far as it is there ends before this LSN; null: not known. */
  readonly nextLsn: Lsn | null;
  /** The newest change that is there, ISO 8601; null: not known. */
  readonly newest: string | null;
  /** Why the volume cannot be recovered, whatever is accepted; null: it can. */
  readonly hopeless: string | null;
}

/** `isMounted`: somebody writes, so where the log ends is the owner's business. */
export async function planLoss(
  session: Session,
  directory: Directory,
  record: VolumeRecord,
  found: { readonly copies: Copies; readonly lost: LostSegment[]; readonly isMounted: boolean },
): Promise<LossPlan> {
  const { copies, lost, isMounted } = found;
  const open = openStates(record, copies);
  const isEndUnknown = !isMounted && open.some(({ isEnough }) => !isEnough);
  const none = { files: null, nextLsn: null, newest: null, dropped: [], stays: new Map() };
  const empty = { lost, open, isEndUnknown, ...none };
  const isRaw = isRawLog(record.labels);
  if (lost.length === 0 && !isEndUnknown) {
    return { ...empty, files: isRaw ? null : [], hopeless: null };
  }
  const { clock, clients: requests } = session;
  const reader = new SegmentReader({ clock, requests, directory });
  let plan: LossPlan = { ...empty, hopeless: null };
  try {
    const tails = isMounted ? [] : await tailsOf(reader, open);
    const dropped = isMounted ? [] : open.slice(tails.length).filter(({ length }) => length > 0);
    const ends = open.map(
      ({ segment }, index) => [segment.segment, tails[index]?.end ?? 0] as const,
    );
    plan = { ...plan, dropped, stays: new Map(ends) };
    if (isRaw) return plan;
    const sealed = record.sealed.map((one) => withGoodCopies(copies, one));
    const view = logView(reader, { ...record, sealed }, tails);
    const { state, nextLsn } = await stateOf(session, view, record);
    if (state.isEmpty) return { ...plan, hopeless: 'nothing of its log is left' };
    const pages = new Map(lost.map((one) => [one.sealed.segment, one.pages]));
    const walk = lostFiles(state, pages);
    let step = walk.next();
    while (!step.done) step = walk.next();
    const newest = newestChange(state);
    return {
      ...{ ...plan, files: step.value, nextLsn },
      newest: newest === null ? null : new Date(newest).toISOString(),
    };
  } catch (thrown) {
    if (!(thrown instanceof HoldfastError) || !isDamage(thrown)) throw thrown;
    return { ...plan, hopeless: thrown.message };
  } finally {
    reader.close();
  }
}

function isDamage({ code }: HoldfastError): boolean {
  return ['DATA_LOST', 'INCONSISTENT', 'MALFORMED', 'NOT_FOUND'].includes(code);
}

/** What belongs to the log of the open segments, as a takeover would decide it now. */
async function tailsOf(
  reader: SegmentReader,
  [first, second]: readonly OpenState[],
): Promise<ReplayTail[]> {
  const tail = (of: OpenState, end: number): ReplayTail => {
    return { segment: { ...of.segment, replicas: of.holders }, end: offset(end) };
  };
  if (first === undefined) return [];
  const header = second === undefined ? null : await headerOf(reader, second);
  const isContinued = header !== null && (header.previous?.end ?? 0) <= first.length;
  if (second === undefined || !isContinued) return [tail(first, first.length)];
  return [tail(first, header.previous?.end ?? 0), tail(second, second.length)];
}

function headerOf(
  reader: SegmentReader,
  { segment, holders, length }: OpenState,
): Promise<SegmentHeader | null> {
  if (length === 0) return Promise.resolve(null);
  return new Promise((resolve) => {
    reader.readPages({ segment: segment.segment, replicas: holders }, 0, 1, (_, page) => {
      try {
        resolve(page === null ? null : headerIn(page));
      } catch (thrown) {
        if (!(thrown instanceof HoldfastError)) throw thrown;
        resolve(null);
      }
    });
  });
}

function stateOf(
  { clock }: Session,
  view: LogView,
  record: VolumeRecord,
): Promise<{ readonly state: VolumeState; readonly nextLsn: Lsn }> {
  const root =
    record.root === null
      ? null
      : {
          ...{ segment: record.root.segment, lsn: record.root.lsn },
          page: record.root.offset / PAGE_BYTES,
        };
  return new Promise((resolve, reject) => {
    loadCheckpoint({ owner: view, clock, root }, (error, loaded) => {
      if (error !== null || loaded === null) {
        reject(named('the checkpoint', error));
        return;
      }
      replayInto(loaded.state, view, loaded.replayFrom, (failure, nextLsn) => {
        if (failure === null) resolve({ state: loaded.state, nextLsn });
        else reject(named('the log behind the checkpoint', failure));
      });
    });
  });
}

function named(what: string, error: HoldfastError | null): HoldfastError {
  const { code, message } = error ?? { code: 'INCONSISTENT', message: 'nothing was loaded' };
  return new HoldfastError(code, `${what} cannot be read: ${message}`);
}

/** LSNs of the records that a sealed segment holds: from the first to behind the last. */
export function recordsOf({ sealed }: VolumeRecord, lost: LostSegment): readonly [Lsn, Lsn] {
  const at = sealed.findIndex(({ segment }) => segment === lost.sealed.segment);
  return [sealed[at - 1]?.endLsn ?? lsn(0), lost.sealed.endLsn];
}

/** What the loss of sealed data means: one sentence each, for people and for the note. */
export function dataLosses(record: VolumeRecord, plan: LossPlan): string[] {
  const sentences = plan.lost.map((one) => {
    const [from, to] = recordsOf(record, one);
    const bytes = one.pages.reduce((sum, { count }) => sum + count * PAGE_BYTES, 0);
    const of = `${formatSize(bytes)} of ${formatSize(one.sealed.end)}`;
    const where = `segment ${one.sealed.segment} (LSNs ${from} to ${to})`;
    return `${where}: ${of} have no good copy (${reasons(one.missing)})`;
  });
  for (const { path, inode, ranges } of plan.files ?? []) {
    const where = ranges.map(({ offset: at, length }) => `${length} bytes at ${at}`);
    const shown = where.length > 4 ? [...where.slice(0, 4), `${where.length - 4} more`] : where;
    sentences.push(`file ${path ?? `without a name (inode ${inode})`}: ${shown.join(', ')}`);
  }
  return sentences;
}

function reasons(missing: readonly MissingCopy[]): string {
  return missing.map(({ node, why }) => `${node.slice(0, 8)}: ${why}`).join('; ');
}

/** What is lost behind the end of the log, if anything, in the same way. */
export function endLosses(record: VolumeRecord, plan: LossPlan): string[] {
  if (!plan.isEndUnknown) return [];
  const parts = plan.open.map(({ segment, answered, needed, length, missing }) => {
    const enough = Math.max(needed, record.ackQuorum);
    const of = `${answered} of ${segment.replicas.length} replicas answer, ${enough} have to`;
    // Of two open segments, one may lack nothing.
    const why = missing.length === 0 ? '' : ` (${reasons(missing)})`;
    const there = `${formatSize(length)} are there${why}`;
    return `open segment ${segment.segment}: ${of}; ${there}`;
  });
  for (const { segment, length } of plan.dropped) {
    const what = `open segment ${segment.segment}: ${formatSize(length)} that are there`;
    parts.push(`${what} continue what is not there any more, and are dropped`);
  }
  const { nextLsn, newest } = plan;
  const from = nextLsn ?? record.sealed.at(-1)?.endLsn ?? 0;
  const since = newest === null ? '' : `; the newest change that is there was made at ${newest}`;
  const end = `records from LSN ${from} on, acknowledged or not, are lost if there are any${since}`;
  return [...parts, end];
}
