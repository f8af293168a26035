/**
 * Workload `log`: what replication costs against what this machine does alone, in ratios. Each
 * ratio is the median of several rounds in which both sides take turns, since the machine's speed
 * changes from one second to the next. Durability is on everywhere.
 */
import { MIB } from '../src/core/units.js';
import { expectBuffers, optimizeEarly } from '../src/io/node/process.js';
import { BareCommits } from './bare/commits.js';
import { PingPong } from './bare/pingpong.js';
import { BenchCluster } from './cluster.js';
import { Aborted } from './filesystem/command.js';
import { LocalAppender, localSequential } from './local.js';
import { commits, largeAppends, PageReads } from './log-load.js';
import { columns, type Measured, median, percentile, rate, short } from './stats.js';

export interface LogOptions {
  /** Of each measured span. */
  readonly seconds: number;
  readonly rounds: number;
  readonly directory: string;
  readonly nodeArgs: readonly string[];
  /** Names of the parts to run: commit, depth, large, read; all when empty. */
  readonly parts: readonly string[];
  /** Ends the run. */
  readonly signal: AbortSignal;
}

export interface Mark {
  readonly name: string;
  readonly unit: string;
  readonly holdfast: number;
  readonly yardstick: string;
  readonly local: number;
  readonly ratio: number;
  /** Null: told for comparison, nothing is asked of it. */
  readonly wanted: number | null;
  readonly met: boolean;
  readonly note: string;
}

const LARGE_MEGABYTES = 256;
const LARGE_DEPTH = 8;
const DEPTH = 16;
/**
 * Both sides run this long before they are measured: a storage node serves for weeks, and it takes
 * some 10,000 requests until its code is compiled.
 */
const WARM_SECONDS = 6;
const RSS_MAX_BYTES = 200 * MIB;

interface Rounds {
  readonly ours: Measured[];
  readonly theirs: Measured[];
}

/** Lets both sides take turns. */
async function alternate(
  rounds: number,
  ours: () => Promise<Measured>,
  theirs: () => Promise<Measured> | Measured,
): Promise<Rounds> {
  const result: Rounds = { ours: [], theirs: [] };
  for (let round = 0; round < rounds; round++) {
    const oursFirst = round % 2 === 0;
    if (oursFirst) result.ours.push(await ours());
    result.theirs.push(await theirs());
    if (!oursFirst) result.ours.push(await ours());
  }
  return result;
}

function mark(
  name: string,
  unit: string,
  yardstick: string,
  { ours, theirs }: Rounds,
  wanted: number | null,
  factor = 1,
): Mark {
  const ratios = ours.map((one, i) => rate(one) / (rate(theirs[i] as Measured) * factor));
  const ratio = median(ratios);
  const latencies = ours.flatMap((one) => one.latencies);
  const note =
    latencies.length === 0
      ? ''
      : `p50 ${short(percentile(latencies, 0.5))} ms, p99 ${short(percentile(latencies, 0.99))} ms`;
  return {
    name,
    unit,
    yardstick,
    holdfast: median(ours.map(rate)),
    local: median(theirs.map((one) => rate(one) * factor)),
    ratio,
    wanted,
    met: wanted === null || ratio >= wanted,
    note,
  };
}

export async function runLog(options: LogOptions): Promise<Mark[]> {
  const { directory, nodeArgs, signal } = options;
  expectBuffers();
  optimizeEarly();
  const cluster = await BenchCluster.start({ parent: directory, nodeArgs });
  try {
    return await Promise.race([runParts(cluster, options), aborted(signal)]);
  } finally {
    await cluster.close();
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(new Aborted());
    signal.addEventListener('abort', () => reject(new Aborted()), { once: true });
  });
}

async function runParts(cluster: BenchCluster, options: LogOptions): Promise<Mark[]> {
  const { seconds, rounds, parts } = options;
  const wants = (part: string): boolean => parts.length === 0 || parts.includes(part);
  const marks: Mark[] = [];
  await commits(cluster, DEPTH, 1);
  await commits(cluster, 1, WARM_SECONDS);
  if (wants('commit')) marks.push(...(await single(cluster, options)));
  if (wants('depth')) {
    const turns = await alternate(
      rounds,
      () => commits(cluster, DEPTH, seconds),
      () => commits(cluster, 1, seconds),
    );
    marks.push(mark('4 KiB commits, QD16', '/s', 'the same at QD1', turns, 4));
  }
  if (wants('large')) marks.push(await large(cluster, options));
  if (wants('read')) marks.push(await read(cluster, options));
  marks.push(memory(cluster));
  return marks;
}

/** Single commits next to a local append, and next to a bare program that replicates it. */
async function single(cluster: BenchCluster, { rounds, seconds }: LogOptions): Promise<Mark[]> {
  const appender = new LocalAppender(cluster.directory);
  const bare = await BareCommits.start(cluster.directory);
  try {
    await bare.run(WARM_SECONDS);
    const bares: Measured[] = [];
    const turns = await alternate(
      rounds,
      () => commits(cluster, 1, seconds),
      async () => {
        bares.push(await bare.run(seconds));
        return appender.run(seconds);
      },
    );
    const name = '4 KiB commits, QD1';
    const local = 'local append + fdatasync';
    const alone: Rounds = { ours: bares, theirs: turns.theirs };
    return [
      mark(name, '/s', local, turns, 0.7),
      mark(name, '/s', 'a bare program, 3 copies', { ours: turns.ours, theirs: bares }, null),
      mark('(a bare program, 3 copies)', '/s', local, alone, null),
    ];
  } finally {
    await bare.close();
    appender.close();
  }
}

async function large(cluster: BenchCluster, { rounds }: LogOptions): Promise<Mark> {
  const turns = await alternate(
    rounds,
    () => largeAppends(cluster, LARGE_MEGABYTES, LARGE_DEPTH),
    () => localSequential(cluster.directory, LARGE_MEGABYTES),
  );
  return mark('1 MiB appends', 'MiB/s', 'a third of local writes', turns, 0.9, 1 / 3);
}

async function read(cluster: BenchCluster, { rounds, seconds }: LogOptions): Promise<Mark> {
  const reads = await PageReads.prepare(cluster);
  const bare = await PingPong.start();
  try {
    await reads.run(WARM_SECONDS, DEPTH);
    await bare.run(WARM_SECONDS, DEPTH);
    const turns = await alternate(
      rounds,
      () => reads.run(seconds, DEPTH),
      () => bare.run(seconds, DEPTH),
    );
    return mark('verified 4 KiB reads, QD16', '/s', 'bare TCP ping-pong', turns, 0.6);
  } finally {
    await bare.close();
  }
}

function memory(cluster: BenchCluster): Mark {
  const megabytes = cluster.maxNodeBytes / MIB;
  const limit = RSS_MAX_BYTES / MIB;
  return {
    name: 'largest node, resident',
    unit: 'MiB',
    yardstick: 'limit',
    holdfast: megabytes,
    local: limit,
    ratio: megabytes / limit,
    wanted: 1,
    met: megabytes <= limit,
    note: 'at most',
  };
}

export function logTable(marks: readonly Mark[]): string {
  const rows = marks.map((one) => [
    one.name,
    `${short(one.holdfast)} ${one.unit}`,
    `${short(one.local)} ${one.unit}`,
    one.yardstick,
    one.ratio.toFixed(2),
    one.wanted?.toFixed(2) ?? '',
    verdict(one),
    one.note,
  ]);
  const heading = ['', 'holdfast', 'yardstick', 'which', 'ratio', 'mark', '', ''];
  const asked = marks.filter((one) => one.wanted !== null);
  const met = asked.filter((one) => one.met).length;
  return `${columns([heading, ...rows])}\n\nlog: ${met} of ${asked.length} marks met`;
}

function verdict({ wanted, met }: Mark): string {
  if (wanted === null) return '';
  return met ? 'met' : 'MISSED';
}
