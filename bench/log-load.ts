/**
 * The loads on the log: commits, large appends and reads, each at a given depth for a given time.
 */
import { MIB, PAGE_BYTES } from '../src/core/units.js';
import { nodeClock } from '../src/io/node/clock.js';
import type { Replica } from '../src/metadata/model.js';
import type { Appended } from '../src/replication/owner-api.js';
import { SegmentReader } from '../src/replication/reader.js';
import type { ReadSource } from '../src/replication/reader-core.js';
import type { BenchCluster } from './cluster.js';
import type { Measured } from './stats.js';

const RECORD = Buffer.from('bench: one extent');
const PREPARE_ATTEMPTS = 20;

/** Keeps `depth` operations under way until time is up, then waits for the last ones. */
export async function keepBusy(
  depth: number,
  seconds: number,
  operation: () => Promise<unknown>,
): Promise<Measured> {
  const latencies: number[] = [];
  const start = performance.now();
  const end = start + seconds * 1000;
  const worker = async (): Promise<void> => {
    for (let now = start; now < end; ) {
      await operation();
      const after = performance.now();
      latencies.push(after - now);
      now = after;
    }
  };
  await Promise.all(Array.from({ length: depth }, worker));
  const took = (performance.now() - start) / 1000;
  return { operations: latencies.length, seconds: took, latencies };
}

/** Commits of 4 KiB: each waits until it is durable on the ack quorum. */
export function commits(cluster: BenchCluster, depth: number, seconds: number): Promise<Measured> {
  const page = Buffer.alloc(PAGE_BYTES, 7);
  return keepBusy(depth, seconds, () => cluster.log.append({ record: RECORD, pages: [page] }));
}

/** Appends `megabytes` × 1 MiB, and waits until all are durable. */
export async function largeAppends(
  cluster: BenchCluster,
  megabytes: number,
  depth: number,
): Promise<Measured> {
  const block = Buffer.alloc(MIB, 7);
  const start = performance.now();
  let left = megabytes;
  const worker = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await cluster.log.append({ record: RECORD, pages: [block] });
    }
  };
  await Promise.all(Array.from({ length: depth }, worker));
  return { operations: megabytes, seconds: (performance.now() - start) / 1000, latencies: [] };
}

/** Verified reads of single pages from one node, straight through the reader. */
export class PageReads {
  readonly #reader: SegmentReader;
  readonly #source: ReadSource;
  readonly #firstPage: number;
  readonly #pages: number;
  #next = 0;

  private constructor(reader: SegmentReader, source: ReadSource, firstPage: number, pages: number) {
    this.#reader = reader;
    this.#source = source;
    this.#firstPage = firstPage;
    this.#pages = pages;
  }

  /** Appends what is to be read, and picks one of its replicas. */
  static async prepare(cluster: BenchCluster): Promise<PageReads> {
    const block = Buffer.alloc(MIB);
    for (let i = 0; i < block.length; i += 4) block.writeUInt32LE((i * 2_654_435_761) >>> 0, i);
    // Until one record lies in the current segment, wherever the segments happen to roll.
    let found: { readonly at: Appended; readonly replica: Replica } | null = null;
    for (let i = 0; i < PREPARE_ATTEMPTS && found === null; i++) {
      const at = await cluster.log.append({ record: RECORD, pages: [block] });
      const has = (at.firstPage + block.length / PAGE_BYTES) * PAGE_BYTES;
      const { current } = cluster.log.owner.inspect();
      if (current?.segment !== at.segment) continue;
      const whole = current.replicas.find(({ durable }) => durable >= has);
      if (whole !== undefined) found = { at, replica: whole.replica };
    }
    if (found === null) throw new Error('the log rolls on and on: nothing to read stays in place');
    const { segment, firstPage } = found.at;
    const { clients: requests, directories: directory } = cluster;
    const reader = new SegmentReader({ clock: nodeClock, requests, directory });
    const replicas = [found.replica];
    return new PageReads(reader, { segment, replicas }, firstPage, MIB / PAGE_BYTES);
  }

  run(seconds: number, depth: number): Promise<Measured> {
    const start = performance.now();
    const end = start + seconds * 1000;
    let operations = 0;
    let inFlight = 0;
    return new Promise((resolve, reject) => {
      const next = (): void => {
        this.#next = (this.#next + 1) % this.#pages;
        inFlight += 1;
        this.#reader.readPages(this.#source, this.#firstPage + this.#next, 1, (error) => {
          inFlight -= 1;
          if (error !== null) return reject(error);
          operations += 1;
          const now = performance.now();
          if (now < end) next();
          else if (inFlight === 0) {
            resolve({ operations, seconds: (now - start) / 1000, latencies: [] });
          }
        });
      };
      for (let i = 0; i < depth; i++) next();
    });
  }
}
