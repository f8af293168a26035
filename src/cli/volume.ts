/** `holdfast volume`: creates, lists, shows and grows volumes; the rest is in volume-*.ts. */
import type { Command } from 'commander';
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
import { lifecycleOf } from './lifecycle.js';
import { commitIntervalOf, wholeNumber } from './numbers.js';
import { addExamples, printResult } from './output.js';
import { Session, type SessionOptions, sessionOptions } from './session.js';
import { parseLabels, table } from './text.js';
import { addFenceCommand } from './volume-fence.js';
import { addIntegrityCommands } from './volume-integrity.js';
import { addSetCommand } from './volume-set.js';
import { addShowCommand } from './volume-show.js';
import { addTrashCommands, trashTable } from './volume-trash.js';

interface CreateOptions extends SessionOptions {
  readonly size: string;
  readonly replicas: string;
  readonly ack?: string;
  readonly kind: string;
  readonly label: readonly string[];
  readonly fsType?: string;
  readonly commitInterval?: string;
  readonly ifNotExists?: boolean;
}

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
  const collect = (value: string, all: readonly string[]): readonly string[] => [...all, value];
  const create = sessionOptions(volume.command('create <name>'))
    .description('create a volume')
    .requiredOption('--size <size>', 'how much it may hold, such as 500MiB, 10GiB or 1.5TiB')
    .option('--replicas <count>', 'copies of everything, on as many nodes: 1, 2, 3 or 5', '3')
    .option('--ack <count>', 'copies that an fsync waits for; default: the least majority')
    .option('--kind <kind>', 'filesystem or block', 'filesystem')
    .option('--fs-type <type>', 'of a block volume that is mounted: ext4 (the default) or xfs')
    .option('--commit-interval <seconds>', 'changes without fsync are committed this often (5)')
    .option('--label <key=value>', 'may be given several times', collect, [])
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
  if (options.kind !== 'filesystem' && options.kind !== 'block') {
    throw invalid(`"${options.kind}" is no kind of volume`, 'Kinds are filesystem and block.');
  }
  const kind: VolumeKind = options.kind;
  const ackQuorum =
    options.ack === undefined ? {} : { ackQuorum: wholeNumber(options.ack, '--ack') };
  const settings = { ...commitIntervalOf(options.commitInterval), ...fsTypeOf(kind, options) };
  const wanted = {
    name,
    kind,
    sizeBytes: parseSize(options.size, '--size'),
    replicas: wholeNumber(options.replicas, '--replicas'),
    labels: parseLabels(options.label),
    ...ackQuorum,
    ...(Object.keys(settings).length === 0 ? {} : { settings }),
  };
  await Session.run(options, async (session) => {
    const { volumes, store } = session;
    let isNew = true;
    const { record } = await volumes.create(wanted).catch(async (thrown: unknown) => {
      const isTaken = thrown instanceof HoldfastError && thrown.code === 'ALREADY_EXISTS';
      if (!isTaken || options.ifNotExists !== true) throw thrown;
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

/** Throws INVALID_ARGUMENT. */
function fsTypeOf(
  kind: VolumeKind,
  { fsType: text }: CreateOptions,
): { readonly fsType?: BlockFilesystem } {
  if (text === undefined) return {};
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
    const { volumes } = session;
    const before = (await volumes.byName(name)).record;
    const { record } = await volumes.grow(before.volume, sizeBytes);
    const lifecycle = lifecycleOf(session);
    // A mounted filesystem sees it by itself; a device and what is on it are told.
    const isDevice = (await lifecycle.here(before.volume))?.kind === 'block';
    if (isDevice) await lifecycle.growHere(before.volume);
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
