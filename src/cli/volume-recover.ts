/**
 * `holdfast volume recover`: says exactly what of a volume is lost, and with --accept-loss makes it
 * work again without that. Pages of sealed segments that are lost are noted, so that nobody waits
 * for them: reads of them fail, never with zeroes. Where too few replicas tell where the log ends,
 * it ends with what is there.
 *
 * INVARIANT: without the flag nothing is changed, but that what is there again leaves the note;
 * with it nothing is removed but what lies behind the end that was said: the taker is told that
 * end, and waits for whoever has what is before it.
 */
import { parseSeconds } from '../core/durations.js';
import { HoldfastError } from '../core/errors.js';
import { formatSize } from '../core/sizes.js';
import { type GivenUp, readGivenUp, writeGivenUp } from '../metadata/given-up.js';
import type { VolumeRecord } from '../metadata/model.js';
import { findPresence } from '../metadata/presence.js';
import type { Directory } from '../replication/directory.js';
import { EXIT_PROBLEMS } from './errors.js';
import { givenUpPages, isNoted, notedLosses, withoutRecovered } from './loss-note.js';
import { dataLosses, endLosses, type LossPlan, planLoss, recordsOf } from './loss-plan.js';
import { Copies, lostSegments } from './loss-survey.js';
import { checkSession } from './node-secret.js';
import { printResult, showProgress } from './output.js';
import { withOwnedLog } from './owned-log.js';
import { Session, type SessionOptions } from './session.js';
import { assertUnmounted } from './volume-check.js';

export interface RecoverOptions extends SessionOptions {
  readonly acceptLoss?: boolean;
  readonly timeout: string;
}

export async function recoverVolume(name: string, options: RecoverOptions): Promise<void> {
  const timeoutMs = parseSeconds(options.timeout, '--timeout');
  await Session.run(options, async (session) => {
    const { record } = await session.volumeNamed(name);
    await checkSession(session);
    const directory = await session.directory();
    const progress = showProgress(options);
    const mounted = await findPresence(session.store, record.volume);
    const isMounted = mounted !== null;
    const copies = await Copies.ask(session, directory, record);
    const lost = await lostSegments(session, directory, record, copies, (bytes) =>
      progress.say(`reading what has too few copies: ${formatSize(bytes)}`),
    );
    const plan = await planLoss(session, directory, record, { copies, lost, isMounted });
    progress.end();
    const ofData = dataLosses(record, plan);
    const losses = [...ofData, ...endLosses(record, plan)];
    const noted = await readGivenUp(session.store, record.volume);
    const isNew = plan.isEndUnknown || !isNoted(noted, lost);
    const by = mounted === null ? null : { host: mounted.host, mountPoint: mounted.mountPoint };
    const value = { ...jsonOf(record, plan), losses, mounted: by, givenUpAt: noted?.at ?? null };
    const print = (accepted: boolean, ...lines: string[]): void => {
      const user =
        by === null ? [] : [`${name} is mounted on ${by.host}, which knows where it ends`];
      const text = [...losses.map((one) => `! ${one}`), ...user, ...lines].join('\n');
      printResult(options.json === true, { ...value, accepted }, text);
    };
    if (plan.hopeless !== null) {
      print(false, 'Nothing was changed.');
      throw hopeless(name, plan.hopeless);
    }
    if (!isNew) {
      const now = withoutRecovered(noted, lost, ofData);
      if (now !== noted) await writeGivenUp(session.store, record.volume, now);
      const again = now === noted ? '' : '; what is there again is not given up any more';
      const since =
        lost.length === 0 ? 'nothing is lost' : `all of it was given up at ${noted?.at}`;
      print(false, `volume ${name}: ${since}${again}`);
      return;
    }
    if (options.acceptLoss !== true) {
      print(false, advice(plan));
      process.exitCode = EXIT_PROBLEMS;
      return;
    }
    const { json } = options;
    await accept(session, directory, record, { plan, noted, timeoutMs, json });
    print(true, `volume ${name} goes on without that; see what else is wrong: holdfast status`);
  });
}

function hopeless(name: string, why: string): HoldfastError {
  const message = `"${name}" cannot be recovered from what is there: ${why}`;
  const hint =
    'Without its tree no file can be told from another. Bring a node back that has a copy, ' +
    'or restore the volume from a backup. Nothing was changed.';
  return new HoldfastError('DATA_LOST', message, { hint });
}

function advice({ isEndUnknown }: LossPlan): string {
  const sure = isEndUnknown
    ? ' Be sure first that these nodes are down for good, and that no machine writes to them.'
    : '';
  return (
    'Nothing was changed. Bring the nodes back that are named above, and nothing is lost. ' +
    `To go on without what only they have: --accept-loss.${sure}`
  );
}

async function accept(
  session: Session,
  directory: Directory,
  record: VolumeRecord,
  what: {
    readonly plan: LossPlan;
    readonly noted: GivenUp | null;
    readonly timeoutMs: number;
    readonly json: boolean | undefined;
  },
): Promise<void> {
  const { clock, random, store, log, address, clients: requests } = session;
  const { plan, noted, timeoutMs } = what;
  const { volume } = record;
  if (plan.isEndUnknown) {
    await assertUnmounted(session, record);
    refuseTooFew(directory, record);
  }
  const note = (): Promise<void> =>
    writeGivenUp(store, volume, {
      at: new Date(clock.wall()).toISOString(),
      segments: givenUpPages(plan.lost),
      losses: notedLosses(dataLosses(record, plan)),
      end: plan.isEndUnknown ? endLosses(record, plan) : (noted?.end ?? []),
    });
  if (!plan.isEndUnknown) return await note();
  const acceptLoss = plan.stays;
  const parts = { clock, random, store, requests, directory, log, address, acceptLoss };
  // Noted only now: what the takeover could not do is not given up.
  await withOwnedLog(parts, record, { timeoutMs, json: what.json }, note).catch((thrown) => {
    throw thrown instanceof HoldfastError && thrown.code === 'TIMEOUT' ? unseen(thrown) : thrown;
  });
}

/** The taker waited for what was shown, or for nodes to write to. */
function unseen({ code, message }: HoldfastError): HoldfastError {
  const hint =
    'Not all that was said to be there answers now, or too few nodes are up: look again, ' +
    'without --accept-loss.';
  return new HoldfastError(code, message, { retryable: true, hint });
}

/** What is written next needs an ack quorum of nodes, whatever is given up. */
function refuseTooFew(directory: Directory, { name, ackQuorum }: VolumeRecord): void {
  const live = directory.nodes().filter(({ node }) => directory.isLive(node)).length;
  if (live >= ackQuorum) return;
  const what = `"${name}" is written to ${ackQuorum} nodes, and ${live} are up`;
  const message = `${what}; nothing was changed`;
  throw new HoldfastError('UNAVAILABLE', message, { hint: 'Start, or add, nodes first.' });
}

function jsonOf(record: VolumeRecord, plan: LossPlan): object {
  const { volume, name } = record;
  return {
    ...{ volume, name, recoverable: plan.hopeless === null, why: plan.hopeless },
    segments: plan.lost.map((one) => {
      const { segment, end } = one.sealed;
      const [fromLsn, toLsn] = recordsOf(record, one);
      return { segment, end, fromLsn, toLsn, pages: one.pages, missing: one.missing };
    }),
    files: plan.files,
    end: plan.isEndUnknown
      ? {
          ...{ nextLsn: plan.nextLsn, newest: plan.newest },
          dropped: plan.dropped.map(({ segment, length }) => {
            return { segment: segment.segment, length };
          }),
          segments: plan.open.map(({ segment, answered, needed, length, missing }) => {
            return { segment: segment.segment, answered, needed, length, missing };
          }),
        }
      : null,
  };
}
