/**
 * The real MountHost: state below /run, keepers as detached shells in sessions of their own,
 * daemons asked over HTTP on unix sockets.
 */
import { spawn } from 'node:child_process';
import {
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { HoldfastError, invalid } from '../../core/errors.js';
import { KIB, MIB } from '../../core/units.js';
import type {
  ControlAnswer,
  Keeper,
  KeeperHandlers,
  KeeperOptions,
  MountHost,
  ProcessIdentity,
  StateDirectory,
} from '../mount-host.js';
import { saysFull } from './full.js';
import { NodeFuseMounts } from './fuse-device-mounts.js';

export const RUN_DIRECTORY = '/run/holdfast';
/** sun_path holds 108 bytes with its end. */
const SOCKET_PATH_MAX = 107;
const LONGEST_ENTRY = `/mounts/${'0'.repeat(16)}/control`;
/** A log that is larger when a mount starts begins anew: /run is memory. */
const LOG_MAX_BYTES = 1 * MIB;
const ANSWER_MAX_BYTES = 256 * KIB;
/** Entries that are being made or removed. One that stays was its process's last deed. */
const HIDDEN = '.';
const HIDDEN_MAX_MS = 60_000;
/** Write permission of group and others. */
const OTHERS_WRITE = 0o022;

export interface MountHostOptions {
  /** Default: /run/holdfast. */
  readonly runDirectory?: string | undefined;
  /** The command line that runs this program. */
  readonly program: readonly string[];
}

export class NodeMountHost implements MountHost {
  readonly mounts = new NodeFuseMounts();
  readonly state: StateDirectory;
  readonly program: readonly string[];

  /** Throws INVALID_ARGUMENT for a run directory whose sockets would have too long paths. */
  constructor(options: MountHostOptions) {
    this.program = options.program;
    this.state = new RunDirectory(options.runDirectory ?? RUN_DIRECTORY);
  }

  startKeeper(options: KeeperOptions, handlers: KeeperHandlers): Keeper {
    const { script, args, descriptor, logFile } = options;
    const log = logFile === null ? 'inherit' : openLog(logFile);
    try {
      const child = spawn('/bin/sh', ['-c', script, 'holdfast-mount', ...args], {
        stdio: ['pipe', 'pipe', log, descriptor.fd],
        detached: true,
        cwd: '/',
      });
      return adoptChild(child, handlers);
    } finally {
      if (typeof log === 'number') closeSync(log);
    }
  }

  identify(pid: number): ProcessIdentity | null {
    try {
      const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
      // The name in parentheses may hold anything; the state follows it, the start is field 22.
      const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
      return fields[0] === 'Z' ? null : { pid, startTicks: fields[19] ?? '' };
    } catch {
      return null;
    }
  }

  ask(
    socket: string,
    { method, path }: { readonly method: 'GET' | 'POST'; readonly path: string },
    timeoutMs: number,
  ): Promise<ControlAnswer> {
    return new Promise((resolve, reject) => {
      const request = http.request({ socketPath: socket, method, path, agent: false });
      const timer = setTimeout(() => {
        request.destroy();
        reject(new HoldfastError('TIMEOUT', 'the mount daemon does not answer'));
      }, timeoutMs);
      const fail = (error: Error): void => {
        clearTimeout(timer);
        const message = `the mount daemon cannot be reached: ${error.message}`;
        reject(new HoldfastError('UNAVAILABLE', message, { cause: error }));
      };
      request.on('error', fail);
      request.on('response', (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (text: string) => {
          body = (body + text).slice(0, ANSWER_MAX_BYTES);
        });
        response.on('error', fail);
        response.on('end', () => {
          clearTimeout(timer);
          resolve({ status: response.statusCode ?? 0, body });
        });
      });
      request.end();
    });
  }
}

function openLog(path: string): number {
  let flags = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND;
  try {
    if (statSync(path).size > LOG_MAX_BYTES) flags |= constants.O_TRUNC;
  } catch {
    // it is not there yet
  }
  return openSync(path, flags, 0o600);
}

function adoptChild(child: ReturnType<typeof spawn>, handlers: KeeperHandlers): Keeper {
  const { stdin, stdout } = child;
  stdin?.on('error', () => {});
  if (stdout !== null) createInterface({ input: stdout }).on('line', handlers.onLine);
  child.once('error', (error) => handlers.onExit(error.message));
  child.once('exit', (code, signal) => handlers.onExit(code ?? signal ?? 'unknown'));
  const pid = child.pid ?? -1;
  return {
    pid,
    write: (line) => void stdin?.write(`${line}\n`),
    end: () => void stdin?.end(),
    kill: () => {
      try {
        process.kill(-pid, 'SIGKILL');
      } catch {
        // it has ended
      }
    },
    detach: () => {
      stdout?.destroy();
      child.unref();
    },
  };
}

class RunDirectory implements StateDirectory {
  readonly #root: string;

  constructor(root: string) {
    if (Buffer.byteLength(root + LONGEST_ENTRY) > SOCKET_PATH_MAX) {
      const hint =
        'Sockets below it would have too long paths: give HOLDFAST_RUN_DIR a shorter one.';
      throw invalid(`the run directory ${root} has a long path`, hint);
    }
    this.#root = root;
  }

  path(entry: string, file = ''): string {
    return join(this.#root, 'mounts', entry, file);
  }

  list(): string[] {
    try {
      this.#checkOwner();
      return readdirSync(this.path('')).filter((name) => !name.startsWith(HIDDEN));
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw this.#fault(thrown);
    }
  }

  create(entry: string, files: Readonly<Record<string, string>>): void {
    this.#sweep();
    const made = `${HIDDEN}new-${entry}`;
    this.#make(this.path(made));
    try {
      for (const [file, text] of Object.entries(files)) {
        writeFileSync(this.path(made, file), text, { mode: 0o600 });
      }
      renameSync(this.path(made), this.path(entry));
    } catch (thrown) {
      rmSync(this.path(made), { recursive: true, force: true });
      throw this.#fault(thrown);
    }
  }

  write(entry: string, file: string, text: string): void {
    const path = this.path(entry, file);
    try {
      writeFileSync(`${path}.new`, text, { mode: 0o600 });
      renameSync(`${path}.new`, path);
    } catch (thrown) {
      throw this.#fault(thrown);
    }
  }

  read(entry: string, file: string): string | null {
    try {
      return readFileSync(this.path(entry, file), 'utf8');
    } catch {
      return null;
    }
  }

  remove(entry: string): void {
    const removed = this.path(`${HIDDEN}old-${entry}`);
    try {
      // Nobody sees half of it, and a daemon without a keeper writes no last note into it.
      renameSync(this.path(entry), removed);
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw this.#fault(thrown);
    }
    rmSync(removed, { recursive: true, force: true });
  }

  /** What processes left that were killed while they made or removed an entry. */
  #sweep(): void {
    let names: string[] = [];
    try {
      names = readdirSync(this.path('')).filter((name) => name.startsWith(HIDDEN));
    } catch {
      // nothing was ever mounted
    }
    for (const name of names) {
      const changed = statSync(this.path(name), { throwIfNoEntry: false })?.mtimeMs ?? 0;
      if (Date.now() - changed < HIDDEN_MAX_MS) continue;
      rmSync(this.path(name), { recursive: true, force: true });
    }
  }

  logFile(name: string): string {
    const directory = join(this.#root, 'log');
    this.#make(directory);
    return join(directory, `${name}.log`);
  }

  #make(path: string): void {
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 });
      this.#checkOwner();
    } catch (thrown) {
      throw this.#fault(thrown);
    }
  }

  /** Whoever may write here says what is mounted, and where logs go. */
  #checkOwner(): void {
    const { uid, mode } = statSync(this.#root);
    const isOurs = [uid, lstatSync(this.#root).uid].every((one) => {
      return one === 0 || one === process.geteuid?.();
    });
    if (!isOurs || (mode & OTHERS_WRITE) !== 0) {
      throw new Error(`others may write to it (owner ${uid}, mode ${(mode & 0o7777).toString(8)})`);
    }
  }

  #fault(thrown: unknown): HoldfastError {
    const message = `${this.#root} cannot be used: ${(thrown as Error).message}`;
    if (saysFull(thrown)) {
      const hint = 'Make room there: it is memory, and holds what mounts need.';
      return new HoldfastError('DISK_FULL', message, { hint, cause: thrown });
    }
    const hint = 'Run as root, or set HOLDFAST_RUN_DIR.';
    return new HoldfastError('UNAVAILABLE', message, { hint, cause: thrown });
  }
}
