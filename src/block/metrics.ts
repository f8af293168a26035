/**
 * What a node counts about its requests: plain numbers, cheap enough for every request.
 * src/cli/metrics.ts shows them to Prometheus; nothing here knows of it.
 */
import { type Request, RequestType, Status, type StatusName } from './wire/messages.js';

/** Upper bounds of the latency buckets, in milliseconds; a last one without a bound follows. */
export const LATENCY_BUCKETS_MS: readonly number[] = [
  0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096,
];

export class Histogram {
  /** One count for each bucket, not cumulative; the last is for what exceeds all bounds. */
  readonly counts = new Float64Array(LATENCY_BUCKETS_MS.length + 1);
  sumMs = 0;
  count = 0;

  observe(ms: number): void {
    let bucket = 0;
    while (bucket < LATENCY_BUCKETS_MS.length && ms > (LATENCY_BUCKETS_MS[bucket] as number)) {
      bucket += 1;
    }
    this.counts[bucket] = (this.counts[bucket] as number) + 1;
    this.sumMs += ms;
    this.count += 1;
  }
}

const STATUSES = Object.keys(Status).length;
const TYPES = Object.keys(RequestType).length + 1;

/** Counters of one NodeServer. */
export class ServerMetrics {
  connections = 0;
  connectionsTotal = 0;
  connectionsRefused = 0;
  handshakesFailed = 0;
  malformedFrames = 0;
  bytesReceived = 0;
  bytesSent = 0;
  requestsInProgress = 0;
  readonly #counts = new Float64Array(TYPES * STATUSES);
  readonly #latency = new Map<Request['type'], Histogram>();

  /** A request was answered `ms` after it had come. */
  answered(type: Request['type'], status: StatusName, ms: number): void {
    const at = RequestType[type] * STATUSES + Status[status];
    this.#counts[at] = (this.#counts[at] as number) + 1;
    let histogram = this.#latency.get(type);
    if (histogram === undefined) {
      histogram = new Histogram();
      this.#latency.set(type, histogram);
    }
    histogram.observe(ms);
  }

  /** How many requests of each type ended with each status, without the zeroes. */
  *requests(): Generator<{ type: Request['type']; status: StatusName; count: number }> {
    for (const type of Object.keys(RequestType) as Request['type'][]) {
      for (const status of Object.keys(Status) as StatusName[]) {
        const count = this.#counts[RequestType[type] * STATUSES + Status[status]] as number;
        if (count > 0) yield { type, status, count };
      }
    }
  }

  get latencies(): ReadonlyMap<Request['type'], Histogram> {
    return this.#latency;
  }
}
