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
import { mountAt } from '../fuse/launcher.js';
import {
  MAX_REPLY_PARTS,
  MAX_REQUESTS_A_WAKEUP,
  REPLY_COPY_MAX_BYTES,
  REQUEST_BUFFER_BYTES,
} from '../fuse/limits.js';
import type { Log } from '../io/log.js';
import { NodeFuseDevice } from '../io/node/fuse-device.js';
import { serveSocket } from '../io/node/http.js';
import { createLog } from '../io/node/log.js';
import { NodeMountHost } from '../io/node/mount-host.js';
import { type DaemonEvent, MOUNTED_LINE, plainFault, StateFile } from '../lifecycle/keeper.js';
import { MountDaemon } from '../lifecycle/mount-daemon.js';
import { readSpec, writeInit } from '../lifecycle/mount-files.js';
import type { MountSpec } from '../lifecycle/mount-types.js';
import { EXIT_CODES } from './errors.js';
import { MountMonitor } from './mount-monitor.js';
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
  const log = createLog({ level: 'info' });
  const { metadata, secretFile } = spec;
  const options = { metadata, ...(secretFile === null ? {} : { secretFile }) };
  let fault: HoldfastError | null = null;
  try {
    fault = await Session.run(options, (session) => serve(session, spec, host, link, log));
  } catch (thrown) {
    fault = asFault(thrown, 'UNAVAILABLE');
    if (!(thrown instanceof HoldfastError)) throw thrown;
  }
  if (fault !== null) {
    link.say({ event: 'failed', fault: plainFault(fault) });
  }
  // The volume is given back: nothing that is still waiting for something may hold the mount's end.
  process.exit(fault === null ? 0 : EXIT_CODES[fault.code]);
}

async function serve(
  session: Session,
  spec: MountSpec,
  host: NodeMountHost,
  link: LauncherLink,
  log: Log,
): Promise<HoldfastError | null> {
  const { clock, random, store, clients: requests } = session;
  const directory = await session.directory();
  const daemon = new MountDaemon(
    {
      ...{ clock, random, log, store, requests, directory, host },
      hostname: hostname(),
      device: fuseDevice,
      pid: process.pid,
      residentBytes: () => process.memoryUsage.rss(),
    },
    spec,
    {
      onProgress: (text) => link.say({ event: 'progress', text }),
      onReady: (agreed) => {
        writeInit(host.state, spec.mount, agreed);
        link.say({ event: 'ready' });
      },
    },
  );
  const monitor = new MountMonitor(daemon, spec);
  const socket = host.state.path(spec.mount, StateFile.CONTROL);
  const control = await serveSocket(socket, (path, method) => monitor.answer(path, method));
  const stop = (reason: string): void => void daemon.stop(reason);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop(signal));
  try {
    await monitor.listen();
    return await run(daemon, spec, host, link, stop);
  } finally {
    control.close();
    monitor.close();
  }
}

/** Loads, waits for the mount, serves it to its end. */
async function run(
  daemon: MountDaemon,
  spec: MountSpec,
  host: NodeMountHost,
  link: LauncherLink,
  stop: (reason: string) => void,
): Promise<HoldfastError | null> {
  let isLoaded = false;
  // Whoever waited for this mount has gone: without a mount there is nothing to serve.
  void link.gone.then(() => {
    if (!isLoaded || spec.foreground) stop('the end of what started it');
  });
  try {
    await daemon.load();
  } catch (thrown) {
    stop('it could not be loaded');
    await daemon.ended;
    throw thrown;
  }
  isLoaded = true;
  link.say({ event: 'loaded' });
  const isMounted = await link.mounted;
  // A launcher that was killed may have mounted all the same: then that is a mount like any other.
  const left = mountAt(host.mounts.table(), spec.directory);
  if (isMounted || left?.source === spec.volume) daemon.serve(left?.device ?? null);
  else stop('the end of what started it');
  return await daemon.ended;
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
