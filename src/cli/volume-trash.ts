/**
 * `holdfast volume rm`, `restore` and `purge`: a volume goes to the trash first, from where it
 * comes back whole until its time is over; only purging deletes anything.
 */
import type { Command } from 'commander';
import { z } from 'zod';
import { formatDuration } from '../core/durations.js';
import { HoldfastError, invalid } from '../core/errors.js';
import { formatSize } from '../core/sizes.js';
import type { VolumeFacts } from '../metadata/model.js';
import type { VersionedHead } from '../metadata/stored-volume.js';
import { isExpired, type PurgeRule } from '../metadata/trash.js';
import { agreedTime } from '../replication/expiry.js';
import { type PurgeOutcome, purgeVolume } from '../replication/purge.js';
import { resolveSettings } from './config.js';
import { askNodes } from './lifecycle.js';
import { checkSession } from './node-secret.js';
import { retentionSetting } from './numbers.js';
import { addExamples, printResult, showProgress } from './output.js';
import { Session, type SessionOptions, sessionOptions } from './session.js';
import { table } from './text.js';

const DEFAULT_RETENTION = '7d';
const PURGE_TIMEOUT_MS = 60_000;

interface RemoveOptions extends SessionOptions {
  readonly retention?: string;
  readonly purge?: boolean;
  readonly force?: boolean;
}

interface RestoreOptions extends SessionOptions {
  readonly as?: string;
}

interface PurgeCommandOptions extends SessionOptions {
  readonly expired?: boolean;
}

const settings = z.object({
  retention: retentionSetting.prefault(DEFAULT_RETENTION),
});

export function addTrashCommands(volume: Command): void {
  const rm = sessionOptions(volume.command('rm <name>'))
    .description('put a volume into the trash; its name becomes free at once')
    .option('--retention <time>', `how long it is kept there (default: ${DEFAULT_RETENTION})`)
    .option('--purge', 'delete it for good, now')
    .option('--force', 'also when its last owner did not release it: that one loses it')
    .action((name: string, options: RemoveOptions) => remove(name, options));
  addExamples(rm, [
    ['Kept for a week, then deleted by the nodes', 'holdfast volume rm db'],
    ['Kept for 30 days', 'holdfast volume rm db --retention 30d'],
    ['Nothing of it comes back', 'holdfast volume rm scratch --purge'],
  ]);
  const restore = sessionOptions(volume.command('restore <name-or-id>'))
    .description('take a volume out of the trash')
    .option('--as <name>', 'under this name')
    .action((word: string, options: RestoreOptions) => restoreVolume(word, options));
  addExamples(restore, [
    ['As it was', 'holdfast volume restore db'],
    ['Beside a new volume of its name', 'holdfast volume restore db --as db-of-monday'],
    ['Of several with one name, by id', 'holdfast volume restore 3f2a90c1 --as db-2'],
  ]);
  const purge = sessionOptions(volume.command('purge [name-or-id...]'))
    .description('delete volumes in the trash for good')
    .option('--expired', 'all whose time is over; the nodes do the same by themselves')
    .action((words: string[], options: PurgeCommandOptions) => purgeVolumes(words, options));
  addExamples(purge, [
    ['One', 'holdfast volume purge db'],
    ['Make room now', 'holdfast volume purge --expired'],
  ]);
}

async function remove(name: string, options: RemoveOptions): Promise<void> {
  const { retention } = removalSettings(options);
  const isPurge = options.purge === true;
  if (isPurge && options.retention !== undefined) {
    throw invalid('--purge keeps nothing, --retention does', 'Use one of them.');
  }
  await Session.run(options, async (session) => {
    const { record } = await session.volumeNamed(name);
    if (isPurge) await checkSession(session);
    const told = await askNodes(session);
    const wallMs = Math.max(session.clock.wall(), ...told.map((one) => one.wallMs));
    const removal = { keepMs: isPurge ? 0 : retention, force: options.force === true, wallMs };
    const removed = (await session.trash.remove(record.volume, removal)).record;
    if (isPurge) {
      await purgeAll(session, [removed], options);
      return;
    }
    const kept = retention === null ? '' : ` (${formatDuration(retention)})`;
    const until = `until ${removed.trash?.keptUntil ?? 'it is purged'}${kept}`;
    const back = `To get it back: holdfast volume restore ${name}`;
    const text = `volume ${name} is in the trash ${until}. ${back}`;
    printResult(options.json === true, removed, text);
  });
}

function removalSettings(options: RemoveOptions): { readonly retention: number | null } {
  const flags = { ...options };
  return resolveSettings(settings, { command: 'volume', flags, env: process.env });
}

async function restoreVolume(word: string, options: RestoreOptions): Promise<void> {
  await Session.run(options, async ({ trash, volumes }) => {
    const { record } = await trash.find(word);
    const restored = await trash.restore(record.volume, options.as ?? record.name);
    const { name, sizeBytes } = (await volumes.byName(restored.record.name)).record;
    const text = `volume ${name} is back: ${formatSize(sizeBytes)}`;
    printResult(options.json === true, restored.record, text);
  });
}

async function purgeVolumes(words: readonly string[], options: PurgeCommandOptions): Promise<void> {
  if (words.length > 0 === (options.expired === true)) {
    throw invalid('which volumes?', 'Name volumes in the trash, or say --expired.');
  }
  await Session.run(options, async (session) => {
    await checkSession(session);
    if (options.expired !== true) {
      const named = await Promise.all(words.map((word) => session.trash.find(word)));
      await purgeAll(session, factsOf(named), options);
      return;
    }
    const { store, clock, clients: requests } = session;
    const all = await session.trash.list();
    const isAny = all.some(({ record }) => isExpired(record, clock.wall()));
    const wallMs = isAny ? await agreedTime({ store, clock, requests }) : clock.wall();
    if (wallMs === null) {
      const hint = 'Start the nodes, or name the volumes.';
      const message = 'too few nodes tell their time to say what has expired';
      throw new HoldfastError('UNAVAILABLE', message, { hint });
    }
    const expired = all.filter(({ record }) => isExpired(record, wallMs));
    await purgeAll(session, factsOf(expired), { ...options, wallMs });
  });
}

function factsOf(volumes: readonly VersionedHead[]): VolumeFacts[] {
  return volumes.map(({ record }) => record);
}

interface Purged {
  readonly volume: string;
  readonly name: string;
  readonly state: 'purged' | 'purging';
  /** Segments that are still on disks which do not answer. */
  readonly segmentsLeft: number;
  readonly nodes: readonly string[];
}

async function purgeAll(
  session: Session,
  records: readonly VolumeFacts[],
  options: SessionOptions & PurgeRule,
): Promise<void> {
  const all: Purged[] = [];
  for (const record of records) all.push(await purgeOne(session, record, options));
  const lines = all.map(({ name, state, segmentsLeft, nodes }) => {
    if (state === 'purged') return `volume ${name} is deleted`;
    const where = nodes.length === 0 ? 'some nodes' : nodes.map((id) => id.slice(0, 8)).join(', ');
    const rest = `${segmentsLeft} segments are still on disks of ${where}`;
    return `volume ${name} is gone; ${rest}, deleted when these answer`;
  });
  const text = lines.length === 0 ? 'there is nothing to purge' : lines.join('\n');
  printResult(options.json === true, all, text);
}

async function purgeOne(
  session: Session,
  { volume, name }: VolumeFacts,
  options: SessionOptions & PurgeRule,
): Promise<Purged> {
  const { clock, random, log, store, trash, clients: requests } = session;
  const directory = await session.directory();
  const parts = { clock, random, log, store, trash, requests, directory };
  const progress = showProgress(options);
  const onProgress = (left: number): void => {
    progress.say(`${name}: ${left} segments are left to delete`);
  };
  try {
    const { wallMs } = options;
    const rule = wallMs === undefined ? {} : { wallMs };
    const limits = { timeoutMs: PURGE_TIMEOUT_MS, onProgress, ...rule };
    const outcome = await purgeVolume(parts, volume, limits);
    return purged(volume, name, outcome);
  } catch (thrown) {
    // The nodes were faster.
    if (!(thrown instanceof HoldfastError && thrown.code === 'NOT_FOUND')) throw thrown;
    return purged(volume, name, { type: 'purged' });
  } finally {
    progress.end();
  }
}

function purged(volume: string, name: string, outcome: PurgeOutcome): Purged {
  if (outcome.type === 'purged') {
    return { volume, name, state: 'purged', segmentsLeft: 0, nodes: [] };
  }
  return { volume, name, state: 'purging', segmentsLeft: outcome.segments, nodes: outcome.nodes };
}

export function trashTable(records: readonly VolumeFacts[]): string {
  return table(
    ['NAME', 'ID', 'SIZE', 'REMOVED', 'KEPT UNTIL'],
    records.map(({ name, volume, sizeBytes, trash }) => [
      name,
      volume.slice(0, 12),
      formatSize(sizeBytes),
      trash?.removedAt ?? '-',
      trash?.purging === true ? 'being deleted' : (trash?.keptUntil ?? 'somebody purges it'),
    ]),
  );
}
