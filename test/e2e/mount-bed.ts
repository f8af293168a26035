/**
 * A real cluster with volumes to mount: `holdfast` commands in a run directory of their own, what
 * touches a mount in children under timeout(1), and a check that nothing was left behind.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LiveStatus, MountStatus } from '../../src/lifecycle/mount-types.js';
import { Cluster, type ClusterOptions } from '../fixtures/cluster.js';
import { holdfastBin, type Process, startNode } from '../fixtures/processes.js';
import { isMounted, type Result, shell } from '../fuse/mounted.js';

const COMMAND_MS = 90_000;
const GONE_MS = 20_000;

export interface Said {
  readonly code: number | null;
  readonly lines: readonly string[];
  readonly stderr: string;
}

/** As `holdfast mount --json` prints it. */
export interface Mount extends MountStatus {
  readonly live: LiveStatus;
}

export class MountBed {
  readonly cluster: Cluster;
  readonly root: string;
  /** Whether mounts read what stands on this machine past the nodes. */
  localReads = true;
  readonly #directories: string[] = [];
  readonly #pids = new Set<number>();

  private constructor(cluster: Cluster) {
    this.cluster = cluster;
    this.root = mkdtempSync(join(tmpdir(), 'hf-mount-'));
  }

  /** A cluster with an empty volume "db" of 1 GiB. */
  static async start(options: ClusterOptions = {}): Promise<MountBed> {
    const bed = new MountBed(await Cluster.start({ labels: {}, ...options }));
    const made = await bed.holdfast('volume', 'create', 'db', '--size', '1GiB');
    if (made.code !== 0) throw new Error(made.stderr);
    return bed;
  }

  get environment(): Record<string, string> {
    return {
      HOLDFAST_METADATA: this.cluster.etcd.url,
      HOLDFAST_SECRET_FILE: this.cluster.secretFile,
      HOLDFAST_RUN_DIR: this.runDirectory,
      ...(this.localReads ? {} : { HOLDFAST_LOCAL_READS: 'no' }),
    };
  }

  readonly program = holdfastBin;

  get runDirectory(): string {
    return join(this.root, 'run');
  }

  /** A new, empty directory below the root. */
  directory(name: string): string {
    const path = join(this.root, name);
    mkdirSync(path, { recursive: true });
    this.#directories.push(path);
    return path;
  }

  start(args: readonly string[], env: Record<string, string> = {}): Process {
    return startNode(holdfastBin, args, { env: { ...this.environment, ...env }, cwd: '/' });
  }

  async holdfast(...args: string[]): Promise<Said> {
    return await this.said(this.start(args));
  }

  /** What a command said until it ended; killed when that takes too long. */
  async said(command: Process): Promise<Said> {
    const timer = setTimeout(() => command.signal('SIGKILL'), COMMAND_MS);
    const { code } = await command.exited;
    clearTimeout(timer);
    return { code, lines: command.lines, stderr: command.stderr };
  }

  /** Mounts and tells how; rejects when that fails. */
  async mount(volume: string, directory: string, ...more: string[]): Promise<Mount> {
    const { code, lines, stderr } = await this.holdfast(
      'mount',
      volume,
      directory,
      '--json',
      ...more,
    );
    if (code !== 0) throw new Error(`exit ${code}: ${stderr}`);
    const mount = JSON.parse(lines[0] ?? '') as Mount;
    this.#pids.add(mount.live.pid).add(mount.keeperPid ?? -1);
    return mount;
  }

  async mounts(): Promise<MountStatus[]> {
    const { lines } = await this.holdfast('mounts', '--json');
    return JSON.parse(lines[0] ?? '[]') as MountStatus[];
  }

  /** State directories that stand. */
  get states(): string[] {
    try {
      // What is being removed is hidden, and swept by the next start if nobody ends that.
      const names = readdirSync(join(this.runDirectory, 'mounts'));
      return names.filter((name) => !name.startsWith('.'));
    } catch {
      return [];
    }
  }

  #filesOf(state: string): string {
    try {
      return readdirSync(join(this.runDirectory, 'mounts', state)).join(' ');
    } catch {
      return 'gone';
    }
  }

  log(volume: string): string {
    return readFileSync(join(this.runDirectory, 'log', `${volume}.log`), 'utf8');
  }

  /** What is left of all mounts so far, once it has had the time to go: nothing, it is hoped. */
  async leftovers(): Promise<string[]> {
    const deadline = Date.now() + GONE_MS;
    for (;;) {
      const left = [
        ...this.#directories.filter(isMounted).map((path) => `mount ${path}`),
        ...this.states.map((state) => `state ${state}: ${this.#filesOf(state)}`),
        ...processesBelow(this.runDirectory).map((pid) => `process ${pid}`),
        ...[...this.#pids].filter(isAlive).map((pid) => `process ${pid}`),
      ];
      if (left.length === 0 || Date.now() > deadline) return left;
      await sleep(100);
    }
  }

  /** Throws when a mount, a process or a state directory is left behind. */
  async assertNothingLeft(): Promise<void> {
    const left = await this.leftovers();
    if (left.length > 0) throw new Error(`left behind: ${left.join(', ')}`);
  }

  /** Idempotent. */
  async close(): Promise<void> {
    for (const path of this.#directories) {
      if (isMounted(path)) await shell(`umount -i -c -l '${path}'`);
    }
    for (const pid of processesBelow(this.runDirectory)) {
      if (isAlive(pid)) process.kill(pid, 'SIGKILL');
    }
    await this.cluster.close();
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** Keepers and daemons of a run directory, by their command lines. */
export function processesBelow(runDirectory: string): number[] {
  const found: number[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const words = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0');
      if (words.some((word) => word.startsWith(`${runDirectory}/mounts/`)))
        found.push(Number(name));
    } catch {
      // it has ended
    }
  }
  return found;
}

export function isAlive(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** Waits for something, for a bounded time. */
export async function until(what: string, test: () => boolean, timeoutMs = 30_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!test()) {
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await sleep(50);
  }
}

export { isMounted, type Result, shell };
