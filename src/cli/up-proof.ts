/**
 * Shows that a cluster works: takes a volume over, commits records, reads them back from the nodes
 * and compares, and releases the volume.
 */
import type { NodeRequests } from '../block/wire/requests.js';
import { HoldfastError } from '../core/errors.js';
import { PAGE_BYTES } from '../core/units.js';
import { silentLog } from '../io/log.js';
import { nodeClock } from '../io/node/clock.js';
import { nodeRandom } from '../io/node/random.js';
import type { VolumeFacts } from '../metadata/model.js';
import type { MetadataStore } from '../metadata/store.js';
import type { Directory } from '../replication/directory.js';
import { OwnedLog } from './owned-log.js';

export interface Proof {
  readonly records: number;
  /** Mean time of one commit of 4 KiB, one after the other. */
  readonly commitMs: number;
}

const RECORDS = 20;
const TIMEOUT_MS = 60_000;

export async function proveVolume(
  cluster: {
    readonly store: MetadataStore;
    readonly clients: NodeRequests;
    readonly nodes: Directory;
  },
  volume: VolumeFacts,
  address: string,
): Promise<Proof> {
  const { store, clients: requests, nodes: directory } = cluster;
  const base = { clock: nodeClock, random: nodeRandom, log: silentLog, address };
  const parts = { ...base, store, requests, directory };
  const log = await OwnedLog.take(parts, volume, { timeoutMs: TIMEOUT_MS });
  try {
    const pages = Array.from({ length: RECORDS }, () => Buffer.from(nodeRandom.bytes(PAGE_BYTES)));
    const start = nodeClock.monotonic();
    const places = [];
    for (const [n, page] of pages.entries()) {
      const record = Buffer.from(`holdfast up: record ${n + 1} of ${RECORDS}`);
      places.push(await log.append({ record, pages: [page] }));
    }
    const commitMs = (nodeClock.monotonic() - start) / RECORDS;
    for (const [n, { segment, firstPage }] of places.entries()) {
      const found = await log.readPages(segment, firstPage, 1);
      if (!(pages[n] as Buffer).equals(found)) {
        throw new HoldfastError('INCONSISTENT', 'other bytes were read than had been written');
      }
    }
    await log.release();
    return { records: RECORDS, commitMs };
  } finally {
    log.owner.stop();
  }
}
