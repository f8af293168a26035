/** `holdfast csi`: the driver for Kubernetes and others; what it does is src/csi-driver. */
import { chmodSync } from 'node:fs';
import type { Command } from 'commander';
import { asFault, invalid } from '../core/errors.js';
import { ControllerService } from '../csi-driver/controller.js';
import { identityService } from '../csi-driver/identity.js';
import { NodeService } from '../csi-driver/node.js';
import { CsiServer } from '../csi-driver/server.js';
import type { Timer } from '../io/clock.js';
import type { Log } from '../io/log.js';
import { nodeClock } from '../io/node/clock.js';
import { nodeGroupAccess } from '../io/node/group-access.js';
import { createLog, LOG_LEVELS, type LogLevel } from '../io/node/log.js';
import { onStopRequest } from '../io/node/process.js';
import { claimSocketPath } from '../io/node/unix-socket.js';
import type { VolumeLifecycle } from '../lifecycle/volumes.js';
import { ClusterLater } from './cluster-later.js';
import { machineName } from './lifecycle.js';
import { wholeNumber } from './numbers.js';
import { addExamples } from './output.js';
import { type SessionOptions, sessionOptions } from './session.js';
import { programVersion } from './version.js';

const MODES = ['controller', 'node', 'all'] as const;
type Mode = (typeof MODES)[number];

const UNIX = 'unix://';
const NODE_ID_MAX_BYTES = 256;
const ZONE = /^[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?$/;
const REGISTER_AGAIN_MS = 5_000;
const REGISTER_EVERY_MS = 60_000;
/** A repetition of a call waits a little for the first one. */
const LOCK_WAIT_MS = 5_000;

interface CsiOptions extends SessionOptions {
  readonly mode: string;
  readonly endpoint: string;
  readonly nodeId?: string;
  readonly zone: string;
  readonly maxVolumes: string;
  readonly agent: string;
  readonly unpublishUnstages?: boolean;
  readonly logLevel: string;
}

interface Settings {
  readonly mode: Mode;
  /** The path of the socket. */
  readonly socket: string;
  readonly nodeId: string;
  readonly zone: string;
  readonly maxVolumes: number;
  /** 'auto', or a socket; null: this process mounts by itself. */
  readonly agent: string | null;
  readonly unpublishUnstages: boolean;
  readonly logLevel: LogLevel;
}

export function addCsiCommand(program: Command): void {
  const command = sessionOptions(program.command('csi'))
    .description('serve the Container Storage Interface to an orchestrator')
    .requiredOption('--mode <mode>', 'controller (for a cluster), node (for a machine), or all')
    .requiredOption('--endpoint <url>', 'unix:///PATH of the socket to serve')
    .option('--node-id <name>', 'this machine, as the orchestrator names it; default: its hostname')
    .option('--zone <name>', "this machine's zone, as of storage nodes", 'default')
    .option('--max-volumes <count>', 'how many volumes may be put on this machine; 0: any', '0')
    .option('--agent <which>', 'auto, none, or the socket of an agent that mounts', 'auto')
    .option('--unpublish-unstages', 'for Swarm, which never unstages: the last unpublish does')
    .option('--log-level <level>', LOG_LEVELS.join(', '), 'info')
    .action((options: CsiOptions) => serve(options));
  addExamples(command, [
    [
      'On each machine',
      'holdfast csi --mode node --endpoint unix:///csi/csi.sock --node-id $NODE_NAME',
    ],
    ['Once in a cluster', 'holdfast csi --mode controller --endpoint unix:///csi/csi.sock'],
  ]);
}

/** Throws INVALID_ARGUMENT. */
export function csiSettings(
  options: CsiOptions,
  env: Readonly<Record<string, string | undefined>>,
): Settings {
  const mode = MODES.find((one) => one === options.mode);
  if (mode === undefined) throw invalid(`--mode "${options.mode}"`, `Use ${MODES.join(', ')}.`);
  const { endpoint, zone } = options;
  const socket = endpoint.startsWith(UNIX) ? endpoint.slice(UNIX.length) : endpoint;
  if (!socket.startsWith('/')) {
    throw invalid(`--endpoint "${endpoint}"`, 'Give the path of a socket: unix:///run/csi.sock.');
  }
  const nodeId = options.nodeId ?? machineName(env);
  if (nodeId === '' || Buffer.byteLength(nodeId) > NODE_ID_MAX_BYTES) {
    throw invalid(`--node-id has ${Buffer.byteLength(nodeId)} bytes`, '1 to 256 are allowed.');
  }
  if (!ZONE.test(zone)) {
    throw invalid(`--zone "${zone}"`, 'Up to 63 of letters, digits, ".", "_" and "-".');
  }
  const logLevel = LOG_LEVELS.find((one) => one === options.logLevel);
  if (logLevel === undefined) {
    throw invalid(`--log-level "${options.logLevel}"`, `Use ${LOG_LEVELS.join(', ')}.`);
  }
  const maxVolumes = wholeNumber(options.maxVolumes, '--max-volumes');
  const agent = options.agent === 'none' || mode === 'controller' ? null : options.agent;
  if (agent !== null && agent !== 'auto' && !agent.startsWith('/')) {
    throw invalid(`--agent "${agent}"`, 'Use auto, none, or the path of a socket.');
  }
  const unpublishUnstages = options.unpublishUnstages === true;
  return { mode, socket, nodeId, zone, maxVolumes, agent, unpublishUnstages, logLevel };
}

async function serve(options: CsiOptions): Promise<void> {
  const settings = csiSettings(options, process.env);
  const { mode, socket, nodeId, agent, logLevel } = settings;
  const log = createLog({ level: logLevel });
  await claimSocketPath(socket, 'Another driver serves it: stop that one first.');
  const more = {
    ...{ machine: nodeId, lockWaitMs: LOCK_WAIT_MS },
    ...(agent === null ? {} : { agent }),
  };
  const cluster = new ClusterLater(options, more);
  const volumes = (): Promise<VolumeLifecycle> => cluster.lifecycle();
  try {
    const registration = new Registration(volumes, settings, log);
    const server = new CsiServer({
      services: {
        identity: identityService(programVersion()),
        controller: mode === 'node' ? undefined : new ControllerService(volumes),
        node: mode === 'controller' ? undefined : nodeService(cluster, settings),
      },
      endpoint: `${UNIX}${socket}`,
      log,
      clock: nodeClock,
    });
    await server.start();
    chmodSync(socket, 0o600);
    if (mode !== 'controller') registration.start();
    sayReady(settings, options.json === true);
    const reason = await new Promise<string>((resolve) => {
      onStopRequest({ stdin: false }, resolve);
    });
    log.info({ reason }, 'Stopping once the calls under way have ended; mounts stay.');
    registration.stop();
    await server.stop();
  } finally {
    await cluster.close();
  }
}

function nodeService(cluster: ClusterLater, settings: Settings): NodeService {
  const { nodeId, zone, maxVolumes, unpublishUnstages } = settings;
  const volumes = (): Promise<VolumeLifecycle> => cluster.lifecycle();
  const { machine } = cluster;
  const parts = { machine, volumes, groups: nodeGroupAccess, clock: nodeClock };
  return new NodeService({ ...parts, nodeId, zone, maxVolumes, unpublishUnstages });
}

function sayReady({ mode, socket, nodeId }: Settings, json: boolean): void {
  const text = `serving CSI (${mode}) at ${socket} as ${nodeId}`;
  const line = json ? JSON.stringify({ event: 'ready', mode, socket, nodeId }) : text;
  process.stdout.write(`${line}\n`);
}

/** Makes this machine known to controllers, however long the metadata store is away. */
class Registration {
  readonly #volumes: () => Promise<VolumeLifecycle>;
  readonly #settings: Settings;
  readonly #log: Log;
  #stopped = false;
  #timer: Timer | null = null;

  constructor(volumes: () => Promise<VolumeLifecycle>, settings: Settings, log: Log) {
    this.#volumes = volumes;
    this.#settings = settings;
    this.#log = log;
  }

  start(): void {
    const { nodeId, zone, maxVolumes } = this.#settings;
    const again = (ms: number): void => {
      if (!this.#stopped) this.#timer = nodeClock.after(ms, () => this.start());
    };
    const registered = this.#volumes().then((volumes) => {
      return volumes.registerMachine(nodeId, zone, maxVolumes);
    });
    registered.then(
      // The metadata store may be put back from a time before.
      () => again(REGISTER_EVERY_MS),
      (thrown: unknown) => {
        const { code, message } = asFault(thrown, 'UNAVAILABLE');
        if (this.#stopped) return;
        this.#log.warn({ code, error: message }, 'The machine is not registered; trying again.');
        again(REGISTER_AGAIN_MS);
      },
    );
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }
}
