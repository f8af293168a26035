/**
 * Records as JSON text in the metadata store, and back. Strict on purpose: an unknown field, a
 * value out of range or a broken invariant is an error, because whoever swaps a record writes all
 * of it and would drop or spread what it did not understand. A newer schema is refused with
 * VERSION.
 */
import { z } from 'zod';
import { assert } from '../core/assert.js';
import { HoldfastError, malformed } from '../core/errors.js';
import {
  type ClusterId,
  type Incarnation,
  isId,
  type NodeId,
  type OwnerId,
  type SegmentId,
  type VolumeId,
} from '../core/ids.js';
import {
  ADDRESS_MAX_BYTES,
  COMMIT_INTERVAL_MAX_MS,
  COMMIT_INTERVAL_MIN_MS,
  MACHINE_MAX_BYTES,
  PLACEMENT_GROUPS,
  REPLICA_COUNTS,
  REPLICAS_MAX,
  VOLUME_MAX_BYTES,
  VOLUME_MIN_BYTES,
  ZONE_MAX_BYTES,
} from '../core/limits.js';
import { type Epoch, type Lsn, PAGE_BYTES, type SegmentOffset } from '../core/units.js';
import { ATTACHMENTS_MAX, MOUNT_POINT_MAX_BYTES } from './limits.js';
import {
  type AttachmentRecord,
  BLOCK_FILESYSTEMS,
  type ClusterRecord,
  type MachineRecord,
  METADATA_SCHEMA,
  type NodeRecord,
  type PlacementRecord,
  type PresenceRecord,
  VOLUME_SCHEMA,
  type VolumeHead,
  type VolumeRecord,
} from './model.js';
import { isVolumeName, LABEL_KEY_MAX_BYTES, LABEL_VALUE_MAX_BYTES, LABELS_MAX } from './names.js';
import { brokenInvariant } from './record-invariant.js';

export const id = <T extends string>() =>
  z.custom<T>((value) => typeof value === 'string' && isId(value), {
    error: 'must be 32 hex digits',
  });
const count = z.int().min(0);
const branded = <T extends number>(schema: z.ZodType<number>) => schema as unknown as z.ZodType<T>;
const text = (maxBytes: number) =>
  z.string().refine((value) => Buffer.byteLength(value, 'utf8') <= maxBytes, 'is too long');
const schemaNumber = z.literal(METADATA_SCHEMA);
const replicaCount = z
  .int()
  .refine((value) => (REPLICA_COUNTS as readonly number[]).includes(value), 'is not supported');
const address = text(ADDRESS_MAX_BYTES);
const time = z.string().regex(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);

const replica = z.strictObject({ node: id<NodeId>(), incarnation: id<Incarnation>() });
const planned = z.strictObject({
  segment: id<SegmentId>(),
  group: count.max(PLACEMENT_GROUPS - 1),
  createEpoch: branded<Epoch>(z.int().min(1)),
  replicas: z.array(replica).min(1).max(REPLICAS_MAX),
});
const pageOffset = branded<SegmentOffset>(count.multipleOf(PAGE_BYTES));
const sealed = planned.extend({
  end: pageOffset,
  endLsn: branded<Lsn>(count),
  crc: count.max(0xffff_ffff),
});
const owner = z.strictObject({ id: id<OwnerId>(), address, released: z.boolean() });
const root = z.strictObject({
  segment: id<SegmentId>(),
  offset: pageOffset,
  lsn: branded<Lsn>(count),
});

const trash = z.strictObject({
  removedAt: time,
  keptUntil: time.nullable(),
  purging: z.boolean(),
});

const settings = z.strictObject({
  commitIntervalMs: z.exactOptional(
    z.int().min(COMMIT_INTERVAL_MIN_MS).max(COMMIT_INTERVAL_MAX_MS),
  ),
  fsType: z.exactOptional(z.enum(BLOCK_FILESYSTEMS)),
  nextAckQuorum: z.exactOptional(z.int().min(1).max(REPLICAS_MAX)),
});

const facts = z.strictObject({
  volume: id<VolumeId>(),
  name: z.string().refine(isVolumeName, 'is not a volume name'),
  kind: z.enum(['filesystem', 'block']),
  sizeBytes: z.int().min(VOLUME_MIN_BYTES).max(VOLUME_MAX_BYTES),
  replicas: replicaCount,
  ackQuorum: z.int().min(1).max(REPLICAS_MAX),
  labels: z
    .record(text(LABEL_KEY_MAX_BYTES).min(1), text(LABEL_VALUE_MAX_BYTES))
    .refine((labels) => Object.keys(labels).length <= LABELS_MAX, 'are too many'),
  createdAt: time,
  epoch: branded<Epoch>(count),
  owner: owner.nullable(),
  planned: z.array(planned),
  open: z.array(planned),
  root: root.nullable(),
  pendingDelete: z.array(planned),
  settings: z.exactOptional(settings),
  trash: z.exactOptional(trash),
});
const volume = facts.extend({ schema: schemaNumber, sealed: z.array(sealed) });
const head = facts.extend({
  schema: z.literal(VOLUME_SCHEMA),
  log: z.strictObject({ segments: count, bytes: count, newestChunk: count.nullable() }),
});

const node = z.strictObject({
  schema: schemaNumber,
  node: id<NodeId>(),
  address: address.min(1),
  zone: text(ZONE_MAX_BYTES),
  disks: z
    .array(z.strictObject({ incarnation: id<Incarnation>(), capacityBytes: count }))
    .max(1024)
    .refine(
      (disks) => new Set(disks.map((disk) => disk.incarnation)).size === disks.length,
      'name one incarnation twice',
    ),
  version: text(64),
});

const presence = z.strictObject({
  schema: schemaNumber,
  volume: id<VolumeId>(),
  epoch: branded<Epoch>(z.int().min(1)),
  owner: id<OwnerId>(),
  host: text(ADDRESS_MAX_BYTES),
  pid: z.int().min(1),
  mountPoint: text(MOUNT_POINT_MAX_BYTES),
  since: time,
});

const machineName = text(MACHINE_MAX_BYTES).min(1);

const attachments = z.strictObject({
  schema: schemaNumber,
  volume: id<VolumeId>(),
  attachments: z
    .array(z.strictObject({ machine: machineName, readOnly: z.boolean(), since: time }))
    .min(1)
    .max(ATTACHMENTS_MAX),
});

const machine = z.strictObject({
  schema: schemaNumber,
  machine: machineName,
  zone: text(ZONE_MAX_BYTES).nullable(),
  maxVolumes: z.exactOptional(z.number().int().min(1)),
  registeredAt: time,
});

const placement = z.strictObject({
  schema: schemaNumber,
  replicas: replicaCount,
  groups: z.array(z.array(replica).max(REPLICAS_MAX)).length(PLACEMENT_GROUPS),
});

const cluster = z.strictObject({
  schema: schemaNumber,
  cluster: id<ClusterId>(),
  generation: z.int().min(1),
  createdAt: time,
});

/** All of a volume as one object: for exports. */
export function encodeVolume(record: VolumeRecord): string {
  return encode(volume, record, `volume record ${record.volume}`);
}

/** Throws MALFORMED, VERSION, or INCONSISTENT when the record contradicts itself. */
export function decodeVolume(json: string): VolumeRecord {
  const record: VolumeRecord = decode(volume, json, 'volume record');
  const broken = brokenInvariant(record);
  if (broken !== null) {
    throw new HoldfastError('INCONSISTENT', `volume record ${record.volume}: ${broken}`);
  }
  return record;
}

export function encodeHead(record: VolumeHead): string {
  return encode(head, record, `volume record ${record.volume}`);
}

/** What stands under a volume's key: a head, or all of it where schema 1 wrote last. */
export type StoredRecord =
  | { readonly type: 'head'; readonly head: VolumeHead }
  | { readonly type: 'whole'; readonly record: VolumeRecord };

/** Throws as decodeVolume does; of a head only what it says by itself is checked. */
export function decodeStored(json: string): StoredRecord {
  const value = parseJson(json, 'volume record', VOLUME_SCHEMA);
  if ((value as { schema?: unknown } | null)?.schema !== VOLUME_SCHEMA) {
    return { type: 'whole', record: decodeVolume(json) };
  }
  return { type: 'head', head: checked(head, value, 'volume record') };
}

export function encodeNode(record: NodeRecord): string {
  return encode(node, record, `node record ${record.node}`);
}

export function decodeNode(json: string): NodeRecord {
  return decode(node, json, 'node record');
}

export function encodePresence(record: PresenceRecord): string {
  return encode(presence, record, `presence of ${record.volume}`);
}

export function decodePresence(json: string): PresenceRecord {
  return decode(presence, json, 'presence record');
}

export function encodeAttachments(record: AttachmentRecord): string {
  return encode(attachments, record, `attachments of ${record.volume}`);
}

export function decodeAttachments(json: string): AttachmentRecord {
  return decode(attachments, json, 'attachment record');
}

export function encodeMachine(record: MachineRecord): string {
  return encode(machine, record, `machine record ${record.machine}`);
}

export function decodeMachine(json: string): MachineRecord {
  return decode(machine, json, 'machine record');
}

export function encodePlacement(record: PlacementRecord): string {
  const broken = brokenPlacement(record);
  assert(broken === null, `placement record: ${broken}`);
  return encode(placement, record, `placement record of ${record.replicas}`);
}

export function decodePlacement(json: string): PlacementRecord {
  const record: PlacementRecord = decode(placement, json, 'placement record');
  const broken = brokenPlacement(record);
  if (broken !== null) throw new HoldfastError('INCONSISTENT', `placement record: ${broken}`);
  return record;
}

export function encodeCluster(record: ClusterRecord): string {
  return encode(cluster, record, 'cluster record');
}

export function decodeCluster(json: string): ClusterRecord {
  return decode(cluster, json, 'cluster record');
}

function brokenPlacement(record: PlacementRecord): string | null {
  for (const [index, group] of record.groups.entries()) {
    if (group.length > record.replicas) return `group ${index} has ${group.length} disks`;
    const nodes = new Set(group.map((one) => one.node));
    if (nodes.size !== group.length) return `group ${index} has two disks on one node`;
  }
  return null;
}

function encode<T>(schema: z.ZodType<T>, record: unknown, what: string): string {
  const parsed = schema.safeParse(record);
  assert(parsed.success, `${what}: ${parsed.success ? '' : firstIssue(parsed.error)}`);
  if (schema === (volume as unknown)) {
    const broken = brokenInvariant(record as VolumeRecord);
    assert(broken === null, `${what}: ${broken}`);
  }
  return JSON.stringify(record);
}

function decode<T>(schema: z.ZodType<T>, json: string, what: string): T {
  return checked(schema, parseJson(json, what, METADATA_SCHEMA), what);
}

/** Throws MALFORMED, or VERSION for a newer schema than `newest`. */
export function parseJson(json: string, what: string, newest: number): unknown {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw malformed(`${what}: not JSON`);
  }
  const found = (value as { schema?: unknown } | null)?.schema;
  if (typeof found === 'number' && found > newest) {
    throw new HoldfastError(
      'VERSION',
      `${what}: schema ${found} is newer than ${newest}, the newest known here`,
      { hint: 'Upgrade this program; nothing was changed.' },
    );
  }
  return value;
}

function checked<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw malformed(`${what}: ${firstIssue(parsed.error)}`);
  return parsed.data;
}

function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  if (issue === undefined) return 'invalid';
  const path = issue.path.map(String).join('.');
  return path === '' ? issue.message : `${path}: ${issue.message}`;
}
