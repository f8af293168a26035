/** A node's numbers for Prometheus, gathered only when somebody asks. */
import { Counter, Gauge, Registry } from 'prom-client';
import type { DiskStats } from '../block/disk-store-api.js';
import { type Histogram, LATENCY_BUCKETS_MS, type ServerMetrics } from '../block/metrics.js';
import type { ProcessVitals } from '../io/node/process.js';
import type { RepairNumbers } from '../replication/repair.js';
import type { ScrubNumbers } from '../replication/scrubber.js';

export interface NodeNumbers {
  readonly server: ServerMetrics;
  readonly disks: () => readonly DiskStats[];
  readonly vitals: () => ProcessVitals;
  readonly isRegistered: () => boolean;
  /** Null while another node leads. */
  readonly repair: () => RepairNumbers | null;
  readonly scrub: () => readonly ScrubNumbers[];
}

const DISK_STATES = ['ok', 'full', 'failed'] as const;

/** The text that Prometheus reads. */
export interface Metrics {
  readonly contentType: string;
  read(): Promise<string>;
}

export function createMetrics(numbers: NodeNumbers): Metrics {
  const registry = new Registry();
  addServer(registry, numbers.server);
  addDisks(registry, numbers.disks);
  addProcess(registry, numbers);
  gauge(registry, 'registered', '1 while the metadata store knows this node', () =>
    numbers.isRegistered() ? 1 : 0,
  );
  addRepair(registry, numbers.repair);
  addScrub(registry, numbers.scrub);
  return { contentType: registry.contentType, read: () => registry.metrics() };
}

/** Zero on all nodes but the one that leads: sums over the nodes are right. */
function addRepair(registry: Registry, repair: () => RepairNumbers | null): void {
  const all: readonly (readonly [string, string, (numbers: RepairNumbers) => number])[] = [
    ['degraded_segments', 'With too few copies', ({ degraded }) => degraded],
    ['endangered_segments', 'With a single copy that answers', ({ endangered }) => endangered],
    ['unreadable_segments', 'Without a copy that answers', ({ unreadable }) => unreadable],
    ['copies_to_make', 'Copies that are missing', ({ copies }) => copies],
    ['bytes_to_copy', 'Their bytes', ({ bytes }) => bytes],
    ['draining_copies', 'On nodes that are drained', ({ leaving }) => leaving],
    ['copies_running', 'Under way', ({ running }) => running],
    ['bytes_per_second_max', 'What it may copy', (numbers) => numbers.bytesPerSecondMax],
  ];
  gauge(registry, 'repair_leads', '1 on the node that repairs', () => (repair() === null ? 0 : 1));
  for (const [name, help, of] of all) {
    gauge(registry, `repair_${name}`, help, () => {
      const numbers = repair();
      return numbers === null ? 0 : of(numbers);
    });
  }
  counter(registry, 'repair_copies_total', 'Made', () => repair()?.doneCopies ?? 0);
  counter(registry, 'repair_bytes_total', 'Copied', () => repair()?.doneBytes ?? 0);
  counter(registry, 'repair_failures_total', 'Not made', () => repair()?.failedCopies ?? 0);
}

export function gauge(registry: Registry, name: string, help: string, value: () => number): void {
  new Gauge({
    name: `holdfast_${name}`,
    help,
    registers: [registry],
    collect() {
      this.set(value());
    },
  });
}

export function counter(registry: Registry, name: string, help: string, value: () => number): void {
  new Counter({
    name: `holdfast_${name}`,
    help,
    registers: [registry],
    collect() {
      this.reset();
      this.inc(value());
    },
  });
}

function addServer(registry: Registry, server: ServerMetrics): void {
  gauge(registry, 'connections', 'Open connections', () => server.connections);
  gauge(registry, 'requests_in_progress', 'Unanswered', () => server.requestsInProgress);
  counter(registry, 'connections_total', 'Accepted', () => server.connectionsTotal);
  counter(registry, 'connections_refused_total', 'Too many', () => server.connectionsRefused);
  counter(registry, 'handshakes_failed_total', 'Not let in', () => server.handshakesFailed);
  counter(registry, 'malformed_frames_total', 'Unreadable', () => server.malformedFrames);
  counter(registry, 'received_bytes_total', 'Bytes of frames', () => server.bytesReceived);
  counter(registry, 'sent_bytes_total', 'Bytes of frames', () => server.bytesSent);
  new Counter({
    name: 'holdfast_requests_total',
    help: 'Answered requests',
    labelNames: ['type', 'status'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { type, status, count } of server.requests()) this.inc({ type, status }, count);
    },
  });
  registry.registerMetric(latencyMetric(server) as never);
}

/** A histogram kept elsewhere, in the form that prom-client prints. */
function latencyMetric(server: ServerMetrics): object {
  const name = 'holdfast_request_duration_seconds';
  const get = (): object => ({
    name,
    help: 'From a request to its reply',
    type: 'histogram',
    aggregator: 'sum',
    values: [...server.latencies].flatMap(([type, histogram]) => samples(name, type, histogram)),
  });
  return { name, get, reset: () => {} };
}

function samples(name: string, type: string, histogram: Histogram): object[] {
  const values: object[] = [];
  let cumulative = 0;
  for (const [at, count] of histogram.counts.entries()) {
    cumulative += count;
    const bound = LATENCY_BUCKETS_MS[at];
    const le = bound === undefined ? '+Inf' : bound / 1000;
    values.push({ metricName: `${name}_bucket`, labels: { type, le }, value: cumulative });
  }
  values.push({ metricName: `${name}_sum`, labels: { type }, value: histogram.sumMs / 1000 });
  values.push({ metricName: `${name}_count`, labels: { type }, value: histogram.count });
  return values;
}

/** Adds numbers of which each disk has its own: gauges, and counters by their names. */
function ofEach<T extends { readonly incarnation: string }>(
  registry: Registry,
  disks: () => readonly T[],
): (name: string, help: string, value: (disk: T) => number) => void {
  return (name, help, value) => {
    const shared = {
      name: `holdfast_disk_${name}`,
      help,
      labelNames: ['disk'],
      registers: [registry],
    };
    if (name.endsWith('_total')) {
      new Counter({
        ...shared,
        collect() {
          this.reset();
          for (const disk of disks()) this.inc({ disk: disk.incarnation }, value(disk));
        },
      });
      return;
    }
    new Gauge({
      ...shared,
      collect() {
        this.reset();
        for (const disk of disks()) this.set({ disk: disk.incarnation }, value(disk));
      },
    });
  };
}

function addScrub(registry: Registry, scrub: () => readonly ScrubNumbers[]): void {
  const each = ofEach(registry, scrub);
  const seconds = (time: string | null): number => (time === null ? 0 : Date.parse(time) / 1_000);
  each('scrub_read_bytes_total', 'Verified on the schedule, since the start', (one) => {
    return one.readBytes;
  });
  each('scrub_repaired_copies_total', 'Rotten copies made good', ({ repaired }) => repaired);
  each('scrub_rotten_copies', 'Rotten copies that could not be made good', ({ rotten }) => rotten);
  each('scrub_started_seconds', 'When the newest pass began, since 1970', ({ startedAt }) =>
    seconds(startedAt),
  );
  each('scrub_ended_seconds', 'When the last whole pass ended, since 1970', ({ endedAt }) =>
    seconds(endedAt),
  );
}

function addDisks(registry: Registry, disks: () => readonly DiskStats[]): void {
  const each = ofEach(registry, disks);
  each('bytes', 'Size', (disk) => disk.totalBytes);
  each('free_bytes', 'What may still be written', (disk) => disk.freeBytes);
  each('segments', 'Segments held', (disk) => disk.segments);
  each('written_bytes_total', 'Since the start', (disk) => disk.bytesWritten);
  each('read_bytes_total', 'Since the start', (disk) => disk.bytesRead);
  each('flushes_total', 'Since the start', (disk) => disk.flushes);
  each('reads_total', 'Since the start', (disk) => disk.reads);
  each('checksum_failures_total', 'Since the start', (disk) => disk.checksumFailures);
  each('repaired_bytes_total', 'Of rotten copies, since the start', (disk) => disk.repairedBytes);
  each('journal_bytes', 'Size of the journal', (disk) => disk.journalBytes);
  each('journal_used_bytes', 'Of the journal', (disk) => disk.journalUsedBytes);
  each('journal_queue', 'Entries that wait for a flush', (disk) => disk.journalQueue);
  each('pending_bytes', 'Accepted, not yet durable', (disk) => disk.pendingBytes);
  each('waiting', 'Requests that wait', (disk) => disk.waiting);
  new Gauge({
    name: 'holdfast_disk_state',
    help: '1 for the state that the disk is in',
    labelNames: ['disk', 'state'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { incarnation: disk, state: current } of disks()) {
        for (const state of DISK_STATES) this.set({ disk, state }, state === current ? 1 : 0);
      }
    },
  });
  addFlushes(registry, disks);
}

function addFlushes(registry: Registry, disks: () => readonly DiskStats[]): void {
  new Gauge({
    name: 'holdfast_disk_flush_seconds',
    help: 'Durations of the most recent flushes',
    labelNames: ['disk', 'quantile'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { incarnation: disk, flushMs } of disks()) {
        const sorted = [...flushMs].sort((a, b) => a - b);
        for (const quantile of [0.5, 0.99, 1]) {
          const at = Math.min(sorted.length - 1, Math.floor(sorted.length * quantile));
          this.set({ disk, quantile }, (sorted[at] ?? 0) / 1000);
        }
      }
    },
  });
}

/** Memory and event loop of this process. */
export function addProcess(
  registry: Registry,
  numbers: { readonly vitals: () => ProcessVitals },
): void {
  let vitals: ProcessVitals | null = null;
  // The first one collected takes the sample for all three: prom-client collects in order.
  gauge(registry, 'resident_memory_bytes', 'Of the process', () => {
    vitals = numbers.vitals();
    return vitals.residentBytes;
  });
  gauge(registry, 'heap_bytes', 'Used by JavaScript', () => vitals?.heapBytes ?? 0);
  gauge(registry, 'event_loop_lag_seconds', 'Worst since the last look', () => {
    return (vitals?.lagMs ?? 0) / 1000;
  });
}
