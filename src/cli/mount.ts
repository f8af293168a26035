/** `holdfast mount`: a volume as a directory. What happens is src/lifecycle/start-mount.ts. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { HoldfastError, invalid } from '../core/errors.js';
import { nodeClock } from '../io/node/clock.js';
import type { MountRequest, MountStatus } from '../lifecycle/mount-types.js';
import { startForeground, startMount } from '../lifecycle/start-mount.js';
import { EXIT_INTERRUPTED } from './errors.js';
import { untilInterrupted } from './interrupt.js';
import { mountDeps } from './machine.js';
import { addExamples, printResult } from './output.js';
import { locate, type SessionOptions, sessionOptions } from './session.js';
import { wholeNumber } from './volume.js';

interface MountCommandOptions extends SessionOptions {
  readonly readOnly?: boolean;
  readonly foreground?: boolean;
  readonly commitInterval: string;
  readonly timeout: string;
  readonly wait: string;
  readonly options: readonly string[];
  readonly metrics?: string;
}

/** Shorter than this, progress is not worth a line. */
const QUIET_MS = 1_000;
const COMMIT_INTERVAL_MAX_S = 60;

const collect = (value: string, all: readonly string[]): readonly string[] => [
  ...all,
  ...value.split(',').filter((one) => one !== ''),
];

export function addMountCommand(program: Command): void {
  const command = sessionOptions(program.command('mount <volume> <directory>'))
    .description('mount a volume at a directory of this machine')
    .option('--read-only', 'nothing can be changed through this mount')
    .option('--foreground', 'stay until Ctrl-C, which commits, unmounts and releases')
    .option('--commit-interval <seconds>', 'changes without fsync are committed this often', '5')
    .option('-o, --options <list>', 'of mount(8): ro, noatime, nodev, nosuid, …', collect, [])
    .option('--timeout <seconds>', 'how long taking the volume over may take', '60')
    .option('--wait <seconds>', 'how long to wait for another machine to let it go', '0')
    .option('--metrics <host:port>', 'serve numbers for Prometheus there')
    .action((volume: string, directory: string, options: MountCommandOptions) =>
      mount(volume, directory, options),
    );
  addExamples(command, [
    ['A volume at /mnt/db; it stays when this terminal closes', 'holdfast mount db /mnt/db'],
    ['Read-only, without device nodes', 'holdfast mount db /mnt/db -o ro,nodev,nosuid'],
    ['In /etc/fstab', 'db /mnt/db fuse.holdfast _netdev,metadata=etcd://HOST:2379,secret=FILE 0 0'],
  ]);
}

async function mount(
  volume: string,
  directory: string,
  options: MountCommandOptions,
): Promise<void> {
  const request = mountRequest(volume, directory, options);
  const deps = mountDeps(process.env);
  const interrupted = untilInterrupted();
  const hooks = { onProgress: slowProgress(), signal: interrupted.signal };
  const print = (status: MountStatus): void => {
    const text = `${volume} is mounted at ${status.directory}`;
    printResult(options.json === true, status, text);
  };
  try {
    if (!options.foreground) return print(await startMount(deps, request, hooks));
    const running = await startForeground(deps, request, hooks);
    print(running.status);
    interrupted.signal.addEventListener('abort', () => running.stop());
    const status = await running.ended;
    if (status !== 0) throw new HoldfastError('UNAVAILABLE', `its daemon ended with ${status}`);
  } catch (thrown) {
    if (!interrupted.signal.aborted) throw thrown;
    process.exit(EXIT_INTERRUPTED);
  } finally {
    interrupted.forget();
  }
}

/** Throws INVALID_ARGUMENT. */
export function mountRequest(
  volume: string,
  directory: string,
  options: MountCommandOptions,
): MountRequest {
  const { metadata, secretFile } = locate(options, process.env);
  const flags = options.options.filter((flag) => flag !== 'ro' && flag !== 'rw');
  const seconds = wholeNumber(options.commitInterval, '--commit-interval');
  if (seconds < 1 || seconds > COMMIT_INTERVAL_MAX_S) {
    throw invalid(`--commit-interval: ${seconds} s`, `1 to ${COMMIT_INTERVAL_MAX_S} are allowed.`);
  }
  return {
    volume,
    directory,
    metadata: absoluteMetadata(metadata),
    secretFile: secretFile === null ? null : resolve(secretFile),
    readOnly: options.readOnly === true || options.options.includes('ro'),
    commitIntervalMs: seconds * 1000,
    flags,
    timeoutMs: wholeNumber(options.timeout, '--timeout') * 1000,
    waitMs: wholeNumber(options.wait, '--wait') * 1000,
    ...(options.metrics === undefined ? {} : { metricsListen: options.metrics }),
  };
}

/** With paths that hold from every directory: the daemon's is the root. */
export function absoluteMetadata(metadata: string): string {
  if (metadata.startsWith('embedded:')) return `embedded:${resolve(metadata.slice(9))}`;
  return metadata.replace(/([?&](?:ca|cert|key)=)([^&]+)/g, (_, name: string, path: string) => {
    return name + encodeURIComponent(resolve(decodeURIComponent(path))).replaceAll('%2F', '/');
  });
}

/** Tells on standard error what a start that takes longer is about. */
function slowProgress(): (text: string) => void {
  const since = nodeClock.monotonic();
  let said = '';
  return (text) => {
    if (text === said || nodeClock.monotonic() - since < QUIET_MS) return;
    said = text;
    process.stderr.write(`${text}\n`);
  };
}
