/**
 * `npm run bench`: measures Holdfast next to what else there is, and says which marks are met.
 * docs/BENCHMARKS.md says what each workload is and how to read the table.
 */
import { parseArgs } from 'node:util';
import { adoptionTable, runAdoption } from './adoption.js';
import { Aborted } from './filesystem/command.js';
import {
  type FilesystemOptions,
  missingPrograms,
  runFilesystem,
  workloadsNamed,
} from './filesystem/run.js';
import { filesystemJson, filesystemTable } from './filesystem/table.js';
import { TARGET_NAMES, type TargetName } from './filesystem/target.js';
import { lifecycleTable, runLifecycle } from './lifecycle.js';
import { logTable, runLog } from './log.js';

const USAGE = `usage: npm run bench -- [options]
  --only NAME,...    these workloads: log, lifecycle, adoption, wal, kbench, vitastor, or names of
                     the table
  --peers NAME,...   next to these: ext4, glusterfs, bare, none (ext4)
  --without-holdfast measures the peers only
  --rounds N         how often; figures are medians (1; log 5, lifecycle 3, adoption 20)
  --scale X          sizes and times, as multiples of the usual ones (1)
  --directory DIR    where everything is made, and removed at the end (.)
  --json             prints values instead of a table
  --node-arg ARG     for the storage nodes' Node.js, such as --cpu-prof
  --part NAME,...    of log: commit, depth, large, read
  --files N,...      of adoption: how many there are in the volume (100000)
`;

const INTERRUPTED = 130;

function fail(message: string): never {
  process.stderr.write(`bench: ${message}\n`);
  process.exit(2);
}

function list(text: string | undefined): string[] {
  return (text ?? '').split(',').filter((word) => word !== '');
}

function options() {
  try {
    return parseArgs({
      options: {
        only: { type: 'string' },
        peers: { type: 'string', default: 'ext4' },
        'without-holdfast': { type: 'boolean', default: false },
        part: { type: 'string' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
        rounds: { type: 'string' },
        scale: { type: 'string', default: '1' },
        directory: { type: 'string', default: '.' },
        'node-arg': { type: 'string', multiple: true, default: [] },
        files: { type: 'string', default: '100000' },
      },
    }).values;
  } catch (thrown) {
    return fail(`${(thrown as Error).message}\n${USAGE}`);
  }
}

const values = options();
const LOG_SECONDS = 2;
const LOG_ROUNDS = 5;
const LIFECYCLE_ROUNDS = 3;
const ADOPTION_ROUNDS = 20;

function positive(text: string, name: string): number {
  const value = Number(text);
  return value > 0 ? value : fail(`--${name} takes a number above 0, not "${text}"`);
}

function targetNames(): TargetName[] {
  const peers = list(values.peers).filter((name) => name !== 'none');
  for (const peer of peers) {
    if (peer === 'holdfast' || !TARGET_NAMES.some((name) => name === peer)) {
      fail(`there is no peer "${peer}"; there is: ext4, glusterfs, bare, none`);
    }
  }
  return TARGET_NAMES.filter((name) =>
    name === 'holdfast' ? !values['without-holdfast'] : peers.includes(name),
  );
}

/** Ctrl-C ends what runs; everything is then removed in order. */
function interruption(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => controller.abort());
  }
  return controller.signal;
}

async function main(): Promise<void> {
  if (values.help) return void process.stdout.write(USAGE);
  const names = list(values.only);
  const scale = positive(values.scale, 'scale');
  const rounds = values.rounds === undefined ? null : positive(values.rounds, 'rounds');
  const common = {
    directory: values.directory,
    nodeArgs: values['node-arg'],
    signal: interruption(),
  };
  if (names.includes('log')) {
    if (names.length > 1) fail('"log" is measured alone');
    const parts = list(values.part);
    const seconds = LOG_SECONDS * scale;
    const marks = await runLog({ ...common, seconds, rounds: rounds ?? LOG_ROUNDS, parts });
    return print({ log: marks }, () => logTable(marks));
  }
  if (names.includes('lifecycle')) {
    if (names.length > 1) fail('"lifecycle" is measured alone');
    if (process.getuid?.() !== 0) fail('mounting needs root');
    const figures = await runLifecycle({ ...common, rounds: rounds ?? LIFECYCLE_ROUNDS });
    return print({ lifecycle: figures }, () => lifecycleTable(figures));
  }
  if (names.includes('adoption')) {
    if (names.length > 1) fail('"adoption" is measured alone');
    if (process.getuid?.() !== 0) fail('mounting needs root');
    const files = list(values.files).map((one) => positive(one, 'files'));
    const isFilled = files.every((one, index) => one > (files[index - 1] ?? 0));
    if (!isFilled) fail('--files takes ever larger numbers');
    const kills = rounds ?? ADOPTION_ROUNDS;
    const figures = await runAdoption({ ...common, files, kills, progress });
    return print({ adoption: figures }, () => adoptionTable(figures));
  }
  await filesystem(names, { ...common, rounds: rounds ?? 1, scale });
}

function progress(line: string): void {
  process.stderr.write(`bench: ${line}\n`);
}

async function filesystem(
  names: readonly string[],
  common: Pick<FilesystemOptions, 'directory' | 'nodeArgs' | 'signal' | 'rounds' | 'scale'>,
): Promise<void> {
  const targets = targetNames();
  const all = {
    ...common,
    targets,
    workloads: workloads(names),
    progress,
  };
  const missing = missingPrograms(all);
  if (missing.length > 0) fail(missing.join('\nbench: '));
  if (process.getuid?.() !== 0) fail('mounting and dropping caches need root');
  const outcomes = await runFilesystem(all);
  print({ filesystem: filesystemJson(outcomes, targets) }, () =>
    filesystemTable(outcomes, targets),
  );
}

function workloads(names: readonly string[]) {
  try {
    return workloadsNamed(names);
  } catch (thrown) {
    return fail((thrown as Error).message);
  }
}

function print(result: unknown, table: () => string): void {
  process.stdout.write(`${values.json ? JSON.stringify(result) : table()}\n`);
}

try {
  await main();
} catch (thrown) {
  if (!(thrown instanceof Aborted)) throw thrown;
  process.stderr.write('bench: interrupted; nothing is left behind\n');
  process.exitCode = INTERRUPTED;
}
