/**
 * The whole cluster's metadata as one JSON file, and back. An export shows one revision; an import
 * raises the cluster's generation and sets each volume's epoch above the largest that any node
 * knows, so that nobody who held a volume before can go on writing to it beside a new owner. Lists
 * of replicas follow what the nodes have. Owners and live keys are not imported. Refuses rather
 * than guesses.
 */
import { assert } from '../core/assert.js';
import { crc32 } from '../core/checksum.js';
import { HoldfastError, invalid, malformed } from '../core/errors.js';
import { parseId, type VolumeId } from '../core/ids.js';
import { type Epoch, epoch } from '../core/units.js';
import {
  decodeCluster,
  decodeNode,
  decodePlacement,
  decodeVolume,
  encodeCluster,
  encodeNode,
  encodePlacement,
} from './encoding.js';
import {
  CLUSTER_KEY,
  chunkPrefix,
  IMPORT_KEY,
  keyTail,
  LEADERS,
  LIVE,
  MACHINES,
  NAMES,
  NODES,
  nameKey,
  nodeKey,
  OWNERS,
  PLACEMENT,
  placementKey,
  ROOT,
  SCRUBS,
  SEALED,
  trashKey,
  VOLUMES,
} from './keys.js';
import { TRANSACTION_MAX_BYTES } from './limits.js';
import {
  type ClusterRecord,
  METADATA_SCHEMA,
  type NodeRecord,
  type PlacementRecord,
  type VolumeRecord,
} from './model.js';
import { relocated } from './relocation.js';
import { REPORT_KEY } from './repair-report.js';
import { type SeenHead, seenGeneration, seenHeads } from './seen.js';
import { type NodeKnowledge, type StaleVolume, staleVolumes } from './staleness.js';
import type { Compare, KeyValue, MetadataStore, Operation } from './store.js';
import { assembled, changeOf, chunkOf } from './stored-volume.js';
import { FOREVER } from './trash.js';
import { assertVolumeRecord } from './volume-record.js';
import { absent } from './volumes.js';

/** Written into the file; a newer one is refused. */
const FORMAT = 1;
const MAGIC = 'holdfast-metadata';

export interface ClusterExport {
  readonly cluster: ClusterRecord;
  readonly nodes: readonly NodeRecord[];
  readonly placement: readonly PlacementRecord[];
  readonly volumes: readonly VolumeRecord[];
}

/** Reads everything at one revision. NOT_FOUND when the store holds no cluster. */
export async function exportCluster(store: MetadataStore): Promise<string> {
  const { entries, revision } = await store.range(ROOT);
  const cluster = entries.find((entry) => entry.key === CLUSTER_KEY);
  if (cluster === undefined) {
    throw new HoldfastError('NOT_FOUND', `${store.name} holds no Holdfast cluster`);
  }
  const under = (prefix: string): KeyValue[] =>
    entries.filter((entry) => entry.key.startsWith(prefix));
  const chunks = under(SEALED);
  const content: ClusterExport = {
    cluster: decodeCluster(cluster.value),
    nodes: under(NODES).map((entry) => decodeNode(entry.value)),
    placement: under(PLACEMENT).map((entry) => decodePlacement(entry.value)),
    volumes: under(VOLUMES).map((entry) => {
      const volume = parseId<VolumeId>(keyTail(entry.key, VOLUMES), 'volume id in a key');
      const prefix = chunkPrefix(volume);
      const mine = chunks.filter(({ key }) => key.startsWith(prefix));
      const found = mine.map((chunk) => chunkOf(volume, chunk));
      return assembled(volume, entry, found).record;
    }),
  };
  const names = new Map(under(NAMES).map((entry) => [entry.key.slice(NAMES.length), entry.value]));
  checkNames(content.volumes, names);
  return encodeExport(content, revision);
}

function checkNames(volumes: readonly VolumeRecord[], names: ReadonlyMap<string, string>): void {
  for (const { name, volume, trash } of volumes) {
    if (trash !== undefined || names.get(name) === volume) continue;
    throw new HoldfastError('INCONSISTENT', `the name "${name}" does not point at ${volume}`);
  }
}

/** One line of head, one of content; the checksum covers the content's bytes. */
export function encodeExport(content: ClusterExport, revision: number): string {
  const body = JSON.stringify(content);
  const head = { magic: MAGIC, format: FORMAT, revision, crc: crc32(Buffer.from(body)) };
  return `${JSON.stringify(head)}\n${body}\n`;
}

/** Throws MALFORMED, VERSION or INCONSISTENT. */
export function decodeExport(text: string): ClusterExport {
  const [first = '', body = '', end, ...rest] = text.split('\n');
  const head = parse(first);
  if (head.magic !== MAGIC) throw malformed('this is not an export of Holdfast metadata');
  if (typeof head.format !== 'number' || head.format > FORMAT) {
    throw new HoldfastError('VERSION', `export format ${String(head.format)} is not known here`);
  }
  if (end !== '' || rest.length > 0 || head.crc !== crc32(Buffer.from(body))) {
    throw malformed('the export is damaged or incomplete: its checksum does not match');
  }
  const content = parse(body);
  const each = <T>(what: string, list: unknown, decode: (json: string) => T): T[] => {
    if (!Array.isArray(list)) throw malformed(`export: ${what} is not a list`);
    return list.map((one) => decode(JSON.stringify(one)));
  };
  return {
    cluster: decodeCluster(JSON.stringify(content.cluster ?? null)),
    nodes: each('nodes', content.nodes, decodeNode),
    placement: each('placement', content.placement, decodePlacement),
    volumes: each('volumes', content.volumes, decodeVolume),
  };
}

function parse(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // Reported below.
  }
  throw malformed('this is not an export of Holdfast metadata');
}

export interface ImportOptions extends NodeKnowledge {
  /** Replaces what the store holds. Without it a store that holds anything is refused. */
  readonly replace?: boolean;
  /** Imports also what is older than what nodes have, and without volumes that are younger. */
  readonly acceptLoss?: boolean;
  /**
   * The heads that the store had before the nodes were asked. CONFLICT when they are others by now:
   * what nodes said then may not be so any more.
   */
  readonly headsBefore?: readonly KeyValue[];
}

export interface Imported {
  readonly cluster: ClusterRecord;
  /** What the import is without; empty unless acceptLoss was given. */
  readonly losses: readonly StaleVolume[];
}

/**
 * Writes an export (or what rebuild made) into a store. Not one transaction, as it may be larger
 * than one: the cluster record, without which nothing works on a store, is taken away first and
 * written last. Meanwhile IMPORT_KEY keeps the generation. If it fails on the way, run it again
 * with `replace`.
 */
export async function importCluster(
  store: MetadataStore,
  content: ClusterExport,
  options: ImportOptions,
): Promise<Imported> {
  checkUnique(content.volumes);
  const before = await store.range(ROOT);
  if (options.replace !== true) refuseUsed(store, before.entries);
  const heads = seenHeads(before.entries);
  const losses = staleVolumes(content.volumes, options, heads);
  if (options.acceptLoss !== true) refuseStale(losses);
  const largest = largestEpochs(content.volumes, options, heads);
  const generation = nextGeneration(before.entries, content.cluster);
  const volumes = relocated(content.volumes, options.inventories ?? []);
  const wanted = operationsOf({ ...content, volumes }, largest);
  const keys = new Set(wanted.map((operation) => operation.key));
  const own = [CLUSTER_KEY, IMPORT_KEY];
  const removed: Operation[] = before.entries
    .filter(({ key }) => !keys.has(key) && !own.includes(key))
    .filter(({ key }) => ![LIVE, MACHINES, SCRUBS].some((prefix) => key.startsWith(prefix)))
    .map((entry) => ({ type: 'delete', key: entry.key }));
  // Heads first: from then on no owner of before swaps anything, nor makes a chunk that stays.
  const isHead = ({ key }: Operation): boolean => key.startsWith(VOLUMES);
  const all = [...removed, ...wanted];
  const changed = all.filter(isHead);
  const judged = options.headsBefore ?? before.entries;
  // Before anything is changed: of many heads those that were written could not be put back.
  if (haveMoved(changed, judged, before.entries)) throw overtaken(store, true);
  const guard = await beginImport(store, before.entries, generation);
  await writeHeads(store, guard, changed, judged, before.entries);
  for (const batch of batches(all.filter((operation) => !isHead(operation)))) {
    const { committed } = await store.transact(guard, batch);
    if (!committed) throw disturbed(store);
  }
  const cluster: ClusterRecord = { ...content.cluster, generation };
  const result = await store.transact(guard, [
    { type: 'put', key: CLUSTER_KEY, value: encodeCluster(cluster) },
    { type: 'delete', key: IMPORT_KEY },
  ]);
  if (result.committed) return { cluster, losses };
  throw disturbed(store);
}

/** Throws INVALID when the store holds more than what is put there by whatever runs. */
export function refuseUsed({ name }: MetadataStore, entries: readonly KeyValue[]): void {
  if (entries.every(({ key }) => isOfNodes(key))) return;
  throw invalid(
    `${name} holds metadata already; nothing was changed`,
    'Use an empty store, or replace what it holds with --force.',
  );
}

/** Above all that the store has had, also when an import of it was interrupted. */
function nextGeneration(entries: readonly KeyValue[], imported: ClusterRecord): number {
  const at = (key: string): string | undefined => entries.find((one) => one.key === key)?.value;
  const had = seenGeneration(at(CLUSTER_KEY));
  return Math.max(had + 1, imported.generation + 1, seenGeneration(at(IMPORT_KEY)));
}

/** Takes the cluster record away, in the same step as it says what is under way. */
async function beginImport(
  store: MetadataStore,
  entries: readonly KeyValue[],
  generation: number,
): Promise<readonly Compare[]> {
  const value = JSON.stringify({ schema: METADATA_SCHEMA, generation });
  const { committed, revision } = await store.transact(
    unchanged(entries, [CLUSTER_KEY, IMPORT_KEY]),
    [
      { type: 'put', key: IMPORT_KEY, value },
      { type: 'delete', key: CLUSTER_KEY },
    ],
  );
  if (!committed) throw disturbed(store);
  return [absent(CLUSTER_KEY), { key: IMPORT_KEY, modRevision: revision }];
}

/** That what was read under these keys still stands there. */
function unchanged(entries: readonly KeyValue[], keys: readonly string[]): Compare[] {
  const revisions = new Map(entries.map(({ key, modRevision }) => [key, modRevision]));
  return keys.map((key) => {
    const modRevision = revisions.get(key);
    return modRevision === undefined ? absent(key) : { key, modRevision };
  });
}

/** Whether other heads stand there than those that were judged. */
function haveMoved(
  heads: readonly Operation[],
  judged: readonly KeyValue[],
  now: readonly KeyValue[],
): boolean {
  const keys = heads.map(({ key }) => key);
  const former = unchanged(judged, keys);
  return unchanged(now, keys).some(
    ({ modRevision }, at) => modRevision !== former[at]?.modRevision,
  );
}

/**
 * Only over the heads that were judged. An owner uses no segment but those that its head lists, so
 * one that has gone on since, into a segment that the import does not know of, is seen here.
 */
async function writeHeads(
  store: MetadataStore,
  guard: readonly Compare[],
  heads: readonly Operation[],
  judged: readonly KeyValue[],
  before: readonly KeyValue[],
): Promise<void> {
  let written = 0;
  for (const batch of batches(heads)) {
    const keys = batch.map(({ key }) => key);
    const compare = [...guard, ...unchanged(judged, keys)];
    const { committed } = await store.transact(compare, batch);
    if (!committed) {
      const isUndone = written === 0 && (await undoImport(store, guard, before));
      throw overtaken(store, isUndone);
    }
    written += batch.length;
  }
}

/** Puts back what beginImport changed; false when it cannot be. */
async function undoImport(
  store: MetadataStore,
  guard: readonly Compare[],
  before: readonly KeyValue[],
): Promise<boolean> {
  const back = [CLUSTER_KEY, IMPORT_KEY].map((key): Operation => {
    const entry = before.find((one) => one.key === key);
    return entry === undefined ? { type: 'delete', key } : { type: 'put', key, value: entry.value };
  });
  return (await store.transact(guard, back)).committed;
}

function overtaken({ name }: MetadataStore, isUndone: boolean): HoldfastError {
  const message = `${name}: a volume was changed while it was to be replaced`;
  return new HoldfastError('CONFLICT', isUndone ? `${message}; nothing was changed` : message, {
    retryable: true,
    hint: 'Unmount the volumes, and run it again with --force.',
  });
}

function disturbed({ name }: MetadataStore): HoldfastError {
  return new HoldfastError('CONFLICT', `${name}: somebody else writes to it during the import`);
}

/** Volumes that one message names. */
const NAMED = 20;

function refuseStale(losses: readonly StaleVolume[]): void {
  if (losses.length === 0) return;
  const named = losses.slice(0, NAMED).map(({ reason }) => reason);
  const more = losses.length > NAMED ? [`and so on: ${losses.length} volumes in all`] : [];
  const message = `${[...named, ...more].join('; ')}; nothing was changed`;
  throw new HoldfastError('DATA_LOST', message, {
    hint:
      'Rebuild the metadata from the nodes instead ("holdfast metadata rebuild"), which keeps ' +
      'what is newer, or accept its loss (--accept-loss).',
  });
}

/**
 * Nodes, mounts and drivers that run write these by themselves, also into a store that lost
 * everything.
 */
function isOfNodes(key: string): boolean {
  const own = [NODES, LIVE, OWNERS, PLACEMENT, MACHINES, LEADERS, SCRUBS, REPORT_KEY];
  return own.some((prefix) => key.startsWith(prefix));
}

/**
 * What nodes know, and what the store that is replaced had already promised. Who was given an epoch
 * that cannot be read any more has told the nodes of it: INCONSISTENT when none of them was asked.
 */
function largestEpochs(
  volumes: readonly VolumeRecord[],
  { maxEpochs, inventories = [] }: NodeKnowledge,
  heads: readonly SeenHead[],
): Map<VolumeId, Epoch> {
  const isAsked = maxEpochs.size > 0 || inventories.length > 0;
  const wanted = new Set(volumes.map(({ volume }) => volume));
  const largest = new Map(maxEpochs);
  for (const { volume, epoch: at } of heads) {
    if (at === null && !isAsked && wanted.has(volume)) {
      const message = `the epoch of volume ${volume} cannot be read in the store that is replaced`;
      const hint = 'Name a node that knows it: --node.';
      throw new HoldfastError('INCONSISTENT', `${message}; nothing was changed`, { hint });
    }
    if (at !== null && at > (largest.get(volume) ?? 0)) largest.set(volume, at);
  }
  return largest;
}

function operationsOf(content: ClusterExport, largest: ReadonlyMap<VolumeId, Epoch>): Operation[] {
  const put = (key: string, value: string): Operation => ({ type: 'put', key, value });
  return [
    ...content.nodes.map((node) => put(nodeKey(node.node), encodeNode(node))),
    ...content.placement.map((one) => put(placementKey(one.replicas), encodePlacement(one))),
    ...content.volumes.flatMap((volume) => {
      const raised = raiseEpoch(volume, largest.get(volume.volume) ?? epoch(0));
      const { operations } = changeOf(null, keptInTrash(raised));
      // What is in the trash has given its name up.
      return volume.trash === undefined
        ? [...operations, put(nameKey(volume.name), volume.volume)]
        : [...operations, put(trashKey(volume.volume), FOREVER)];
    }),
  ];
}

/**
 * What was in the trash when it was exported may have been restored since, which nobody knows any
 * more: nothing of it expires, so that somebody says first which it is.
 */
function keptInTrash(record: VolumeRecord): VolumeRecord {
  const { trash } = record;
  return trash === undefined ? record : { ...record, trash: { ...trash, keptUntil: null } };
}

/** The record as nobody's, at an epoch above `largest` and above its own. */
export function raiseEpoch(record: VolumeRecord, largest: Epoch): VolumeRecord {
  const raised: VolumeRecord = {
    ...record,
    epoch: epoch(Math.max(record.epoch, largest) + 1),
    owner: null,
  };
  assert(raised.epoch > record.epoch && raised.epoch > largest, 'the epoch is above all known');
  assertVolumeRecord(raised);
  return raised;
}

function checkUnique(volumes: readonly VolumeRecord[]): void {
  const ids = new Set(volumes.map((volume) => volume.volume));
  const named = volumes.filter(({ trash }) => trash === undefined);
  const names = new Set(named.map(({ name }) => name));
  if (ids.size === volumes.length && names.size === named.length) return;
  throw new HoldfastError('INCONSISTENT', 'two volumes of the import have one id or one name');
}

const BATCH_OPERATIONS = 50;

function* batches(operations: readonly Operation[]): Generator<Operation[]> {
  let batch: Operation[] = [];
  let bytes = 0;
  for (const operation of operations) {
    const value = operation.type === 'put' ? operation.value : '';
    const size = operation.key.length + Buffer.byteLength(value, 'utf8');
    const full = batch.length === BATCH_OPERATIONS || bytes + size > TRANSACTION_MAX_BYTES;
    if (full && batch.length > 0) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(operation);
    bytes += size;
  }
  if (batch.length > 0) yield batch;
}
