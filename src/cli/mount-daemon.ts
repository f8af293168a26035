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
import { HoldfastError, invalid } from '../core/errors.js';
import type { InitReply } from '../fuse/encode.js';
import { mountAt } from '../fuse/launcher.js';
import {
  MAX_REPLY_PARTS,
  MAX_REQUESTS_A_WAKEUP,
  REPLY_COPY_MAX_BYTES,
  REQUEST_BUFFER_BYTES,
} from '../fuse/limits.js';
import { NodeFuseDevice } from '../io/node/fuse-device.js';
import { serveSocket } from '../io/node/http.js';
import { createLog } from '../io/node/log.js';
import { NodeMountHost } from '../io/node/mount-host.js';
import { type DaemonEvent, MOUNTED_LINE, plainFault, StateFile } from '../lifecycle/keeper.js';
import { MountDaemon } from '../lifecycle/mount-daemon.js';
import { readSpec, writeInit } from '../lifecycle/mount-files.js';
import type { MountSpec } from '../lifecycle/mount-types.js';
import type { DirectoryCache } from '../metadata/directory-cache.js';
import { EXIT_CODES } from './errors.js';
import { MountMonitor } from './mount-monitor.js';
import { checkSecret } from './node-secret.js';
import { loadSecret } from './secret.js';
import { Session } from './session.js';

/** The keeper's descriptor of /dev/fuse. */
const FUSE_FD = 3;
/** Just above what the kernel never kills: a killed daemon is I/O errors for its users. */
const OOM_SCORE_ADJ = '-900';

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
  protectFromOom();
  const host = new NodeMountHost({ program: [], runDirectory: dirname(dirname(directory)) });
  const spec = readSpec(host.state, basename(directory));
  if (spec === null) {
    const hint = 'Mounts are made with "holdfast mount".';
    throw invalid(`${directory} is no state directory of a mount`, hint);
  }
  const link = new LauncherLink();
  const { metadata, secretFile } = spec;
  const options = { metadata, ...(secretFile === null ? {} : { secretFile }) };
  let fault: HoldfastError | null = null;
  try {
    fault = await Session.run(options, (session) => {
      return new MountProcess(session, spec, host, link).run();
    });
  } catch (thrown) {
    if (!(thrown instanceof HoldfastError)) throw thrown;
    fault = thrown;
  }
  if (fault !== null) link.say({ event: 'failed', fault: plainFault(fault) });
  // The volume is given back: nothing that is still waiting for something may hold the mount's end.
  process.exit(fault === null ? 0 : EXIT_CODES[fault.code]);
}

/** What one mount's process is made of. */
class MountProcess {
  readonly #session: Session;
  readonly #spec: MountSpec;
  readonly #host: NodeMountHost;
  readonly #link: LauncherLink;
  readonly #log = createLog({ level: 'info' });

  constructor(session: Session, spec: MountSpec, host: NodeMountHost, link: LauncherLink) {
    this.#session = session;
    this.#spec = spec;
    this.#host = host;
    this.#link = link;
  }

  /** Serves the mount to its end, and says what went wrong, if anything. */
  async run(): Promise<HoldfastError | null> {
    const daemon = this.#compose(await this.#session.directory());
    const monitor = new MountMonitor(daemon, this.#spec);
    const socket = this.#host.state.path(this.#spec.mount, StateFile.CONTROL);
    const control = await serveSocket(socket, (path, method) => monitor.answer(path, method));
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => void daemon.stop(signal));
    }
    try {
      await monitor.listen();
      return await this.#serve(daemon);
    } finally {
      control.close();
      monitor.close();
    }
  }

  #compose(directory: DirectoryCache): MountDaemon {
    const { clock, random, store, clients: requests } = this.#session;
    const [host, log, link] = [this.#host, this.#log, this.#link];
    const parts = { clock, random, log, store, requests, directory, host };
    const { pid } = process;
    const residentBytes = (): number => process.memoryUsage.rss();
    const here = {
      hostname: this.#spec.machine ?? hostname(),
      pid,
      residentBytes,
      device: fuseDevice,
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
  async #serve(daemon: MountDaemon): Promise<HoldfastError | null> {
    const { directory, foreground, volume } = this.#spec;
    let isLoaded = false;
    // Whoever waited for this mount has gone: without a mount there is nothing to serve.
    const abandoned = 'the end of what started it';
    void this.#link.gone.then(() => {
      if (!isLoaded || foreground) void daemon.stop(abandoned);
    });
    try {
      await Promise.all([daemon.load(), this.#checkSecret()]);
      isLoaded = true;
      this.#link.say({ event: 'loaded' });
      const isMounted = await this.#link.mounted;
      // A launcher that was killed may have mounted all the same: that is a mount like any other.
      const found = mountAt(this.#host.mounts.table(), directory);
      if (isMounted || found?.source === volume) daemon.serve(found?.device ?? null);
      else void daemon.stop(abandoned);
    } catch (thrown) {
      void daemon.stop('it could not be loaded');
      await daemon.ended;
      throw thrown;
    }
    return await daemon.ended;
  }

  /** A takeover with a wrong secret would wait for answers that never come. */
  async #checkSecret(): Promise<void> {
    const { cluster } = this.#session.cluster;
    const secret = loadSecret(this.#spec.secretFile ?? undefined, process.env);
    const directory = await this.#session.directory();
    await checkSecret({ cluster, secret }, directory.nodes());
  }
}

function fuseDevice(): NodeFuseDevice {
  return new NodeFuseDevice(FUSE_FD, {
    bufferBytes: REQUEST_BUFFER_BYTES,
    maxRequestsAWakeup: MAX_REQUESTS_A_WAKEUP,
    copyMaxBytes: REPLY_COPY_MAX_BYTES,
    maxReplyParts: MAX_REPLY_PARTS,
  });
}

function protectFromOom(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', OOM_SCORE_ADJ);
  } catch {
    // without the right to, it is killed as others are
  }
}
