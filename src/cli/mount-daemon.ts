/**
 * `holdfast mount-daemon STATE`: the process behind a mount, started by its keeper and never by
 * people. It talks with its launcher over standard input and output while it starts, and with
 * everybody over the control socket.
 */
import { writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import { asFault, HoldfastError, invalid } from '../core/errors.js';
import type { InitReply } from '../fuse/encode.js';
import { mountAt } from '../fuse/launcher.js';
import {
  BUSY_POLL_MS,
  MAX_REPLY_PARTS,
  MAX_REQUESTS_A_WAKEUP,
  REPLY_COPY_MAX_BYTES,
  REQUEST_BUFFER_BYTES,
} from '../fuse/limits.js';
import { nodeClock } from '../io/node/clock.js';
import { NodeFuseDevice } from '../io/node/fuse-device.js';
import { serveSocket } from '../io/node/http.js';
import { createIntentFile, readIntentFile } from '../io/node/intent-file.js';
import { nodeLocalFiles } from '../io/node/local-files.js';
import { createLog } from '../io/node/log.js';
import { lowLatencyHere } from '../io/node/low-latency.js';
import { NodeMachineCommands } from '../io/node/machine-commands.js';
import { NodeMountHost } from '../io/node/mount-host.js';
import { expectBuffers, optimizeEarly } from '../io/node/process.js';
import {
  type Adoption,
  type IntentFiles,
  mayPass,
  readAdoption,
  untilAvailable,
} from '../lifecycle/adoption.js';
import {
  type DaemonEvent,
  EXIT_AGAIN,
  EXIT_HANDED_OVER,
  MOUNTED_LINE,
  plainFault,
  StateFile,
} from '../lifecycle/keeper.js';
import { MountDaemon } from '../lifecycle/mount-daemon.js';
import { readDevice, readInit, readSpec, writeInit, writeNote } from '../lifecycle/mount-files.js';
import type { LiveStatus, MountSpec } from '../lifecycle/mount-types.js';
import type { DirectoryCache } from '../metadata/directory-cache.js';
import { EXIT_CODES } from './errors.js';
import { MountMonitor } from './mount-monitor.js';
import { checkSession } from './node-secret.js';
import { Session } from './session.js';
import { NO_NODES } from './survey.js';
import { programVersion } from './version.js';

/** The keeper's descriptor of /dev/fuse. */
const FUSE_FD = 3;
/** Just above what the kernel never kills: a killed daemon is I/O errors for its users. */
const OOM_SCORE_ADJ = '-900';
/** For the mount(8) of a launcher that has died. */
const LAST_MOUNT_MS = 300;
const ABANDONED = 'the end of what started it';

export function addMountDaemonCommand(program: Command): void {
  program
    .command('mount-daemon <state>', { hidden: true })
    .description('serve a mount; started by "holdfast mount"')
    .action((state: string) => mountDaemon(resolve(state)));
}

/** What launcher and daemon say to each other; nothing is lost when the launcher is gone. */
class LauncherLink {
  /** Resolves to whether the launcher said so; false: it has gone. */
  readonly mounted: Promise<boolean>;
  /** The launcher's end of standard input is closed. */
  readonly gone: Promise<void>;

  constructor() {
    const input = createInterface({ input: process.stdin });
    process.stdin.on('error', () => input.close());
    this.gone = new Promise((resolve) => input.once('close', resolve));
    this.mounted = new Promise((resolve) => {
      input.on('line', (line) => {
        if (line === MOUNTED_LINE) resolve(true);
      });
      void this.gone.then(() => resolve(false));
    });
  }

  say(event: DaemonEvent): void {
    process.stdout.write(`${JSON.stringify(event)}\n`);
  }
}

async function mountDaemon(directory: string): Promise<void> {
  process.chdir('/');
  expectBuffers();
  optimizeEarly();
  protectFromOom();
  const host = new NodeMountHost({ program: [], runDirectory: dirname(dirname(directory)) });
  const spec = readSpec(host.state, basename(directory));
  if (spec === null) {
    const hint = 'Mounts are made with "holdfast mount".';
    throw invalid(`${directory} is no state directory of a mount`, hint);
  }
  const ended = await new MountProcess(spec, host).run();
  // The volume is given back: nothing that is still waiting for something may hold the mount's end.
  process.exit(ended);
}

/** What one mount's process is made of. */
class MountProcess {
  readonly #spec: MountSpec;
  readonly #host: NodeMountHost;
  readonly #link = new LauncherLink();
  readonly #log = createLog({ level: 'info' });
  readonly #intents: IntentFiles;
  #adoption: Adoption | null = null;
  #detail = 'starting';
  #daemon: MountDaemon | null = null;
  #onDaemon: (daemon: MountDaemon) => void = () => {};
  /** Why it is to end, as soon as it can. */
  #stopAsked: string | null = null;

  constructor(spec: MountSpec, host: NodeMountHost) {
    this.#spec = spec;
    this.#host = host;
    const path = host.state.path(spec.mount, StateFile.INTENTS);
    this.#intents = {
      read: () => readIntentFile(path),
      create: () => createIntentFile(path),
    };
  }

  /** Serves the mount to its end; resolves to the exit status. */
  async run(): Promise<number> {
    let fault: HoldfastError | null = null;
    try {
      fault = await this.#serveControl();
      if (this.#daemon?.handedOver === true) return EXIT_HANDED_OVER;
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError)) throw thrown;
      fault = thrown;
      // Nobody waits for what an adoption has to say: it goes to the log.
      if (readInit(this.#host.state, this.#spec.mount) !== null) {
        const again = mayPass(fault);
        const { volume } = this.#spec;
        this.#log.error({ volume, code: fault.code, again }, `Not adopted: ${fault.message}`);
        if (again) return EXIT_AGAIN;
      }
    }
    this.#noteEnd(fault);
    if (fault !== null) this.#link.say({ event: 'failed', fault: plainFault(fault) });
    return exitStatus(fault);
  }

  /** So that nobody takes the silence that follows for a daemon that died. */
  #noteEnd(fault: HoldfastError | null): void {
    writeNote(this.#host.state, this.#spec.mount, StateFile.OVER, String(exitStatus(fault)));
  }

  /** Answers over the control socket and listens to signals from the first moment on. */
  async #serveControl(): Promise<HoldfastError | null> {
    const daemon = new Promise<MountDaemon>((resolve) => {
      this.#onDaemon = resolve;
    });
    const monitor = new MountMonitor({ status: () => this.#waiting(), daemon }, this.#spec);
    const socket = this.#host.state.path(this.#spec.mount, StateFile.CONTROL);
    const control = await serveSocket(socket, (path, method) => monitor.answer(path, method));
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => this.#stop(signal));
    }
    if (this.#host.state.read(this.#spec.mount, StateFile.STOP) !== null) this.#stop('SIGTERM');
    try {
      this.#adoption = readAdoption(this.#host.state, this.#spec.mount, this.#intents);
      await this.#serveMetrics(monitor);
      const fault = await this.#withSession();
      if (this.#daemon?.handedOver !== true) this.#noteEnd(fault);
      return fault;
    } finally {
      control.close();
      monitor.close();
    }
  }

  /** Somebody else may have the port by now: a mount that lives goes on all the same. */
  async #serveMetrics(monitor: MountMonitor): Promise<void> {
    try {
      await monitor.listen();
    } catch (thrown) {
      if (this.#adoption === null) throw thrown;
      const { code, message } = asFault(thrown, 'UNAVAILABLE');
      const { volume } = this.#spec;
      this.#log.error({ volume, code }, `The mount goes on without its metrics: ${message}`);
    }
  }

  #stop(reason: string): void {
    this.#stopAsked ??= reason;
    void this.#daemon?.stop(reason);
  }

  /** A mount that lives waits for the metadata store; one that is being made does not. */
  async #withSession(): Promise<HoldfastError | null> {
    const { metadata, secretFile } = this.#spec;
    const options = { metadata, ...(secretFile === null ? {} : { secretFile }) };
    const open = (): Promise<HoldfastError | null> =>
      Session.run(options, async (session) => await this.#run(session));
    if (this.#adoption === null) return await open();
    this.#detail = 'waiting for the metadata store';
    // What fails later than at opening it fails for good, or is tried by another process.
    return await untilAvailable(
      nodeClock,
      (text) => this.#waitingFor(text),
      async () => {
        try {
          return await open();
        } catch (thrown) {
          if (this.#daemon === null || !(thrown instanceof HoldfastError)) throw thrown;
          throw new FailedLater(thrown);
        }
      },
    ).catch((thrown: unknown) => {
      throw thrown instanceof FailedLater ? thrown.fault : thrown;
    });
  }

  #waitingFor(text: string): void {
    if (text !== this.#detail) this.#log.warn({ volume: this.#spec.volume }, text);
    this.#detail = text;
  }

  /** What is known before there is a daemon. */
  #waiting(): LiveStatus {
    return {
      phase: this.#adoption === null ? 'starting' : 'adopting',
      detail: this.#detail,
      pid: process.pid,
      version: programVersion(),
      volumeId: this.#adoption?.volume ?? null,
      ...{ epoch: 0, sizeBytes: 0, usedBytes: 0, files: 0, freeFiles: 0, dirtyBytes: 0 },
      ...{ lastCommit: null, waitingSince: null, leaseHeld: false, localReadPages: 0 },
      residentBytes: process.memoryUsage.rss(),
    };
  }

  async #run(session: Session): Promise<HoldfastError | null> {
    const directory = await session.directory();
    const daemon = this.#compose(session, directory);
    this.#daemon = daemon;
    this.#onDaemon(daemon);
    if (this.#stopAsked !== null) void daemon.stop(this.#stopAsked);
    return await this.#serve(session, daemon);
  }

  #compose(session: Session, directory: DirectoryCache): MountDaemon {
    const { clock, random, store, clients: requests } = session;
    const [host, log, link] = [this.#host, this.#log, this.#link];
    const parts = { clock, random, log, store, requests, directory, host };
    const { pid } = process;
    const residentBytes = (): number => process.memoryUsage.rss();
    const [intents, adoption, version] = [this.#intents, this.#adoption, programVersion()];
    const here = {
      ...{ intents, adoption, version },
      hostname: this.#spec.machine ?? hostname(),
      pid,
      residentBytes,
      device: fuseDevice,
      commands: new NodeMachineCommands(),
      localFiles: process.env.HOLDFAST_LOCAL_READS === 'no' ? undefined : nodeLocalFiles(),
    };
    const handlers = {
      onProgress: (text: string) => link.say({ event: 'progress', text }),
      onReady: (agreed: InitReply) => {
        writeInit(host.state, this.#spec.mount, agreed);
        link.say({ event: 'ready' });
      },
    };
    return new MountDaemon({ ...parts, ...here }, this.#spec, handlers);
  }

  /** Loads, waits for the mount, serves it. */
  async #serve(session: Session, daemon: MountDaemon): Promise<HoldfastError | null> {
    const { foreground } = this.#spec;
    const isAdopted = this.#adoption !== null;
    let isLoaded = isAdopted;
    // Whoever waited for this mount has gone: without a mount there is nothing to serve.
    void this.#link.gone.then(() => {
      if (!isLoaded || foreground) void daemon.stop(ABANDONED);
    });
    try {
      await Promise.all([daemon.load(), isAdopted ? null : this.#checkNodes(session)]);
      isLoaded = true;
      if (isAdopted) daemon.serve(readDevice(this.#host.state, this.#spec.mount));
      else await this.#serveNew(daemon);
    } catch (thrown) {
      if (isAdopted && thrown instanceof HoldfastError && mayPass(thrown)) throw thrown;
      void daemon.stop('it could not be loaded');
      await daemon.ended;
      throw thrown;
    }
    return await daemon.ended;
  }

  async #serveNew(daemon: MountDaemon): Promise<void> {
    const { mount, directory } = this.#spec;
    const { state, mounts } = this.#host;
    this.#link.say({ event: 'loaded' });
    if (await this.#link.mounted) {
      return daemon.serve(mountAt(mounts.table(), directory)?.device ?? null);
    }
    // A launcher that was killed may have mounted all the same, or its mount(8) does so just now:
    // that is a mount like any other.
    await new Promise<void>((resolve) => nodeClock.after(LAST_MOUNT_MS, resolve));
    const device = this.#mountedUnnoted();
    if (device === null) return void daemon.stop(ABANDONED);
    state.write(mount, StateFile.DEVICE, `${device}\n`);
    daemon.serve(device);
  }

  /** What is mounted there from this volume and is no other daemon's. */
  #mountedUnnoted(): string | null {
    const { mount, directory, volume } = this.#spec;
    const { state, mounts } = this.#host;
    const found = mountAt(mounts.table(), directory);
    if (found?.source !== volume) return null;
    const others = state.list().filter((one) => one !== mount);
    const isTaken = others.some((one) => readDevice(state, one) === found.device);
    return isTaken ? null : found.device;
  }

  /** A takeover without nodes, or with a wrong secret, would wait for answers that never come. */
  async #checkNodes(session: Session): Promise<void> {
    const nodes = (await session.directory()).nodes();
    if (nodes.length > 0) return await checkSession(session);
    throw new HoldfastError('UNAVAILABLE', NO_NODES.message, { hint: NO_NODES.advice });
  }
}

function exitStatus(fault: HoldfastError | null): number {
  return fault === null ? 0 : EXIT_CODES[fault.code];
}

/** Not to be tried again in this process. */
class FailedLater extends Error {
  readonly fault: HoldfastError;
  constructor(fault: HoldfastError) {
    super(fault.message);
    this.fault = fault;
  }
}

function fuseDevice(): NodeFuseDevice {
  const lowLatency = lowLatencyHere(process.env);
  return new NodeFuseDevice(FUSE_FD, {
    bufferBytes: REQUEST_BUFFER_BYTES,
    maxRequestsAWakeup: MAX_REQUESTS_A_WAKEUP,
    copyMaxBytes: REPLY_COPY_MAX_BYTES,
    maxReplyParts: MAX_REPLY_PARTS,
    busyPollMs: BUSY_POLL_MS,
    onReply: lowLatency === null ? undefined : (bytes) => lowLatency.came(bytes),
  });
}

function protectFromOom(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', OOM_SCORE_ADJ);
  } catch {
    // without the right to, it is killed as others are
  }
}
