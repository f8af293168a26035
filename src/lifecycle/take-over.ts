/**
 * Taking a volume over for people who wait: says which step is under way and what it waits for, and
 * gives up when nothing has moved for too long.
 */
import { HoldfastError } from '../core/errors.js';
import type { Clock, Timer } from '../io/clock.js';
import type { VolumeRecord } from '../metadata/model.js';
import type { Directory } from '../replication/directory.js';
import type { LogOwner } from '../replication/owner.js';
import type { OwnerState } from '../replication/owner-api.js';

export interface TakeOverOptions {
  readonly owner: LogOwner;
  readonly clock: Clock;
  readonly directory: Directory;
  /** Null: however long it takes. */
  readonly timeoutMs: number | null;
  /** For messages. */
  readonly volume: string;
  readonly onProgress: (text: string) => void;
  /** What becomes of the owner once it serves: FENCED, CLOSED or INCONSISTENT. */
  readonly onStopped: (reason: HoldfastError) => void;
  /** Aborted: the takeover is given up, with CLOSED. */
  readonly signal?: AbortSignal | undefined;
}

/** While a step lasts, who keeps it waiting may change. */
const PROGRESS_MS = 1_000;
/** A swap of the record, and the one before it that may still be under way. */
const GIVE_BACK_MS = 4_000;

/**
 * Resolves once the owner serves. Rejects with TIMEOUT (retryable), saying which step did not end
 * and what it waited for, with FENCED when somebody else took the volume meanwhile, with CLOSED
 * when the owner was stopped. The owner is stopped then, and the volume given back: nobody is shown
 * as its owner for having tried.
 */
export function takeOver(options: TakeOverOptions): Promise<void> {
  const { owner, clock, timeoutMs, volume, onProgress, onStopped, signal } = options;
  return new Promise((resolve, reject) => {
    let isServing = false;
    let isGivenUp = false;
    const say = (): void => onProgress(waitsFor(owner.state, owner.record, options.directory));
    const sayAgain = (): Timer =>
      clock.after(PROGRESS_MS, () => {
        say();
        saying = sayAgain();
      });
    let saying = sayAgain();
    const settled = (): void => {
      timer?.cancel();
      saying.cancel();
    };
    const giveUp = (fault: HoldfastError): void => {
      if (isServing || isGivenUp) return;
      isGivenUp = true;
      settled();
      void giveBack(clock, owner).then(() => reject(fault));
    };
    const late = (ms: number): void => giveUp(timedOut(options, ms));
    const timer = timeoutMs === null ? null : clock.after(timeoutMs, () => late(timeoutMs));
    owner.start((state) => {
      // Its end rejects as well, with less to say.
      if (isGivenUp) return;
      if (state.type === 'serving') {
        settled();
        isServing = true;
        resolve();
      } else if (state.type === 'stopped') {
        settled();
        if (isServing) onStopped(state.reason);
        else reject(state.reason);
      } else {
        say();
      }
    });
    const onAbort = (): void =>
      giveUp(new HoldfastError('CLOSED', `taking "${volume}" over was given up`));
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  });
}

function timedOut({ owner, volume, directory }: TakeOverOptions, ms: number): HoldfastError {
  const what = waitsFor(owner.state, owner.record, directory);
  const message = `"${volume}" could not be taken over in ${ms / 1000} s: ${what}`;
  const hint = 'Check with "holdfast status" that enough of its nodes are up.';
  return new HoldfastError('TIMEOUT', message, { retryable: true, hint });
}

/** Resolves when the record says so, or the metadata store has not answered in time. */
function giveBack(clock: Clock, owner: LogOwner): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      late.cancel();
      owner.stop();
      resolve();
    };
    const late = clock.after(GIVE_BACK_MS, end);
    owner.release(end);
  });
}

/** What a takeover is doing, and who keeps it waiting. */
export function waitsFor(
  state: OwnerState,
  record: VolumeRecord | null,
  directory: Directory,
): string {
  if (state.type !== 'taking-over') return `it is ${state.type}`;
  switch (state.step) {
    case 'swap':
      return 'step 1 of 4, becoming its owner in the metadata store';
    case 'fence':
      return `step 2 of 4, shutting the former owner out${absentees(record, directory)}`;
    case 'recover':
      return `step 3 of 4, completing the end of the log${absentees(record, directory)}`;
    default:
      return `step 4 of 4, making new segments${few(record, directory)}`;
  }
}

function absentees(record: VolumeRecord | null, directory: Directory): string {
  const nodes = new Set(
    (record?.open ?? []).flatMap(({ replicas }) => replicas).map((r) => r.node),
  );
  const down = [...nodes].filter((node) => !directory.isLive(node));
  if (down.length === 0) return '';
  const names = down.map((node) => `${node.slice(0, 8)} (${directory.address(node) ?? 'unknown'})`);
  return `; down: ${down.length} of the ${nodes.size} nodes that have it: ${names.join(', ')}`;
}

function few(record: VolumeRecord | null, directory: Directory): string {
  const all = directory.nodes();
  const live = all.filter(({ node }) => directory.isLive(node)).length;
  if (record === null || live >= record.replicas) return '';
  return `; ${live} of ${all.length} nodes are up, and it wants ${record.ackQuorum} at least`;
}
