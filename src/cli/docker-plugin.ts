/**
 * `holdfast docker-plugin`: serves Docker's volume plugin protocol on a unix socket. What it
 * answers is src/volume-plugin; here it gets its settings, machine, and a cluster that may come
 * later.
 */
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { z } from 'zod';
import { parseSeconds } from '../core/durations.js';
import { HoldfastError, invalid } from '../core/errors.js';
import { parseSize } from '../core/sizes.js';
import type { FuseMounts } from '../io/fuse-device.js';
import type { Log } from '../io/log.js';
import { nodeClock } from '../io/node/clock.js';
import { createLog, LOG_LEVELS } from '../io/node/log.js';
import { NodeMachineCommands } from '../io/node/machine-commands.js';
import { servePosts } from '../io/node/post-socket.js';
import { NodeSmallFiles } from '../io/node/small-files.js';
import type { MachineVolumes } from '../lifecycle/machine.js';
import { Claims } from '../volume-plugin/claims.js';
import { outsidePath } from '../volume-plugin/outside-path.js';
import { type Places, propagatedPlaces, samePlaces } from '../volume-plugin/places.js';
import { CONTENT_TYPE } from '../volume-plugin/protocol.js';
import { VolumePlugin } from '../volume-plugin/volume-plugin.js';
import { ClusterLater } from './cluster-later.js';
import { parsed, plainText, resolveSettings } from './config.js';
import { aborted, untilInterrupted } from './interrupt.js';
import { mountDeps } from './machine.js';
import { retentionSetting, timeSetting, wholeSetting } from './numbers.js';
import { addExamples, printResult } from './output.js';
import { type SessionOptions, sessionOptions } from './session.js';

const SOCKET = '/run/docker/plugins/holdfast.sock';
const DIRECTORY = '/var/lib/holdfast/volumes';
const DEFAULT_SIZE = '10GiB';
const DEFAULT_REPLICAS = '3';
/** Longer than a dead machine is taken for living, and well within the engine's two minutes. */
const DEFAULT_WAIT = '30s';
const WAIT_MAX_MS = 45_000;
const DEFAULT_RETENTION = '7d';
/** Calls under way at SIGTERM; whoever started the plugin ends it for good somewhat later. */
const LAST_CALLS_MS = 20_000;

/** Of the machine, whose mounts are the machine's, where its processes are seen. */
const FIRST_PROCESS = 1;

const absolute = z.string().regex(/^\/(?:[^/]+\/)*[^/]+$/, 'must be an absolute path');

const schema = z.object({
  socket: absolute.default(SOCKET),
  directory: absolute.default(DIRECTORY),
  agent: z
    .string()
    .regex(/^(?:auto|none|\/.+)$/, 'must be auto, none, or an absolute path')
    .default('auto'),
  propagated: absolute.optional(),
  size: parsed((text) => parseSize(text, 'size')).prefault(DEFAULT_SIZE),
  replicas: wholeSetting('replicas').prefault(DEFAULT_REPLICAS),
  wait: plainText.pipe(parsed((text) => waitMs(text))).prefault(DEFAULT_WAIT),
  retention: retentionSetting.prefault(DEFAULT_RETENTION),
  logLevel: z.enum(LOG_LEVELS).default('info'),
});

type Settings = z.output<typeof schema>;

function waitMs(text: string): number {
  const ms = parseSeconds(text, 'wait');
  if (ms <= WAIT_MAX_MS) return ms;
  throw invalid(`wait "${text}" is too long`, `At most ${WAIT_MAX_MS / 1000} s: Docker gives up.`);
}

/** What all commands are to wait may be more than Docker does. */
function sharedWait(value: unknown): unknown {
  const { success, data = 0 } = timeSetting('wait').safeParse(value);
  return success && data > WAIT_MAX_MS ? `${WAIT_MAX_MS / 1000}s` : value;
}

export function addDockerPluginCommand(program: Command): void {
  const command = sessionOptions(program.command('docker-plugin'))
    .description('serve volumes to Docker, as its volume plugin')
    .option('--socket <file>', `where Docker finds it (default: ${SOCKET})`)
    .option('--directory <dir>', `below it volumes are mounted (default: ${DIRECTORY})`)
    .option('--agent <which>', 'auto, none, or the socket of an agent that mounts (default: auto)')
    .option('--propagated <dir>', "a managed plugin's directory that Docker sees")
    .option('--size <size>', `of volumes that name none (default: ${DEFAULT_SIZE})`)
    .option('--replicas <count>', `of volumes that name none (default: ${DEFAULT_REPLICAS})`)
    .option('--wait <time>', `for another machine to let a volume go (default: ${DEFAULT_WAIT})`)
    .option('--retention <time>', `how long removed ones are kept (default: ${DEFAULT_RETENTION})`)
    .option('--log-level <level>', `${LOG_LEVELS.join(', ')} (default: info)`)
    .action((options: SessionOptions) => dockerPlugin(options));
  addExamples(command, [
    ['With the cluster of /etc/holdfast/config.json', 'holdfast docker-plugin'],
    ['Then, anywhere on this machine', 'docker volume create -d holdfast -o size=20GiB db'],
    ['And', 'docker run -v db:/var/lib/postgresql/data postgres'],
  ]);
}

async function dockerPlugin(options: SessionOptions): Promise<void> {
  const shared = { wait: sharedWait };
  const sources = { command: 'docker-plugin', flags: { ...options }, env: process.env, shared };
  const settings = resolveSettings(schema, sources);
  const log = createLog({ level: settings.logLevel });
  const { agent: wanted } = settings;
  const agent = wanted === 'none' ? {} : { agent: wanted };
  const cluster = new ClusterLater(options, agent);
  const plugin = composePlugin(settings, cluster, log);
  const interrupted = untilInterrupted();
  const service = await servePosts(settings.socket, async (path, body, gone) => {
    const reply = await plugin.answer(path, body, gone);
    const status = reply === null ? 404 : 200;
    const shown = reply ?? { Err: `there is no ${path}` };
    return { status, contentType: CONTENT_TYPE, body: JSON.stringify(shown) };
  });
  void plugin.sweep();
  const { socket, directory } = settings;
  const text = `serving Docker at ${socket}; volumes are mounted below ${directory}`;
  printResult(options.json === true, { event: 'ready', socket, directory }, text);
  await aborted(interrupted.signal);
  plugin.close();
  await Promise.race([service.close(), after(LAST_CALLS_MS)]);
  await cluster.close();
  // Timers and idle connections hold up nothing: mounts are served by processes of their own.
  process.exit(0);
}

function composePlugin(settings: Settings, cluster: ClusterLater, log: Log): VolumePlugin {
  const { size: sizeBytes, replicas, wait, retention } = settings;
  const { host } = mountDeps(process.env);
  const state = join(dirname(host.state.path('')), 'docker');
  const { machine } = cluster;
  const deps = {
    lifecycle: () => cluster.lifecycle(),
    machine,
    places: placesOf(settings, machine),
    claims: new Claims(new NodeSmallFiles(state)),
    clock: nodeClock,
    log,
  };
  const rules = { defaults: { sizeBytes, replicas }, waitMs: wait, keepMs: retention };
  return new VolumePlugin(deps, rules);
}

function placesOf({ directory: root, propagated }: Settings, machine: MachineVolumes): Places {
  const commands = new NodeMachineCommands();
  const { mounts } = mountDeps(process.env).host;
  if (propagated === undefined) {
    return samePlaces(root, commands, (path) => resolved(mounts, path));
  }
  const propagatedOutside = outsidePath(propagated, mounts.table(), mounts.table(FIRST_PROCESS));
  const machineRoot = `/proc/${FIRST_PROCESS}/root`;
  const where = { root, propagated, propagatedOutside, machineRoot };
  return propagatedPlaces({ ...where, machine, commands });
}

/** Where its parent is missing, nothing is mounted that could be named otherwise. */
function resolved(mounts: Pick<FuseMounts, 'resolve'>, path: string): string {
  try {
    return mounts.resolve(path);
  } catch (thrown) {
    if (thrown instanceof HoldfastError) return path;
    throw thrown;
  }
}

function after(ms: number): Promise<void> {
  return new Promise((resolve) => nodeClock.after(ms, resolve));
}
