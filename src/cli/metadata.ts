/**
 * `holdfast metadata`: a copy of what the metadata store holds, and two ways back when it is lost.
 */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { NodeClients } from '../block/wire/client.js';
import { HoldfastError, invalid } from '../core/errors.js';
import { type ClusterId, parseId } from '../core/ids.js';
import { parseAddress } from '../io/address.js';
import { nodeClock } from '../io/node/clock.js';
import { nodeRandom } from '../io/node/random.js';
import { NODES, ROOT, VOLUMES } from '../metadata/keys.js';
import { METADATA_SCHEMA, type NodeRecord, type VolumeRecord } from '../metadata/model.js';
import { openMetadata } from '../metadata/open.js';
import { largestEpochs, rebuildVolumes } from '../metadata/rebuild.js';
import type { RebuiltVolume } from '../metadata/rebuild-types.js';
import { seenNodes } from '../metadata/seen.js';
import type { StaleVolume } from '../metadata/staleness.js';
import type { MetadataStore } from '../metadata/store.js';
import {
  type ClusterExport,
  decodeExport,
  exportCluster,
  importCluster,
  refuseUsed,
} from '../metadata/transfer.js';
import { updatePlacement } from '../replication/placement-table.js';
import { createDurably } from './durable-file.js';
import { type FoundNode, headersOf, inventoryOf, nodeRecord } from './inventory.js';
import { wrongSecret } from './node-secret.js';
import { addExamples, printResult } from './output.js';
import { fenceUnsealed } from './rebuild-fence.js';
import { besideRebuilt, keptOf } from './rebuild-kept.js';
import { rootsOf } from './rebuild-roots.js';
import {
  type ClusterLocation,
  locate,
  nodeClients,
  type SessionOptions,
  sessionOptions,
} from './session.js';
import { collect } from './text.js';
import { volumeTable } from './volume.js';

interface ImportOptions extends SessionOptions {
  readonly force?: boolean;
  readonly acceptLoss?: boolean;
  readonly node: readonly string[];
}

interface RebuildOptions extends ImportOptions {
  readonly without: readonly string[];
  readonly cluster?: string;
  readonly dryRun?: boolean;
}

export function addMetadataCommands(program: Command): void {
  const metadata = program
    .command('metadata')
    .description('export, import and rebuild what the metadata store holds');
  const nodes = (command: Command): Command =>
    sessionOptions(command)
      .option('--node <host:port>', 'a node to ask; may be given several times', addresses, [])
      .option('--accept-loss', 'go on although nodes are missing: what only they had is given up');
  const exports = sessionOptions(metadata.command('export <file>'))
    .description('write the cluster, its nodes and volumes into a file ("-": standard output)')
    .action((file: string, options: SessionOptions) => exportMetadata(file, options));
  addExamples(exports, [['A backup', 'holdfast metadata export cluster.json']]);
  const imports = nodes(metadata.command('import <file>'))
    .description('put an export back; raises all epochs above what any node knows')
    .option('--force', 'replace what the store holds now')
    .action((file: string, options: ImportOptions) => importMetadata(file, options));
  addExamples(imports, [
    [
      'Into an empty store',
      'holdfast metadata import cluster.json --metadata etcd://10.0.0.1:2379',
    ],
  ]);
  const rebuild = nodes(metadata.command('rebuild'))
    .description('make the metadata anew from what the nodes have on their disks')
    .option('--cluster <id>', "the cluster's id: nodes print it when they start")
    .option('--force', 'replace what the store holds now')
    .option(
      '--without <id>',
      'leave a volume out that cannot be rebuilt: store and nodes keep what they have of it',
      collect,
      [],
    )
    .option('--dry-run', 'only show what would be written; else whoever uses a volume is shut out')
    .action((options: RebuildOptions) => rebuildMetadata(options));
  addExamples(rebuild, [
    [
      'See what two nodes know',
      'holdfast metadata rebuild --cluster ID --node 10.0.0.5:7400 --node 10.0.0.6:7400 --dry-run',
    ],
  ]);
}

/** A slip would be a node that does not answer, and that --accept-loss gives up. */
function addresses(value: string, all: readonly string[]): readonly string[] {
  parseAddress(value, '--node');
  return collect(value, all);
}

/** Opens the store, which may be empty, or, unless it must exist, is made. */
async function withStore<T>(
  options: SessionOptions,
  work: (store: MetadataStore, location: ClusterLocation) => Promise<T>,
  mustExist = false,
): Promise<T> {
  const location = locate(options, process.env);
  const parts = { clock: nodeClock, random: nodeRandom, env: process.env, mustExist };
  const store = await openMetadata(location.metadata, parts);
  try {
    return await work(store, location);
  } finally {
    await store.close();
  }
}

async function exportMetadata(file: string, options: SessionOptions): Promise<void> {
  const text = await withStore(options, exportCluster, true);
  if (file === '-') {
    process.stdout.write(text);
    return;
  }
  writeFile(file, text);
  const { volumes, nodes } = decodeExport(text);
  const value = { file, volumes: volumes.length, nodes: nodes.length };
  const said = `exported ${volumes.length} volumes and ${nodes.length} nodes to ${file}`;
  printResult(options.json === true, value, said);
}

/** Never over an older one: that may be the only good copy. */
function writeFile(file: string, text: string): void {
  try {
    createDurably(file, text);
  } catch (thrown) {
    const { code, message } = thrown as NodeJS.ErrnoException;
    if (code !== 'EEXIST') throw invalid(`cannot write the export: ${message}`);
    throw new HoldfastError('ALREADY_EXISTS', `${file} exists`, { hint: 'Choose another name.' });
  }
}

function readFile(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (thrown) {
    throw invalid(`cannot read the export: ${(thrown as Error).message}`);
  }
}

async function importMetadata(file: string, options: ImportOptions): Promise<void> {
  const content = decodeExport(readFile(file));
  await withStore(options, async (store, { secretFile, up }) => {
    // What the nodes say is judged as of then: segments may be given up while they are asked.
    const { entries: headsBefore } = await store.range(VOLUMES);
    // Nodes that joined after the export know epochs as well.
    const listed = [...content.nodes, ...seenNodes((await store.range(NODES)).entries)];
    const addresses = listed.map(({ address }) => address).filter((one) => one !== null);
    const named = [...addresses, ...options.node, ...(up?.addresses ?? [])];
    const { cluster } = content.cluster;
    const found = await askAll([...new Set(named)], cluster, secretFile, async (nodes, missing) => {
      const answered = new Set(nodes.map(({ status }) => status.node));
      const silent = listed.filter(({ node }) => !answered.has(node));
      const lost = silent.flatMap(({ node, address }) =>
        address === null ? [`node ${node}: its address cannot be read in the store`] : [],
      );
      refuseMissing(silent.length > 0 ? [...missing, ...lost] : [], options);
      return nodes;
    });
    const inventories = found.flatMap((node) => node.inventories);
    const known = { maxEpochs: largestEpochs(inventories), inventories };
    const replace = options.force === true;
    const acceptLoss = options.acceptLoss === true;
    const judged = acceptLoss ? {} : { headsBefore };
    const told = { ...known, ...judged, replace, acceptLoss };
    const written = await importCluster(store, content, told);
    const { generation } = written.cluster;
    const losses = written.losses.map(({ reason }) => reason);
    const inTrash = content.volumes.filter(({ trash }) => trash !== undefined).length;
    const { length: volumes } = content.volumes;
    const value = { generation, volumes, inTrash, losses };
    const kept = `${inTrash} of them are in the trash, and kept there: restore or purge them`;
    const lines = [
      `imported ${value.volumes} volumes as generation ${value.generation}`,
      ...(inTrash > 0 ? [kept] : []),
      ...written.losses.map((loss) => `! ${loss.reason}${remedy(loss)}`),
    ];
    printResult(options.json === true, value, lines.join('\n'));
  });
}

function remedy({ foundIn, exported }: StaleVolume): string {
  if (exported) return '; if it cannot be mounted: holdfast metadata rebuild --force';
  return foundIn === 'nodes' ? '; to have it back: holdfast metadata rebuild --force' : '';
}

/** Asks all addresses; gives `work` who answered and, one sentence each, who did not. */
async function askAll<T>(
  addresses: readonly string[],
  cluster: ClusterId,
  secretFile: string | null,
  work: (nodes: readonly FoundNode[], missing: readonly string[]) => Promise<T>,
): Promise<T> {
  const clients: NodeClients[] = [];
  try {
    const missing: string[] = [];
    let isRefused = false;
    const asked = addresses.map(async (address) => {
      const requests = nodeClients({ clock: nodeClock, random: nodeRandom, cluster, secretFile });
      clients.push(requests);
      try {
        return await inventoryOf({ address, requests });
      } catch (thrown) {
        if (!(thrown instanceof HoldfastError)) throw thrown;
        const { message, code } = thrown;
        isRefused ||= code === 'UNAUTHENTICATED';
        missing.push(message.includes(address) ? message : `${address}: ${message}`);
        return null;
      }
    });
    const nodes = (await Promise.all(asked)).filter((found) => found !== null);
    // Nobody shall give up nodes that are there.
    if (nodes.length === 0 && isRefused) throw wrongSecret();
    return await work(nodes, missing);
  } finally {
    for (const one of clients) one.close();
  }
}

function refuseMissing(missing: readonly string[], options: ImportOptions): void {
  if (missing.length === 0 || options.acceptLoss === true) return;
  const message = `not all nodes answered (${missing.join('; ')}); nothing was changed`;
  throw new HoldfastError('UNAVAILABLE', message, {
    retryable: true,
    hint: 'Start them, name their new addresses with --node, or give them up with --accept-loss.',
  });
}

/** Nobody gives up all nodes: the cluster's id or the addresses are wrong. */
function refuseSilence(nodes: readonly FoundNode[], missing: readonly string[]): void {
  if (nodes.length > 0) return;
  const message = `no node of this cluster answered (${missing.join('; ')}); nothing was changed`;
  const hint = 'Start the nodes, or correct --cluster and --node.';
  throw new HoldfastError('UNAVAILABLE', message, { retryable: true, hint });
}

async function rebuildMetadata(options: RebuildOptions): Promise<void> {
  await withStore(options, async (store, { secretFile, up }) => {
    const addresses = options.node.length > 0 ? options.node : (up?.addresses ?? []);
    const cluster =
      options.cluster === undefined
        ? up?.cluster
        : parseId<ClusterId>(options.cluster, '--cluster');
    if (cluster === undefined || addresses.length === 0) {
      const hint = 'Each node prints both when it starts; an older export has them as well.';
      throw invalid("the cluster's id and its nodes are needed: --cluster, --node", hint);
    }
    await askAll(addresses, cluster, secretFile, async (nodes, missing) => {
      refuseSilence(nodes, missing);
      refuseMissing(missing, options);
      // What is refused as it stands, or where it would go, shuts nobody out.
      const seen = await rebuilt(nodes, options);
      if (options.dryRun === true || seen.some(({ type }) => type === 'refused')) {
        report(seen, options);
        refuseRefused(seen);
        return;
      }
      if (options.force !== true) refuseUsed(store, (await store.range(ROOT)).entries);
      await keptOf(store, nodes, options);
      const shutOut = await fenceUnsealed(nodes, inventoryOf);
      refuseMissing(shutOut.missing, options);
      // Whoever takes a volume over from here on, above our epoch, changes its head first; and what
      // stands in these heads is there to be found.
      const { entries: headsBefore } = await store.range(VOLUMES);
      const fenced = await fenceUnsealed(shutOut.nodes, inventoryOf);
      refuseMissing(fenced.missing, options);
      const volumes = await rebuilt(fenced.nodes, options);
      report(volumes, options);
      refuseRefused(volumes);
      const kept = await keptOf(store, fenced.nodes, options);
      const records = besideRebuilt(recordsIn(volumes), kept.records);
      const content = exportOf(cluster, fenced.nodes, records);
      const inventories = fenced.nodes.flatMap((node) => node.inventories);
      const maxEpochs = largestEpochs(inventories);
      const written = await importCluster(store, content, {
        maxEpochs,
        replace: options.force === true,
        headsBefore,
        // What is kept may be older than the disks, as it was; what is made of them never is, and
        // what it is without was judged above.
        acceptLoss: true,
      });
      await updatePlacement(store);
      if (options.json === true) return;
      const notes = kept.notes.map((note) => `  ${note}\n`).join('');
      const done = `${store.name} holds them now, as generation ${written.cluster.generation}.\n`;
      process.stdout.write(notes + done);
    });
  });
}

async function rebuilt(
  nodes: readonly FoundNode[],
  options: RebuildOptions,
): Promise<RebuiltVolume[]> {
  const unwanted = new Set(options.without);
  const all = nodes.flatMap(({ inventories }) => inventories);
  const known = new Set<string>(all.flatMap(({ entries }) => entries.map(({ volume }) => volume)));
  for (const id of unwanted) {
    if (known.has(id)) continue;
    throw invalid(`--without ${id}: the nodes have nothing of such a volume`);
  }
  const input = {
    inventories: all.map((inventory) => ({
      ...inventory,
      entries: inventory.entries.filter(({ volume }) => !unwanted.has(volume)),
    })),
    headers: await headersOf(nodes, nodeClock),
    createdAt: new Date(nodeClock.wall()).toISOString(),
  };
  const roots = await rootsOf(nodes, rebuildVolumes({ ...input, acceptLoss: true }), nodeClock);
  return rebuildVolumes({ ...input, roots, acceptLoss: options.acceptLoss === true });
}

function recordsIn(volumes: readonly RebuiltVolume[]): VolumeRecord[] {
  return volumes.flatMap((one) => (one.type === 'rebuilt' ? [one.record] : []));
}

/** For people. */
function nameOf({ name, volume }: Extract<RebuiltVolume, { type: 'refused' }>): string {
  return name === null ? volume : `${name} (${volume})`;
}

function exportOf(
  cluster: ClusterId,
  nodes: readonly FoundNode[],
  volumes: readonly VolumeRecord[],
): ClusterExport {
  const records: NodeRecord[] = nodes.map(nodeRecord);
  return {
    cluster: {
      schema: METADATA_SCHEMA,
      cluster,
      generation: 1,
      createdAt: new Date(nodeClock.wall()).toISOString(),
    },
    nodes: records,
    placement: [],
    volumes,
  };
}

function report(volumes: readonly RebuiltVolume[], options: RebuildOptions): void {
  const records = recordsIn(volumes);
  const notes = volumes.flatMap((one) => {
    if (one.type === 'refused') return one.reasons.map((reason) => `! ${nameOf(one)}: ${reason}`);
    if (one.type === 'purged') {
      const left = one.leftAlone.map((text) => `  ${one.volume}: ${text}`);
      return [`  ${one.volume}: was purged; not rebuilt`, ...left];
    }
    const { name } = one.record;
    const lost = one.losses.map((loss) => `! ${name}: ${loss}`);
    return [...lost, ...one.leftAlone.map((left) => `  ${name}: ${left}`)];
  });
  const verb = options.dryRun === true ? 'would be rebuilt' : 'found';
  const left = options.without.map(
    (id) => `  ${id}: left out; the store and the nodes keep what they have of it`,
  );
  const heading = `${records.length} volumes ${verb}:`;
  const text = [heading, volumeTable(records), ...notes, ...left].join('\n');
  printResult(options.json === true, volumes, text);
}

function refuseRefused(volumes: readonly RebuiltVolume[]): void {
  const refused = volumes.filter((volume) => volume.type === 'refused');
  if (refused.length === 0) return;
  const isLoss = refused.every(({ code }) => code === 'DATA_LOST');
  const names = refused.map(nameOf).join(', ');
  const message = `volumes ${names} cannot be rebuilt safely; nothing was changed`;
  const hint = isLoss
    ? 'Bring missing disks back, leave these volumes out meanwhile (--without ID), or give up ' +
      'what they had: --accept-loss.'
    : 'Name all nodes with --node. To have the other volumes meanwhile: --without ID.';
  throw new HoldfastError(isLoss ? 'DATA_LOST' : 'INCONSISTENT', message, { hint });
}
