/**
 * Giving a volume back in order: the last commit, a checkpoint if it is worth one, the release, the
 * end of its presence. Each step has a limit of its own. Without the metadata store neither
 * checkpoint nor release can be had: then the commit is all, and the next mount waits until the
 * presence has run out.
 */
import { HoldfastError } from '../core/errors.js';
import type { VolumeId } from '../core/ids.js';
import { LEASE_TTL_SECONDS } from '../core/limits.js';
import type { Clock } from '../io/clock.js';
import type { Log } from '../io/log.js';
import { volumeKey } from '../metadata/keys.js';
import type { Presence } from '../metadata/presence.js';
import type { MetadataStore } from '../metadata/store.js';
import type { LogOwner } from '../replication/owner.js';
import type { VolumeFilesystem } from '../volume/filesystem.js';

/** What was written since the commit before the umount; needs nodes only. */
const COMMIT_MS = 20_000;
/** The metadata store has answered something within this time, or is taken for away. */
const STORE_MS = 4_000;
/** Images and a manifest into the log, and the swap of the root. */
const CHECKPOINT_MS = 15_000;
const RELEASE_MS = 5_000;
const PRESENCE_MS = 2_000;
/** All of them: who waits for the end of a mount should wait for longer. */
export const GIVING_BACK_MS = COMMIT_MS + STORE_MS + CHECKPOINT_MS + RELEASE_MS + PRESENCE_MS;

export interface ReleaseParts {
  readonly clock: Clock;
  readonly log: Pick<Log, 'warn'>;
  readonly store: Pick<MetadataStore, 'get'>;
  readonly owner: Pick<LogOwner, 'release' | 'stop'>;
  readonly volume: VolumeId;
  /** Its name, for the log. */
  readonly name: string;
  /** Null when it was not loaded. */
  readonly filesystem: Pick<VolumeFilesystem, 'commit' | 'finish'> | null;
  readonly presence: Pick<Presence, 'stop'> | null;
}

type Outcome = 'done' | 'failed' | 'late';

/**
 * Resolves to whether the volume is released; the owner is stopped then. Never rejects: what could
 * not be done is in the log.
 */
export async function releaseVolume(parts: ReleaseParts): Promise<boolean> {
  const { owner, presence } = parts;
  await commit(parts);
  const answers = await storeAnswers(parts);
  const isReleased = answers && (await release(parts));
  owner.stop();
  if (!isReleased) {
    const why = answers ? 'The release did not end' : 'The metadata store does not answer';
    warn(parts, `${why}: the volume is free when its lease ends, in ${LEASE_TTL_SECONDS} s.`);
  }
  if (presence !== null) await within(parts, isReleased ? PRESENCE_MS : 0, () => presence.stop());
  return isReleased;
}

async function commit(parts: ReleaseParts): Promise<void> {
  const { filesystem } = parts;
  if (filesystem === null) return;
  const outcome = await within(parts, COMMIT_MS, () => called((done) => filesystem.commit(done)));
  if (outcome === 'late') warn(parts, 'The last commit did not end: what it holds may be lost.');
}

async function storeAnswers(parts: ReleaseParts): Promise<boolean> {
  const { store, volume } = parts;
  return (await within(parts, STORE_MS, () => store.get(volumeKey(volume)))) === 'done';
}

/** False when the metadata store did not take it in time. */
async function release(parts: ReleaseParts): Promise<boolean> {
  const { owner, filesystem } = parts;
  if (filesystem !== null) {
    const finish = (): Promise<void> => called((done) => filesystem.finish(done));
    const outcome = await within(parts, CHECKPOINT_MS, finish);
    if (outcome === 'late') {
      warn(parts, 'The last checkpoint was given up: the next mount replays more.');
    }
  }
  const give = (): Promise<void> => called((done) => owner.release(done));
  // An owner that was shut out has nothing to release.
  return (await within(parts, RELEASE_MS, give)) !== 'late';
}

function warn({ log, name }: ReleaseParts, text: string): void {
  log.warn({ volume: name }, text);
}

function called(call: (done: (error: Error | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    call((error) => (error === null ? resolve() : reject(error)));
  });
}

function within(
  { clock }: ReleaseParts,
  limitMs: number,
  run: () => Promise<unknown>,
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const timer = clock.after(limitMs, () => resolve('late'));
    const ended = (outcome: Outcome): void => {
      timer.cancel();
      resolve(outcome);
    };
    run().then(
      () => ended('done'),
      (thrown) => (isFault(thrown) ? ended('failed') : reject(thrown)),
    );
  });
}

function isFault(thrown: unknown): boolean {
  return thrown instanceof HoldfastError || (thrown instanceof Error && 'errno' in thrown);
}
