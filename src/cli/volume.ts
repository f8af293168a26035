/** `holdfast volume`: creates, lists, shows and grows volumes; the rest is in volume-*.ts. */
import type { Command } from 'commander';
import { z } from 'zod';
import { HoldfastError, invalid } from '../core/errors.js';
import { formatSize, parseSize } from '../core/sizes.js';
import {
  BLOCK_FILESYSTEMS,
  type BlockFilesystem,
  type VolumeFacts,
  type VolumeHead,
  type VolumeKind,
  type VolumeRecord,
} from '../metadata/model.js';
import { listNodes } from '../metadata/nodes.js';
import { flag, parsed, resolveSettings, textList } from './config.js';
import { lifecycleOf } from './lifecycle.js';
import { commitIntervalSetting, wholeSetting } from './numbers.js';
import { addExamples, printResult } from './output.js';
import { Session, type SessionOptions, sessionOptions } from './session.js';
import { collect, parseLabels, table } from './text.js';
import { addFenceCommand } from './volume-fence.js';
import { addIntegrityCommands } from './volume-integrity.js';
import { addSetCommand } from './volume-set.js';
import { addShowCommand } from './volume-show.js';
import { addTrashCommands, trashTable } from './volume-trash.js';

interface CreateOptions extends SessionOptions {
  readonly fsType?: string;
}

const createSettings = z.object({
  size: parsed((text) => parseSize(text, 'size')),
  replicas: wholeSetting('replicas').prefault('3'),
  ack: wholeSetting('ack').optional(),
  kind: z.string().default('filesystem'),
  label: textList.optional(),
  fsType: z.string().optional(),
  commitInterval: commitIntervalSetting.optional(),
  ifNotExists: flag.default(false),
});
type CreateSettings = z.output<typeof createSettings>;

interface ListOptions extends SessionOptions {
  readonly label: readonly string[];
  readonly trash?: boolean;
}

interface ExpandOptions extends SessionOptions {
  readonly size: string;
}

export function addVolumeCommands(program: Command): void {
  const volume = program
    .command('volume')
    .description('create, list, show, grow, check, remove and restore volumes');
  const create = sessionOptions(volume.command('create <name>'))
    .description('create a volume')
    .option('--size <size>', 'how much it may hold, such as 500MiB, 10GiB or 1.5TiB')
    .option('--replicas <count>', 'copies of everything, on as many nodes: 1, 2, 3 (default) or 5')
    .option('--ack <count>', 'copies that an fsync waits for; default: the least majority')
    .option('--kind <kind>', 'filesystem (default) or block')
    .option('--fs-type <type>', 'of a block volume that is mounted: ext4 (the default) or xfs')
    .option('--commit-interval <time>', 'changes without fsync are committed this often (5)')
    .option('--label <key=value>', 'may be given several times', collect)
    .option('--if-not-exists', 'one of that name that is as wanted will do')
    .action((name: string, options: CreateOptions) => createVolume(name, options));
  addExamples(create, [
    ['A volume of 10 GiB, on three nodes', 'holdfast volume create db --size 10GiB'],
    ['With a label', 'holdfast volume create logs --size 1TiB --label team=web'],
    ['In a script that may run twice', 'holdfast volume create db --size 10GiB --if-not-exists'],
  ]);
  const ls = sessionOptions(volume.command('ls'))
    .description('list all volumes')
    .option('--label <key=value>', 'only those with this label; several times', collect, [])
    .option('--trash', 'those that were removed and are still kept')
    .action((options: ListOptions) => list(options));
  addExamples(ls, [
    ['For scripts', 'holdfast volume ls --json'],
    ['What could be restored', 'holdfast volume ls --trash'],
  ]);
  addShowCommand(volume);
  const expand = sessionOptions(volume.command('expand <name>'))
    .description('let a volume hold more, also while it is mounted')
    .requiredOption('--size <size>', 'how much it may hold from now on; never less than before')
    .action((name: string, options: ExpandOptions) => expandVolume(name, options));
  addExamples(expand, [['To 20 GiB', 'holdfast volume expand db --size 20GiB']]);
  addSetCommand(volume);
  addFenceCommand(volume);
  addIntegrityCommands(volume);
  addTrashCommands(volume);
}

async function createVolume(name: string, options: CreateOptions): Promise<void> {
  const sources = { command: 'volume', flags: { ...options }, env: process.env };
  const { kind: kindName, ...set } = resolveSettings(createSettings, sources);
  if (kindName !== 'filesystem' && kindName !== 'block') {
    throw invalid(`"${kindName}" is no kind of volume`, 'Kinds are filesystem and block.');
  }
  const kind: VolumeKind = kindName;
  const { commitInterval: commitIntervalMs } = set;
  const settings = {
    ...(commitIntervalMs === undefined ? {} : { commitIntervalMs }),
    ...fsTypeOf(kind, options, set),
  };
  const wanted = {
    name,
    kind,
    sizeBytes: set.size,
    replicas: set.replicas,
    labels: parseLabels(set.label ?? []),
    ...(set.ack === undefined ? {} : { ackQuorum: set.ack }),
    ...(Object.keys(settings).length === 0 ? {} : { settings }),
  };
  await Session.run(options, async (session) => {
    const { volumes, store } = session;
    let isNew = true;
    const { record } = await volumes.create(wanted).catch(async (thrown: unknown) => {
      const isTaken = thrown instanceof HoldfastError && thrown.code === 'ALREADY_EXISTS';
      if (!isTaken || !set.ifNotExists) throw thrown;
      isNew = false;
      // Says what differs, if anything does.
      await lifecycleOf(session).create({ ...wanted, ...settings });
      return await volumes.byName(name);
    });
    const nodes = (await listNodes(store)).length;
    const { replicas, ackQuorum: ack, sizeBytes } = record;
    const copies = `${replicas} replicas, fsync waits for ${ack}`;
    const what = isNew ? 'created volume' : 'there is';
    const made = `${what} ${name}: ${formatSize(sizeBytes)}, ${copies}`;
    const few = `! the cluster has ${nodes} nodes: there are fewer copies until it has ${replicas}`;
    const text = nodes < replicas ? `${made}\n${few}` : made;
    printResult(options.json === true, record, text);
  });
}

/** One that was not said here is for block volumes alone. Throws INVALID_ARGUMENT. */
function fsTypeOf(
  kind: VolumeKind,
  options: CreateOptions,
  { fsType: text }: Pick<CreateSettings, 'fsType'>,
): { readonly fsType?: BlockFilesystem } {
  if (text === undefined || (kind !== 'block' && options.fsType === undefined)) return {};
  const fsType = BLOCK_FILESYSTEMS.find((one) => one === text);
  if (fsType === undefined) {
    throw invalid(`--fs-type: "${text}"`, `It may be ${BLOCK_FILESYSTEMS.join(' or ')}.`);
  }
  if (kind === 'block') return { fsType };
  throw invalid('--fs-type is for volumes of the kind "block"', 'Others have their own.');
}

async function list(options: ListOptions): Promise<void> {
  const wanted = Object.entries(parseLabels(options.label));
  await Session.run(options, async ({ volumes, trash }) => {
    const found = options.trash === true ? await trash.list() : await volumes.list();
    const records = found
      .map(({ record }) => record)
      .filter(({ labels }) => wanted.every(([key, value]) => labels[key] === value));
    const asTable = options.trash === true ? trashTable : volumeTable;
    printResult(options.json === true, records, asTable(records));
  });
}

async function expandVolume(name: string, options: ExpandOptions): Promise<void> {
  const sizeBytes = parseSize(options.size, '--size');
  await Session.run(options, async (session) => {
    const before = (await session.volumeNamed(name)).record;
    const { record } = await session.volumes.grow(before.volume, sizeBytes);
    const lifecycle = lifecycleOf(session);
    // A mounted filesystem sees it by itself; a device and what is on it are told.
    const isHere = before.kind === 'block' && (await lifecycle.here(before.volume)) !== null;
    if (isHere) await lifecycle.growHere(before.volume);
    const from = formatSize(before.sizeBytes);
    const said =
      before.sizeBytes === sizeBytes
        ? `volume ${name} has ${from} already`
        : `volume ${name} has ${formatSize(sizeBytes)} now, ${from} before`;
    printResult(options.json === true, record, said);
  });
}

export function volumeTable(records: readonly (VolumeHead | VolumeRecord)[]): string {
  return table(
    ['NAME', 'SIZE', 'KIND', 'REPLICAS', 'ACK', 'EPOCH', 'OWNER', 'SEGMENTS'],
    records.map((record) => [
      record.name,
      formatSize(record.sizeBytes),
      record.kind,
      String(record.replicas),
      String(record.ackQuorum),
      String(record.epoch),
      ownerText(record),
      String(record.open.length + ('log' in record ? record.log.segments : record.sealed.length)),
    ]),
  );
}

function ownerText({ owner }: VolumeFacts): string {
  return owner === null || owner.released ? '-' : owner.address;
}
