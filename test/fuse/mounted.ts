/**
 * A filesystem mounted for tests by test/fuse/daemon.ts (see its flags): the daemon is a child
 * process, and whatever touches the mount is another, under timeout(1), so that a hang is a failed
 * test and not a hung one. Leaves no mount and no process behind.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountAt } from '../../src/fuse/launcher.js';
import { parseMountTable } from '../../src/io/node/fuse-device-mounts.js';
import { distRoot, type Process, startNode } from '../fixtures/processes.js';

const COMMAND_SECONDS = 60;
const END_MS = 5_000;

/** Why tests with real mounts cannot run here, or false. */
export function cannotMount(): string | false {
  if (process.getuid?.() !== 0) return 'mounting needs root';
  try {
    readFileSync('/proc/filesystems', 'utf8').includes('fuse') || readFileSync('/dev/fuse');
    return false;
  } catch {
    return 'there is no /dev/fuse';
  }
}

export interface Stats {
  readonly underWay: number;
  readonly inodes: number;
  readonly commits: number;
  readonly complaints: readonly string[];
  readonly seen: { write: number; read: number; lookups: number; listings: number };
}

/** What a daemon with `--volume` says. */
export interface VolumeStats {
  readonly underWay: number;
  readonly inodes: number;
  readonly orphans: number;
  readonly usedBytes: number;
  readonly checkpoints: number;
  readonly deletedSegments: number;
  readonly failure: string | null;
}

export interface Result {
  readonly status: number | null;
  /** Standard output and standard error, trimmed. */
  readonly text: string;
}

/** Runs a shell script under a time limit. */
export function shell(
  script: string,
  options: { cwd?: string; uid?: number; gid?: number } = {},
): Promise<Result> {
  const { uid = 0, gid = uid, cwd } = options;
  // The shell changes into the directory itself: a hanging mount must hang it, not this process.
  const full = cwd === undefined ? script : `cd '${cwd}' || exit 99\n${script}`;
  const limit = ['-k', '5', String(COMMAND_SECONDS)];
  const identity = ['--reuid', String(uid), '--regid', String(gid), '--clear-groups'];
  const command = uid === 0 ? ['sh', '-c', full] : ['setpriv', ...identity, 'sh', '-c', full];
  return new Promise((done) => {
    const child = spawn('timeout', [...limit, ...command], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' },
      cwd: '/',
    });
    let text = '';
    const add = (data: Buffer): void => {
      text += data.toString();
    };
    child.stdout.on('data', add);
    child.stderr.on('data', add);
    child.on('error', (error) => done({ status: null, text: error.message }));
    child.on('close', (status) => done({ status, text: text.trim() }));
  });
}

/** Whether a volume is mounted at a path, by the kernel's table. */
export function isMounted(path: string): boolean {
  const table = parseMountTable(readFileSync('/proc/self/mountinfo', 'latin1'));
  return mountAt(table, path)?.type === 'fuse.holdfast';
}

export class Mounted {
  readonly directory: string;
  readonly daemon: Process;

  private constructor(directory: string, daemon: Process) {
    this.directory = directory;
    this.daemon = daemon;
  }

  /** Mounts at a new directory; `flags` are the daemon's. */
  static async start(...flags: string[]): Promise<Mounted> {
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-fuse-'));
    const daemon = startNode(`${distRoot}test/fuse/daemon.js`, [directory, ...flags], { cwd: '/' });
    const mounted = new Mounted(directory, daemon);
    try {
      await daemon.line(/^ready/, 60_000);
    } catch (thrown) {
      await mounted.end();
      throw thrown;
    }
    return mounted;
  }

  /** A script run in the mount's root. */
  run(script: string, uid = 0, gid = uid): Promise<Result> {
    return shell(script, { cwd: this.directory, uid, gid });
  }

  async stats<T = Stats>(): Promise<T> {
    return JSON.parse((await this.#tell('stats', /^stats /)).slice(6)) as T;
  }

  #tell(command: string, answer: RegExp): Promise<string> {
    const from = this.daemon.lines.length;
    this.daemon.write(command);
    return this.daemon.line(answer, 60_000, from);
  }

  /** Of a volume: unmounts, and mounts it again from its log. Nobody may be using it. */
  async remount(): Promise<void> {
    await this.#tell('remount', /^ready/);
  }

  /** Of a volume: its daemon dies and is started again; what was not fsynced is lost. */
  async crash(): Promise<void> {
    await this.#tell('crash 0', /^ready/);
  }

  /** What the daemon said when it ended. */
  async lastWords(): Promise<Stats & { error: string | null }> {
    await this.daemon.exited;
    const line = this.daemon.lines.findLast((each) => each.startsWith('end '));
    return JSON.parse(line?.slice(4) ?? 'null');
  }

  /** Unmounts whatever is left, ends the daemon, removes the directory. Idempotent. */
  async end(): Promise<void> {
    if (isMounted(this.directory)) {
      await shell(`umount -i -c -l '${this.directory}'`);
      // Then it ends by itself, and a signal that comes as it does would be what it ends with.
      await Promise.race([this.daemon.exited, sleep(END_MS, undefined, { ref: false })]);
    }
    await this.daemon.stop(END_MS);
    try {
      rmdirSync(this.directory);
    } catch {
      // removed by an earlier call
    }
  }
}
