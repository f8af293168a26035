/**
 * `holdfast volume check`: takes an unmounted volume over for as long as it looks, changes nothing
 * in it, reads every page of every copy, and says what is wrong.
 */
import { hostname } from 'node:os';
import { isDeepStrictEqual } from 'node:util';
import { parseSeconds } from '../core/durations.js';
import { HoldfastError, invalid } from '../core/errors.js';
import type { SegmentId, VolumeId } from '../core/ids.js';
import { formatSize } from '../core/sizes.js';
import { PAGE_BYTES } from '../core/units.js';
import { untilAvailable } from '../lifecycle/adoption.js';
import { awaitTurn } from '../lifecycle/claim.js';
import type { Replica, VolumeRecord } from '../metadata/model.js';
import { isRawLog } from '../metadata/names.js';
import { readVolume } from '../metadata/stored-volume.js';
import type { Directory } from '../replication/directory.js';
import { SegmentReader } from '../replication/reader.js';
import { type CheckProgress, type CheckReport, checkVolume } from '../volume/check.js';
import type { CheckedSegment, SegmentCopy } from '../volume/check-pages.js';
import { logRoots } from '../volume/log-roots.js';
import { mountDeps } from './machine.js';
import { checkSession } from './node-secret.js';
import { printResult, showProgress } from './output.js';
import { type OwnedLog, withOwnedLog } from './owned-log.js';
import { Session, type SessionOptions } from './session.js';

/** A node that does not answer is asked so often, so long apart. */
const ATTEMPTS = 4;
const RETRY_MS = 1_000;

interface RunOptions {
  readonly withoutPages: boolean;
  readonly onProgress: (at: CheckProgress) => void;
  readonly onWaiting: (text: string) => void;
}

interface Readers {
  readonly reader: SegmentReader;
  readonly directory: Directory;
  readonly onWaiting: (text: string) => void;
}

export interface CheckOptions extends SessionOptions {
  readonly timeout: string;
  readonly structures?: boolean;
}

export async function checkNamed(name: string, options: CheckOptions): Promise<void> {
  const timeoutMs = parseSeconds(options.timeout, '--timeout');
  await Session.run(options, async (session) => {
    const { record } = await session.volumeNamed(name);
    checkKind(record);
    await assertUnmounted(session, record);
    await checkSession(session);
    const { clock, random, store, log, address, clients: requests } = session;
    const directory = await session.directory();
    const parts = { clock, random, store, requests, directory, log, address };
    const { json } = options;
    const progress = showProgress(options);
    await withOwnedLog(parts, record, { timeoutMs, json }, async (owned) => {
      const report = await runCheck(session, owned, directory, {
        withoutPages: options.structures === true,
        onProgress: (at) => progress.say(progressText(at)),
        onWaiting: (text) => progress.say(text),
      });
      progress.end();
      printResult(json === true, { volume: name, ...report }, describe(name, report));
      throwIfBad(name, report);
    }).finally(() => progress.end());
  });
}

function checkKind({ name, labels }: VolumeRecord): void {
  if (!isRawLog(labels)) return;
  const hint = `"holdfast log read ${name}" verifies it.`;
  throw invalid(`"${name}" is a plain log, without a filesystem`, hint);
}

/** Rejects with CONFLICT, saying who has it mounted and how to end that. */
export async function assertUnmounted(session: Session, record: VolumeRecord): Promise<void> {
  const { host } = mountDeps(process.env);
  const { store, clock } = session;
  const onProgress = (): void => {};
  const deps = { host, store, clock, hostname: hostname(), onProgress, isStopped: () => false };
  const since = new Date(clock.wall()).toISOString();
  await awaitTurn(deps, record, { mount: '', since, waitMs: 0, machine: null });
}

function runCheck(
  session: Session,
  { owner }: OwnedLog,
  directory: Directory,
  { onWaiting, ...options }: RunOptions,
): Promise<CheckReport> {
  const { clock, clients: requests } = session;
  const { record } = owner;
  const reader = new SegmentReader({ clock, requests, directory });
  const segments =
    record === null ? [] : checkedSegments(session, record, { reader, directory, onWaiting });
  const { root } = logRoots(owner);
  return new Promise((resolve, reject) => {
    checkVolume({ owner, clock, root, segments, ...options }, (error, report) => {
      reader.close();
      if (report !== null) resolve(report);
      else reject(error);
    });
  });
}

function checkedSegments(
  session: Session,
  { volume, sealed, replicas: wanted }: VolumeRecord,
  by: Readers,
): CheckedSegment[] {
  return sealed.map(({ segment, end, replicas }) => {
    const copiesOn = (found: readonly Replica[]): SegmentCopy[] =>
      found.map((replica) => copyOf(session, by, segment, replica));
    let listed = replicas;
    return {
      ...{ segment, wanted, pages: end / PAGE_BYTES, copies: copiesOn(listed) },
      moved: (done) => {
        listedNow(session, by, volume, segment).then(
          (found) => {
            const isMoved = !isDeepStrictEqual(found, listed);
            listed = found;
            done(null, isMoved ? copiesOn(found) : null);
          },
          (error: HoldfastError) => done(error, null),
        );
      },
    };
  });
}

/** The disks that the metadata store lists for a segment. */
async function listedNow(
  { store, clock }: Session,
  { onWaiting }: Readers,
  volume: VolumeId,
  segment: SegmentId,
): Promise<readonly Replica[]> {
  const found = await untilAvailable(clock, onWaiting, () => readVolume(store, volume));
  return found?.record.sealed.find((one) => one.segment === segment)?.replicas ?? [];
}

function copyOf(
  { clock }: Session,
  { reader, directory }: Readers,
  segment: SegmentId,
  replica: Replica,
): SegmentCopy {
  const source = { segment, replicas: [replica] };
  const read = (attempts: number, ...[page, count, done]: Parameters<SegmentCopy['read']>): void =>
    reader.readPages(source, page, count, (error, data) => {
      if (error?.retryable !== true || attempts === 1) done(error, data);
      else clock.after(RETRY_MS, () => read(attempts - 1, page, count, done));
    });
  const { node } = replica;
  const name = `node ${node.slice(0, 8)} (${directory.address(node) ?? 'address unknown'})`;
  return { name, read: (page, count, done) => read(ATTEMPTS, page, count, done) };
}

function progressText(at: CheckProgress): string {
  if (at.step !== 'pages') return `checking: ${at.step}`;
  // Copies that were moved are read again.
  const part = at.ofBytes === 0 ? 100 : Math.min(100, Math.floor((at.bytes / at.ofBytes) * 100));
  return `reading every copy: ${part} % of ${formatSize(at.ofBytes)}`;
}

function describe(name: string, report: CheckReport): string {
  const { files, directories, orphans, usedBytes, segments, records, bytesRead } = report;
  const found = report.findings.map(({ kind, what, inode }) =>
    inode === undefined ? `! ${kind}: ${what}` : `! ${kind}: inode ${inode}: ${what}`,
  );
  if (report.more > 0) found.push(`! and ${report.more} more`);
  const without = orphans === 0 ? '' : `, ${orphans} of them without a name`;
  return [
    ...found,
    `${name}: ${files} files${without}, ${directories} directories, ${formatSize(usedBytes)} used`,
    `log: ${segments} segments, ${records} records behind the checkpoint`,
    `read and verified: ${formatSize(bytesRead)}`,
    found.length === 0 ? 'nothing wrong was found' : `${found.length} findings`,
  ].join('\n');
}

/** The exit code tells what is lost from what repair will mend. */
function throwIfBad(name: string, { findings }: CheckReport): void {
  const kinds = new Set(findings.map(({ kind }) => kind));
  if (kinds.size === 0) return;
  if (kinds.has('page')) {
    const hint = 'The files named above cannot be read whole: restore them.';
    throw new HoldfastError('DATA_LOST', `"${name}" has lost data`, { hint });
  }
  if (kinds.size > 1 || !kinds.has('copy')) {
    const hint = 'Copy what can be read to another volume.';
    throw new HoldfastError('INCONSISTENT', `structures of "${name}" are damaged`, { hint });
  }
  const hint = 'Every page has a good copy. Check with "holdfast status" that its nodes are up.';
  throw new HoldfastError('UNAVAILABLE', `"${name}" has fewer good copies than it should`, {
    hint,
  });
}
