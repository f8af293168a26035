/**
 * What an administrator wants of a node: that it is drained, that its absence is waited for
 * (maintenance), or that it is no part of the cluster any more. Kept beside the node's own record,
 * which the node itself writes.
 *
 * A maintenance key is bound to a lease of its length, so the store ends it: no clock is read.
 * A node that was removed never registers again under its id: what it holds does not count.
 */
import { z } from 'zod';
import { HoldfastError, malformed } from '../core/errors.js';
import { isId, type NodeId } from '../core/ids.js';
import type { Clock } from '../io/clock.js';
import { parseJson } from './encoding.js';
import { liveKey, nodeKey, ROOT, scrubKey } from './keys.js';
import { METADATA_SCHEMA } from './model.js';
import type { Compare, KeyValue, MetadataStore, Operation } from './store.js';
import { absent } from './volumes.js';

export const NODE_STATES = `${ROOT}node-states/`;

const KINDS = ['drain', 'maintenance', 'removed'] as const;
type Kind = (typeof KINDS)[number];

/** Only what is set is there; times are for people, as ISO 8601. */
export interface NodeWish {
  drain?: { readonly since: string };
  maintenance?: { readonly until: string };
  removed?: { readonly since: string };
}

export type NodeWishes = ReadonlyMap<NodeId, NodeWish>;

const value = z.strictObject({ schema: z.literal(METADATA_SCHEMA), time: z.string().max(64) });

function stateKey(node: NodeId, kind: Kind): string {
  return `${NODE_STATES}${node}/${kind}`;
}

/** What a node compares so that it does not register after it was removed. */
export function notRemoved(node: NodeId): Compare {
  return absent(stateKey(node, 'removed'));
}

export async function isRemoved(store: MetadataStore, node: NodeId): Promise<boolean> {
  return (await store.get(stateKey(node, 'removed'))).entry !== null;
}

/** Throws MALFORMED or VERSION when one cannot be read: then nothing may be concluded. */
export async function readNodeWishes(store: MetadataStore): Promise<NodeWishes> {
  const { entries } = await store.range(NODE_STATES);
  return nodeWishes(entries);
}

export function nodeWishes(entries: readonly KeyValue[]): NodeWishes {
  const wishes = new Map<NodeId, NodeWish>();
  for (const entry of entries) {
    const [node = '', kind] = entry.key.slice(NODE_STATES.length).split('/');
    if (!isId(node)) throw malformed(`"${entry.key}" names no node`);
    const wish = wishes.get(node as NodeId) ?? {};
    wishes.set(node as NodeId, wish);
    const parsed = value.safeParse(parseJson(entry.value, `state of node ${node}`, 1));
    if (!parsed.success) throw malformed(`state of node ${node}: not what it should be`);
    const { time } = parsed.data;
    if (kind === 'drain') wish.drain = { since: time };
    else if (kind === 'maintenance') wish.maintenance = { until: time };
    else if (kind === 'removed') wish.removed = { since: time };
  }
  return wishes;
}

function encoded(wallMs: number): string {
  return JSON.stringify({ schema: METADATA_SCHEMA, time: new Date(wallMs).toISOString() });
}

/** From now on the node's copies are made elsewhere, and nothing new is placed on it. */
export async function startDrain(store: MetadataStore, clock: Clock, node: NodeId): Promise<void> {
  await change(store, node, drainChange(node, clock.wall()));
}

/** For so long nothing is repaired because the node is away. Replaces an earlier one. */
export async function startMaintenance(
  store: MetadataStore,
  clock: Clock,
  node: NodeId,
  lastsMs: number,
): Promise<void> {
  const { id } = await store.grantLease(Math.ceil(lastsMs / 1000));
  const key = stateKey(node, 'maintenance');
  const value = encoded(clock.wall() + lastsMs);
  await change(store, node, { type: 'put', key, value, lease: id });
}

async function change(store: MetadataStore, node: NodeId, operation: Operation): Promise<void> {
  const { committed } = await store.transact([notRemoved(node)], [operation]);
  if (committed) return;
  throw new HoldfastError('CONFLICT', `node ${node} was removed from the cluster`);
}

/** The node takes part again: neither drained nor in maintenance. */
export async function clearNodeWishes(store: MetadataStore, node: NodeId): Promise<void> {
  await store.transact(
    [],
    [
      { type: 'delete', key: stateKey(node, 'drain') },
      { type: 'delete', key: stateKey(node, 'maintenance') },
    ],
  );
}

/**
 * Takes a node out of the cluster for good: what is on its disks does not count any more, and it
 * does not register again. The caller has made sure that nothing is lost by it.
 */
export async function removeNode(store: MetadataStore, clock: Clock, node: NodeId): Promise<void> {
  await store.transact([], removal(node, clock.wall()));
}

/** What removes a node, at once. */
export function removal(node: NodeId, wallMs: number): Operation[] {
  return [
    { type: 'put', key: stateKey(node, 'removed'), value: encoded(wallMs) },
    { type: 'delete', key: stateKey(node, 'drain') },
    { type: 'delete', key: stateKey(node, 'maintenance') },
    { type: 'delete', key: nodeKey(node) },
    { type: 'delete', key: liveKey(node) },
    { type: 'delete', key: scrubKey(node) },
  ];
}

/** What begins, or ends, the drain of a node. */
export function drainChange(node: NodeId, wallMs: number | null): Operation {
  const key = stateKey(node, 'drain');
  return wallMs === null ? { type: 'delete', key } : { type: 'put', key, value: encoded(wallMs) };
}
