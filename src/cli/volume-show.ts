/** `holdfast volume show`: one volume with all that is known of it, from here. */
import type { Command } from 'commander';
import { HoldfastError } from '../core/errors.js';
import { formatSize } from '../core/sizes.js';
import type { LiveStatus } from '../lifecycle/mount-types.js';
import { listMounts } from '../lifecycle/mounts.js';
import { Attachments } from '../metadata/attachments.js';
import { type GivenUp, readGivenUp } from '../metadata/given-up.js';
import type { Attachment, PresenceRecord, VolumeRecord } from '../metadata/model.js';
import { findPresence } from '../metadata/presence.js';
import { mountDeps } from './machine.js';
import { addExamples, printResult } from './output.js';
import { Session, type SessionOptions, sessionOptions } from './session.js';
import { table } from './text.js';

export function addShowCommand(volume: Command): void {
  const show = sessionOptions(volume.command('show <name>'))
    .description('show one volume: who has it mounted, how full it is, its segments')
    .action((name: string, options: SessionOptions) => showVolume(name, options));
  addExamples(show, [['One volume', 'holdfast volume show db']]);
}

interface Usage {
  /** Who has it mounted; null when nobody has, as far as the metadata store knows. */
  readonly mounted: PresenceRecord | null;
  /** As the mount on this machine tells; null when it is mounted elsewhere or not at all. */
  readonly usedBytes: number | null;
  readonly files: number | null;
  /** The machines that may use it, if orchestrators have a say. */
  readonly attachments: readonly Attachment[];
  /** When and what was given up by `volume recover --accept-loss`; null: nothing. */
  readonly givenUp: GivenUp | null;
  /** Of the log, on each replica, without the open segments. */
  readonly sealedBytes: number;
}

async function showVolume(name: string, options: SessionOptions): Promise<void> {
  await Session.run(options, async (session) => {
    const { store, clock } = session;
    const { record } = await session.volumeNamed(name);
    const live = await liveHere(record);
    const usage: Usage = {
      mounted: await findPresence(store, record.volume),
      usedBytes: live?.usedBytes ?? null,
      files: live?.files ?? null,
      givenUp: await readGivenUp(store, record.volume),
      attachments: await new Attachments(store, clock).of(record.volume),
      sealedBytes: record.sealed.reduce((sum, { end }) => sum + end, 0),
    };
    printResult(options.json === true, { ...record, ...usage }, describe(record, usage));
  });
}

/** Null also where this user may not see the mounts of this machine. */
async function liveHere({ volume }: VolumeRecord): Promise<LiveStatus | null> {
  try {
    const mounts = await listMounts(mountDeps(process.env));
    return mounts.find((one) => one.live?.volumeId === volume)?.live ?? null;
  } catch (thrown) {
    if (thrown instanceof HoldfastError) return null;
    throw thrown;
  }
}

function describe(record: VolumeRecord, usage: Usage): string {
  const labels = Object.entries(record.labels).map(([key, value]) => `${key}=${value}`);
  const { owner } = record;
  const facts = table(
    ['name', record.name],
    [
      ['id', record.volume],
      ['kind', record.kind],
      ['size', formatSize(record.sizeBytes)],
      ['used', usedText(usage)],
      ['replicas', `${record.replicas}, fsync waits for ${record.ackQuorum}`],
      ['labels', labels.join(' ') || '-'],
      ['created', record.createdAt],
      ['epoch', String(record.epoch)],
      ['owner', owner === null || owner.released ? '-' : owner.address],
      ['mounted', mountedText(usage.mounted)],
      ['attached', usage.attachments.map(({ machine }) => machine).join(' ') || '-'],
      ['log', `${formatSize(usage.sealedBytes)} in sealed segments, on each replica`],
    ],
  );
  const rows = [
    ...record.sealed.map((one) => [one.segment, 'sealed', `${one.end}`, `${one.endLsn}`]),
    ...record.open.map((one) => [one.segment, 'open', '', '']),
    ...record.planned.map((one) => [one.segment, 'planned', '', '']),
    ...record.pendingDelete.map((one) => [one.segment, 'to be deleted', '', '']),
  ];
  const { givenUp } = usage;
  const lost = [...(givenUp?.losses ?? []), ...(givenUp?.end ?? [])].map(
    (one) => `! given up at ${givenUp?.at}: ${one}`,
  );
  const segments = table(['SEGMENT', 'STATE', 'END', 'END LSN'], rows);
  return [facts, lost.join('\n'), rows.length === 0 ? '' : segments]
    .filter((one) => one !== '')
    .join('\n\n');
}

function usedText({ mounted, usedBytes, files }: Usage): string {
  if (usedBytes !== null) return `${formatSize(usedBytes)} by ${files} files`;
  return mounted === null ? 'known while it is mounted' : `see "df" or this there: ${mounted.host}`;
}

function mountedText(mounted: PresenceRecord | null): string {
  if (mounted === null) return '-';
  const { host, pid, mountPoint, since } = mounted;
  return `${mountPoint} on ${host} (pid ${pid}) since ${since}`;
}
