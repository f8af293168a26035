/**
 * The cluster's own record: its id, made once, and its generation, raised whenever the metadata was
 * put back from somewhere else (import, rebuild, restore).
 */
import { HoldfastError } from '../core/errors.js';
import { type ClusterId, idFromBytes } from '../core/ids.js';
import type { Clock } from '../io/clock.js';
import type { Random } from '../io/random.js';
import { decodeCluster, encodeCluster } from './encoding.js';
import { CLUSTER_KEY, IMPORT_KEY } from './keys.js';
import { type ClusterRecord, METADATA_SCHEMA } from './model.js';
import type { MetadataStore } from './store.js';
import { absent } from './volumes.js';

/**
 * NOT_FOUND when the store was never initialised; CONFLICT while an import is not done; VERSION
 * when a newer program did.
 */
export async function readCluster(store: MetadataStore): Promise<ClusterRecord> {
  const { entry } = await store.get(CLUSTER_KEY);
  if (entry !== null) return decodeCluster(entry.value);
  await refuseHalfImported(store);
  throw new HoldfastError('NOT_FOUND', `${store.name} holds no Holdfast cluster`, {
    hint:
      'Check --metadata. A new cluster: "holdfast cluster init"; one whose metadata was lost: ' +
      '"holdfast metadata import" or "rebuild".',
  });
}

async function refuseHalfImported(store: MetadataStore): Promise<void> {
  const { entry } = await store.get(IMPORT_KEY);
  if (entry === null) return;
  throw new HoldfastError('CONFLICT', `an import into ${store.name} was begun and is not done`, {
    hint:
      'If it does not run any more, run it again: "holdfast metadata import --force", or ' +
      '"rebuild --force".',
  });
}

/** Makes the cluster unless it exists; both ways it returns what is stored. */
export async function initCluster(
  store: MetadataStore,
  clock: Clock,
  random: Random,
): Promise<ClusterRecord> {
  const { entry } = await store.get(CLUSTER_KEY);
  if (entry !== null) return decodeCluster(entry.value);
  const record: ClusterRecord = {
    schema: METADATA_SCHEMA,
    cluster: idFromBytes<ClusterId>(random.bytes(16)),
    generation: 1,
    createdAt: new Date(clock.wall()).toISOString(),
  };
  try {
    await store.transact(
      [absent(CLUSTER_KEY), absent(IMPORT_KEY)],
      [{ type: 'put', key: CLUSTER_KEY, value: encodeCluster(record) }],
    );
  } catch (error) {
    if (!(error instanceof HoldfastError && error.code === 'UNKNOWN_OUTCOME')) throw error;
  }
  // Ours or that of whoever was faster: what is stored counts.
  return readCluster(store);
}
