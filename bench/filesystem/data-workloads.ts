/** Workloads on the data of few files, by fio. */
import { MIB } from '../../src/core/units.js';
import {
  type Place,
  type Program,
  timesGluster,
  WARM_UP_SECONDS,
  type Workload,
} from './workload.js';

export const FIO: Program = { name: 'fio', package: 'fio' };
const SEQUENTIAL_MIB = 512;
const RANDOM_MIB = 256;
const EIGHT_MIB = 32;
const SECONDS = 5;
const WAL_RECORD_BYTES = 2300;
const WAL_RECORDS = 10_000;

interface FioJob {
  readonly read: FioSide;
  readonly write: FioSide;
  readonly sync: { readonly lat_ns?: FioLatency };
}
interface FioSide {
  readonly iops: number;
  /** Bytes a second. */
  readonly bw_bytes: number;
}
interface FioLatency {
  readonly percentile?: Readonly<Record<string, number>>;
}

/** Runs one job. `options` are fio's own, without dashes. */
async function fio(
  place: Place,
  options: Readonly<Record<string, string | number>>,
): Promise<FioJob> {
  const args = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  const common = ['--name=job', '--group_reporting', '--output-format=json'];
  const output = await place.run(['fio', ...common, ...args]);
  const { jobs } = JSON.parse(output.slice(output.indexOf('{'))) as { jobs: FioJob[] };
  const [job] = jobs;
  if (job === undefined) throw new Error('fio reported no job');
  return job;
}

const operations = ({ read, write }: FioJob): number => read.iops + write.iops;
const megabytes = ({ read, write }: FioJob): number => (read.bw_bytes + write.bw_bytes) / MIB;

/** Sizes stay whole MiB at any scale. */
function sized(place: Place, mib: number): string {
  return `${Math.max(1, Math.round(mib * place.scale))}m`;
}

/** What is measured, in seconds, and how long the job has run by then. */
function timed(place: Place, seconds = SECONDS, before = WARM_UP_SECONDS): Record<string, number> {
  const ramp_time = before === 0 ? 0 : place.seconds(before);
  return { time_based: 1, runtime: place.seconds(seconds), ramp_time };
}

const sequential = { ioengine: 'psync', bs: '1m' };
const sequentialFile = (place: Place) => ({
  filename: place.path('sequential'),
  size: sized(place, SEQUENTIAL_MIB),
});
const randomFile = (place: Place) => ({
  filename: place.path('random'),
  size: sized(place, RANDOM_MIB),
});
const eightFiles = (place: Place) => ({
  directory: place.path(''),
  filename_format: 'eight-$jobnum',
  numjobs: 8,
  size: sized(place, EIGHT_MIB),
});

function layOut(place: Place, files: Readonly<Record<string, string | number>>): Promise<void> {
  const job = fio(place, { ...sequential, ...files, rw: 'write', end_fsync: 1 });
  return job.then(() => undefined);
}

const prepareRandom = (place: Place): Promise<void> =>
  place.once('random', () => layOut(place, randomFile(place)));

interface Direct {
  readonly name: string;
  readonly title: string;
  readonly rw: string;
  readonly depth: number;
}

/** Random 4 KiB with O_DIRECT on a file that is there. */
function direct({ name, title, rw, depth }: Direct): Workload {
  return {
    name,
    title,
    unit: 'IOPS',
    mark: timesGluster(2),
    needs: [FIO],
    prepare: prepareRandom,
    run: async (place) => {
      const options = { ioengine: 'libaio', direct: 1, bs: '4k', iodepth: depth, rw };
      const mix = rw === 'randrw' ? { rwmixread: 70 } : {};
      return operations(
        await fio(place, { ...options, ...mix, ...randomFile(place), ...timed(place) }),
      );
    },
  };
}

export const DATA_WORKLOADS: readonly Workload[] = [
  {
    name: 'seq-write',
    title: 'sequential write 1M + fsync',
    unit: 'MiB/s',
    // 0.9 of a third of what the disk does for one copy.
    mark: { peer: 'ext4', times: 0.3 },
    onBare: true,
    needs: [FIO],
    run: async (place) => {
      const options = { ...sequential, ...sequentialFile(place), rw: 'write', end_fsync: 1 };
      const job = await fio(place, options);
      place.mark('sequential', true);
      return megabytes(job);
    },
  },
  {
    name: 'seq-read',
    title: 'sequential read 1M cold',
    unit: 'MiB/s',
    mark: timesGluster(1),
    needs: [FIO],
    prepare: (place) => place.once('sequential', () => layOut(place, sequentialFile(place))),
    cold: true,
    run: async (place) =>
      megabytes(await fio(place, { ...sequential, ...sequentialFile(place), rw: 'read' })),
  },
  {
    name: 'sync-write',
    title: '4k random write, fsync each, QD1',
    unit: 'IOPS',
    mark: timesGluster(3),
    onBare: true,
    needs: [FIO],
    prepare: prepareRandom,
    run: async (place) => {
      const options = { ioengine: 'psync', bs: '4k', rw: 'randwrite', fsync: 1 };
      return operations(await fio(place, { ...options, ...randomFile(place), ...timed(place) }));
    },
  },
  {
    name: 'sync-write-8',
    title: 'the same, 8 jobs',
    unit: 'IOPS',
    mark: timesGluster(3),
    onBare: true,
    needs: [FIO],
    prepare: (place) => place.once('eight', () => layOut(place, eightFiles(place))),
    run: async (place) => {
      const options = { ioengine: 'psync', bs: '4k', rw: 'randwrite', fsync: 1 };
      return operations(await fio(place, { ...options, ...eightFiles(place), ...timed(place) }));
    },
  },
  {
    name: 'append-sync',
    title: '4k append, fdatasync each',
    unit: 'IOPS',
    mark: timesGluster(3),
    onBare: true,
    needs: [FIO],
    run: async (place) => {
      const options = { ioengine: 'psync', bs: '4k', rw: 'write', fdatasync: 1, fallocate: 'none' };
      const file = { filename: place.path('append'), size: '4g' };
      const { runtime = 1, ramp_time = 0 } = timed(place);
      const job = await fio(place, { ...options, ...file, runtime, ramp_time });
      await place.run(['rm', file.filename]);
      return operations(job);
    },
  },
  direct({ name: 'rand-read', title: '4k random read QD1 direct', rw: 'randread', depth: 1 }),
  direct({ name: 'rand-read-16', title: '4k random read QD16 direct', rw: 'randread', depth: 16 }),
  direct({
    name: 'rand-write-16',
    title: '4k random write QD16 direct',
    rw: 'randwrite',
    depth: 16,
  }),
  direct({ name: 'rand-mix-16', title: '4k 70/30 mix QD16 direct', rw: 'randrw', depth: 16 }),
];

/** What etcd asks of a disk before it is trusted with its write-ahead log: p99 below 10 ms. */
const WAL: Workload = {
  name: 'wal',
  title: 'WAL of 2300 bytes, fdatasync each, p99',
  unit: 'ms',
  lessIsBetter: true,
  needs: [FIO],
  run: async (place) => {
    const size = Math.round(WAL_RECORDS * place.scale) * WAL_RECORD_BYTES;
    const file = { filename: place.path('wal'), size };
    const options = { rw: 'write', ioengine: 'sync', fdatasync: 1, bs: WAL_RECORD_BYTES };
    const { sync } = await fio(place, { ...options, ...file });
    const p99 = sync.lat_ns?.percentile?.['99.000000'];
    if (p99 === undefined) throw new Error('fio reported no latency of fdatasync');
    return p99 / 1e6;
  },
};

/** A job of a published collection, on the file of random reads and writes. */
function published(name: string, options: Readonly<Record<string, string | number>>): Workload {
  const isLarge = String(options.bs) !== '4k';
  return {
    name,
    title: `${name.replace(/-.*/, '')}: ${options.rw} ${options.bs} QD${options.iodepth}`,
    unit: isLarge ? 'MiB/s' : 'IOPS',
    needs: [FIO],
    prepare: prepareRandom,
    run: async (place) => {
      const { runtime, ramp_time = 0, ...rest } = options;
      const times = timed(place, Number(runtime), Number(ramp_time));
      const common = { ioengine: 'libaio', direct: 1, ...rest };
      const job = await fio(place, { ...common, ...randomFile(place), ...times });
      return isLarge ? megabytes(job) : operations(job);
    },
  };
}

const KBENCH_LOADS = [
  ['4k', 64],
  ['128k', 64],
  ['4k', 1],
] as const;

/** Longhorn's kbench: four patterns at three sizes and depths, 20 s after 5 s. */
const KBENCH = ['randread', 'randwrite', 'read', 'write'].flatMap((rw) =>
  KBENCH_LOADS.map(([bs, iodepth]) =>
    published(`kbench-${rw}-${bs}-q${iodepth}`, { rw, bs, iodepth, runtime: 20, ramp_time: 5 }),
  ),
);

const runtime = 10;
/** The six that Vitastor compares storage systems with. */
const VITASTOR = [
  published('vitastor-write-4m-q32', { rw: 'write', bs: '4m', iodepth: 32, runtime }),
  published('vitastor-read-4m-q32', { rw: 'read', bs: '4m', iodepth: 32, runtime }),
  published('vitastor-randwrite-4k-q128', { rw: 'randwrite', bs: '4k', iodepth: 128, runtime }),
  published('vitastor-randread-4k-q128', { rw: 'randread', bs: '4k', iodepth: 128, runtime }),
  published('vitastor-randwrite-4k-q1', {
    ...{ rw: 'randwrite', bs: '4k', iodepth: 1, fsync: 1 },
    runtime,
  }),
  published('vitastor-randread-4k-q1', { rw: 'randread', bs: '4k', iodepth: 1, runtime }),
];

/** Run when asked for by name. */
export const EXTRA_WORKLOADS: readonly Workload[] = [WAL, ...KBENCH, ...VITASTOR];
