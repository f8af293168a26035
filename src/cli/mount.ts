/** `holdfast mount`: a volume as a directory. What happens is src/lifecycle/start-mount.ts. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { z } from 'zod';
import { HoldfastError, invalid } from '../core/errors.js';
import type { MountRequest } from '../lifecycle/mount-types.js';
import { startForeground, startMount } from '../lifecycle/start-mount.js';
import { BLOCK_FILESYSTEMS, type VolumeInfo } from '../lifecycle/volume-types.js';
import { flag, resolveSettings, textList } from './config.js';
import { EXIT_INTERRUPTED } from './errors.js';
import { untilInterrupted } from './interrupt.js';
import { lifecycleOf, machineName } from './lifecycle.js';
import { mountDeps } from './machine.js';
import { absoluteMetadata } from './mount-location.js';
import { commitIntervalSetting, timeSetting } from './numbers.js';
import { addExamples, printResult, slowProgress } from './output.js';
import { locate, Session, type SessionOptions, sessionOptions } from './session.js';

interface MountCommandOptions extends SessionOptions {
  readonly fsType?: string;
  readonly foreground?: boolean;
  readonly metrics?: string;
}

const settings = z.object({
  readOnly: flag.default(false),
  foreground: flag.default(false),
  commitInterval: commitIntervalSetting.optional(),
  fsType: z.string().optional(),
  options: textList.optional(),
  timeout: timeSetting('timeout').prefault('60'),
  wait: timeSetting('wait').prefault('0'),
  metrics: z.string().optional(),
});
type MountSettings = z.output<typeof settings>;

const collect = (value: string, all: readonly string[] = []): readonly string[] => [
  ...all,
  ...value.split(',').filter((one) => one !== ''),
];

export function addMountCommand(program: Command): void {
  const command = sessionOptions(program.command('mount <volume> <directory>'))
    .description('mount a volume at a directory of this machine')
    .option('--read-only', 'nothing can be changed through this mount')
    .option('--foreground', 'stay until Ctrl-C, which commits, unmounts and releases')
    .option(
      '--commit-interval <time>',
      "changes without fsync are committed this often; default: the volume's, or 5",
    )
    .option('--fs-type <type>', 'of a block volume: ext4 or xfs, made when it is blank')
    .option('-o, --options <list>', 'of mount(8): ro, noatime, nodev, nosuid, …', collect)
    .option('--timeout <time>', 'how long taking the volume over may take (60s)')
    .option('--wait <time>', 'how long to wait for another machine to let it go (0)')
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
  const sources = { command: 'mount', flags: { ...options }, env: process.env };
  const set = resolveSettings(settings, sources);
  const request = mountRequest(volume, directory, options, set);
  const found = await lookUp(volume, options);
  if (found.kind === 'block') return await mountBlock(found, directory, { options, set }, request);
  if (options.fsType !== undefined) {
    throw invalid(`"${volume}" has a filesystem of its own`, '--fs-type is for block volumes.');
  }
  await mountFiles(request, options, set);
}

/** Throws NOT_FOUND; CONFLICT when the volume is attached to another machine. */
async function lookUp(volume: string, options: SessionOptions): Promise<VolumeInfo> {
  return await Session.run(options, async (session) => {
    const lifecycle = lifecycleOf(session);
    const { record } = await session.volumeNamed(volume);
    return await lifecycle.usable(record.volume);
  });
}

async function mountFiles(
  request: MountRequest,
  options: MountCommandOptions,
  { foreground }: MountSettings,
): Promise<void> {
  const deps = mountDeps(process.env);
  const interrupted = untilInterrupted();
  const hooks = { onProgress: slowProgress(options), signal: interrupted.signal };
  const print = (status: { readonly directory: string }): void => {
    const text = `${request.volume} is mounted at ${status.directory}`;
    printResult(options.json === true, status, text);
  };
  try {
    if (!foreground) return print(await startMount(deps, request, hooks));
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

async function mountBlock(
  { id, name }: VolumeInfo,
  directory: string,
  { options, set }: { readonly options: MountCommandOptions; readonly set: MountSettings },
  { readOnly, flags, timeoutMs, waitMs, commitIntervalMs }: ReturnType<typeof mountRequest>,
): Promise<void> {
  const fsType = BLOCK_FILESYSTEMS.find((one) => one === set.fsType);
  if (set.fsType !== undefined && fsType === undefined) {
    const allowed = `It may be ${BLOCK_FILESYSTEMS.join(' or ')}.`;
    throw invalid(`--fs-type: "${set.fsType}"`, allowed);
  }
  // As flags only: what the configuration says of mounts is said of those of other volumes.
  if (options.foreground === true || options.metrics !== undefined) {
    throw invalid(`"${name}" is a block volume`, 'Those stay without --foreground and --metrics.');
  }
  await Session.run(options, async (session) => {
    const wanted = {
      ...(fsType === undefined ? {} : { fsType }),
      ...{ readOnly, flags, timeoutMs, waitMs },
      ...(commitIntervalMs === undefined ? {} : { commitIntervalMs }),
    };
    const mounted = await lifecycleOf(session).mount(id, resolve(directory), wanted);
    const { directory: where, fsType: type, device } = mounted;
    const text = `${name} is mounted at ${where} (${type} on ${device})`;
    printResult(options.json === true, mounted, text);
  });
}

/** Throws INVALID_ARGUMENT. */
function mountRequest(
  volume: string,
  directory: string,
  options: MountCommandOptions,
  set: MountSettings,
) {
  const { metadata, secretFile } = locate(options, process.env);
  const { commitInterval: commitIntervalMs, metrics, options: given = [] } = set;
  return {
    volume,
    directory,
    metadata: absoluteMetadata(metadata),
    secretFile: secretFile === null ? null : resolve(secretFile),
    readOnly: set.readOnly || given.includes('ro'),
    flags: given.filter((one) => one !== 'ro' && one !== 'rw'),
    machine: machineName(process.env),
    timeoutMs: set.timeout,
    waitMs: set.wait,
    ...(commitIntervalMs === undefined ? {} : { commitIntervalMs }),
    ...(metrics === undefined ? {} : { metricsListen: metrics }),
  };
}
