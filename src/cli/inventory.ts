/**
 * What the storage nodes alone know: their disks, their segments and the segments' headers. Needs
 * addresses and the cluster's id and secret, and nothing that the metadata store holds: for
 * rebuilding it.
 */
import { decodeEntries, decodeSegmentBatch, FLAG_SEGMENT_HEADER } from '../block/wire/batch.js';
import { ANY_NODE } from '../block/wire/handshake.js';
import { type InventoryEntry, NODE_STATUS, type StatusBody } from '../block/wire/messages.js';
import type { NodeRequests, RequestTarget } from '../block/wire/requests.js';
import { decodeSegmentHeader, type SegmentHeader } from '../block/wire/segment-header.js';
import { HoldfastError } from '../core/errors.js';
import type { Incarnation, SegmentId } from '../core/ids.js';
import { INVENTORY_PAGE } from '../core/limits.js';
import { type Lsn, lsn, offset, type SegmentOffset } from '../core/units.js';
import type { Clock } from '../io/clock.js';
import { METADATA_SCHEMA, type NodeRecord, type Replica } from '../metadata/model.js';
import type { RebuildHeader, RebuildInventory } from '../metadata/rebuild-types.js';
import { SegmentReader } from '../replication/reader.js';
import { readBatches } from '../replication/reader-batches.js';
import { ask } from './session.js';

/**
 * A node that was asked, and one connection pool for it alone, since its id is not known before.
 */
export interface AskedNode {
  readonly address: string;
  readonly requests: NodeRequests;
}

export interface FoundNode extends AskedNode {
  readonly status: StatusBody;
  readonly inventories: readonly RebuildInventory[];
}

/** Asks one node for everything it has. Rejects with UNAVAILABLE etc. */
export async function inventoryOf(asked: AskedNode): Promise<FoundNode> {
  const { address, requests } = asked;
  const target = { node: ANY_NODE, address };
  const reply = await ask(requests, target, NODE_STATUS);
  const status = reply.body;
  if (status?.type !== 'status') {
    throw new HoldfastError('MALFORMED', `${address} did not answer with its status`);
  }
  const inventories: RebuildInventory[] = [];
  for (const { incarnation, state } of status.disks) {
    if (state === 'failed') {
      throw new HoldfastError('DISK_FAILED', `${address}: disk ${incarnation} has failed`);
    }
    const entries = await segmentsOn(requests, target, incarnation);
    inventories.push({ node: status.node, incarnation, entries });
  }
  return { ...asked, status, inventories };
}

/** All that one disk has. Rejects with UNAVAILABLE etc.: then nothing is known of it. */
export async function segmentsOn(
  requests: NodeRequests,
  target: RequestTarget,
  incarnation: Incarnation,
): Promise<InventoryEntry[]> {
  const entries: InventoryEntry[] = [];
  for (let after: SegmentId | null = null; ; ) {
    const request = { type: 'inventory', incarnation, after, limit: INVENTORY_PAGE } as const;
    const { body, status, incarnation: of } = await ask(requests, target, request);
    if (status !== 'OK' || body?.type !== 'inventory' || of !== incarnation) {
      const message = `${target.address}: its inventory was refused (${status})`;
      throw new HoldfastError('UNAVAILABLE', message);
    }
    entries.push(...body.entries);
    after = body.entries.at(-1)?.segment ?? null;
    if (!body.more || after === null) return entries;
  }
}

export function nodeRecord({ status, address }: FoundNode): NodeRecord {
  return {
    schema: METADATA_SCHEMA,
    node: status.node,
    address,
    zone: status.zone,
    disks: status.disks.map(({ incarnation, totalBytes }) => ({
      incarnation,
      capacityBytes: totalBytes,
    })),
    version: status.version,
  };
}

/** Sends each request to the one node that it is for. */
function joined(nodes: readonly FoundNode[]): NodeRequests {
  const byNode = new Map(nodes.map((found) => [found.status.node, found]));
  return {
    send: ({ node, address }, request, timeoutMs, done) => {
      const found = byNode.get(node) as FoundNode;
      found.requests.send({ node: ANY_NODE, address }, request, timeoutMs, done);
    },
    queuedBytes: () => 0,
    close: () => {},
  };
}

/** Reads from the nodes found, whatever a metadata store says. */
export function readerOf(nodes: readonly FoundNode[], clock: Clock): SegmentReader {
  const addresses = new Map(nodes.map(({ status, address }) => [status.node, address]));
  const directory = { address: (node: Replica['node']) => addresses.get(node) ?? null };
  return new SegmentReader({ clock, requests: joined(nodes), directory });
}

/**
 * Reads and verifies the header of every segment of which a copy has data, from whichever copy is
 * good; and what rebuild needs besides: the LSN at which segments end that no other continues, and
 * the chain crc where the next segment begins when all copies are longer.
 */
export async function headersOf(
  nodes: readonly FoundNode[],
  clock: Clock,
): Promise<Map<SegmentId, RebuildHeader>> {
  const reader = readerOf(nodes, clock);
  const copies = copiesOf(nodes);
  const headers = new Map<SegmentId, RebuildHeader>();
  for (const [segment, found] of copies) {
    const header = await readHeader(reader, segment, found);
    if (header !== null) headers.set(segment, header);
  }
  const continued = new Set(
    [...headers.values()].flatMap(({ previous }) => {
      if (previous === null) return [];
      // One that a takeover left behind names another end than the one that was sealed.
      const seal = sealOf(copies.get(previous.segment));
      return seal === undefined || seal.length === previous.end ? [previous.segment] : [];
    }),
  );
  for (const [segment, header] of headers) {
    const { previous } = header;
    if (previous !== null) {
      const crc = await crcBeyond(reader, previous, copies.get(previous.segment) ?? []);
      if (crc !== null) headers.set(segment, { ...header, previous: { ...previous, crc } });
    }
    if (continued.has(segment)) continue;
    const found = copies.get(segment) ?? [];
    const end = sealOf(found)?.length ?? Math.max(0, ...found.map(({ entry }) => entry.length));
    const read = await readTo(reader, segment, found, offset(end));
    if (read === null) continue;
    headers.set(segment, { ...(headers.get(segment) ?? header), endLsn: read.endLsn });
  }
  reader.close();
  return headers;
}

function sealOf(copies: readonly FoundCopy[] | undefined): InventoryEntry | undefined {
  return copies?.find(({ entry }) => entry.state === 'sealed')?.entry;
}

/** The chain crc at the end that the next segment names; null when a copy ends there anyway. */
async function crcBeyond(
  reader: SegmentReader,
  previous: NonNullable<RebuildHeader['previous']>,
  copies: readonly FoundCopy[],
): Promise<number | null> {
  const { segment, end } = previous;
  if (end === 0 || copies.some(({ entry }) => entry.length === end)) return null;
  return (await readTo(reader, segment, copies, end))?.crc ?? null;
}

interface FoundCopy {
  readonly replica: Replica;
  readonly entry: InventoryEntry;
}

function copiesOf(nodes: readonly FoundNode[]): Map<SegmentId, FoundCopy[]> {
  const copies = new Map<SegmentId, FoundCopy[]>();
  for (const { inventories } of nodes) {
    for (const { node, incarnation, entries } of inventories) {
      for (const entry of entries as readonly InventoryEntry[]) {
        if (entry.length === 0 || entry.state === 'deleted') continue;
        const list = copies.get(entry.segment) ?? [];
        list.push({ replica: { node, incarnation }, entry });
        copies.set(entry.segment, list);
      }
    }
  }
  return copies;
}

/** Null when no copy of it is good: rebuild then says what that means. */
function readHeader(
  reader: SegmentReader,
  segment: SegmentId,
  copies: readonly FoundCopy[],
): Promise<RebuildHeader | null> {
  const replicas = copies.map(({ replica }) => replica);
  return new Promise((resolve, reject) => {
    reader.readPages({ segment, replicas }, 0, 1, (error, page) => {
      if (error !== null) {
        if (error.code === 'DATA_LOST') resolve(null);
        else reject(error);
        return;
      }
      try {
        resolve(headerIn(page as Uint8Array));
      } catch (thrown) {
        if (thrown instanceof HoldfastError && thrown.code === 'MALFORMED') resolve(null);
        else reject(thrown);
      }
    });
  });
}

/** The header in a segment's first page; null: it begins with another batch. Throws MALFORMED. */
export function headerIn(page: Uint8Array): SegmentHeader | null {
  const header = decodeSegmentBatch(page);
  if ((header.flags & FLAG_SEGMENT_HEADER) === 0) return null;
  const [entry] = decodeEntries(header, page);
  return entry === undefined ? null : decodeSegmentHeader(entry.record);
}

/** LSN and chain crc at `end`, which must be a batch's; null when no copy can be read so far. */
function readTo(
  reader: SegmentReader,
  segment: SegmentId,
  copies: readonly FoundCopy[],
  end: SegmentOffset,
): Promise<{ readonly endLsn: Lsn; readonly crc: number } | null> {
  const able = copies.filter(({ entry }) => entry.length >= end);
  const [first] = able;
  if (first === undefined) return Promise.resolve(null);
  const { volume, createEpoch } = first.entry;
  const replicas = able.map(({ replica }) => replica);
  const place = { segment, replicas, volume, createEpoch };
  const range = { from: offset(0), end, prevCrc: 0, endCrc: null };
  let last = { endLsn: lsn(0), crc: 0 };
  return new Promise((resolve) => {
    readBatches(
      reader,
      { ...place, ...range },
      ({ header }) => {
        last = { endLsn: lsn(header.firstLsn + header.count), crc: header.headerCrc };
      },
      (error) => resolve(error === null ? last : null),
    );
  });
}
