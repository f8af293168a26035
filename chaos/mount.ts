/**
 * A volume at a directory, as one machine mounts it: by the command line, as an administrator
 * would, and killed in every way there is. The machine is whatever `holdfast` runs commands on.
 */
import { readFileSync } from 'node:fs';
import { mountAt } from '../src/fuse/launcher.js';
import { parseMountTable } from '../src/io/node/fuse-device-mounts.js';
import type { MountStatus } from '../src/lifecycle/mount-types.js';
import { Process, untilGone } from '../test/fixtures/processes.js';

const COMMAND_MS = 120_000;
const UNMOUNT_MS = 30_000;
/** For another daemon to go on with the mount; the rest is up to the checks. */
const ADOPTED_MS = 60_000;

/** Runs a `holdfast` command; rejects when it fails, with what it said. */
export type Holdfast = (...args: string[]) => Promise<string>;

export interface Commands {
  /** Words before those of the command: the program, and what it runs in. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** A command that ended with another exit code than 0, or was killed. */
export class CommandFailed extends Error {
  readonly code: number | null;
  /** Its standard output. */
  readonly output: string;

  constructor(message: string, code: number | null, output: string) {
    super(message);
    this.code = code;
    this.output = output;
  }
}

/** Commands that have two minutes each; they reject with CommandFailed. */
export function commandsOf({ command, env }: Commands): Holdfast {
  const [program = '', ...words] = command;
  return async (...args) => {
    const running = new Process(program, [...words, ...args], { env, cwd: '/' });
    const timer = setTimeout(() => running.signal('SIGKILL'), COMMAND_MS);
    const { code, signal } = await running.exited;
    clearTimeout(timer);
    const output = running.lines.join('\n');
    if (code === 0) return output;
    const how = `holdfast ${args.join(' ')}: ${signal ?? `exit ${code}`}`;
    throw new CommandFailed(`${how}: ${output}${running.stderr}`, code, output);
  };
}

/** What `holdfast mount --json` prints, as far as it matters here. */
interface MountSaid {
  readonly keeperPid: number | null;
  readonly live: { readonly pid: number } | null;
}

export class VolumeMount {
  readonly volume: string;
  readonly directory: string;
  readonly #holdfast: Holdfast;
  /** Of the mount as it was made last; 0 before that. */
  #keeperPid = 0;

  /** The directory must be there. */
  constructor(volume: string, directory: string, holdfast: Holdfast) {
    this.volume = volume;
    this.directory = directory;
    this.#holdfast = holdfast;
  }

  async mount(...options: string[]): Promise<void> {
    const said = await this.#holdfast('mount', this.volume, this.directory, '--json', ...options);
    const { keeperPid, live } = JSON.parse(said) as MountSaid;
    if (keeperPid === null || live === null) throw new Error(`the mount says: ${said}`);
    this.#keeperPid = keeperPid;
  }

  async unmount(): Promise<void> {
    await this.#holdfast('umount', this.directory);
  }

  /** Everything written so far is on stable storage. */
  async sync(): Promise<void> {
    await this.#holdfast('sync', this.directory);
  }

  /** The mount's daemon of this moment; 0 when there is none. */
  get daemonPid(): number {
    const keeper = this.#keeperPid;
    try {
      const children = readFileSync(`/proc/${keeper}/task/${keeper}/children`, 'utf8');
      return Number(children.split(' ')[0]);
    } catch {
      return 0;
    }
  }

  isMounted(): boolean {
    const table = parseMountTable(readFileSync('/proc/self/mountinfo', 'latin1'));
    return mountAt(table, this.directory) !== undefined;
  }

  /** SIGKILL to the daemon alone; what it returns resolves once another one serves the mount. */
  killDaemon(): () => Promise<void> {
    const { daemonPid } = this;
    kill(daemonPid);
    return () => this.#adopted(daemonPid);
  }

  async #adopted(daemonPid: number): Promise<void> {
    const deadline = Date.now() + ADOPTED_MS;
    for (;;) {
      const all = JSON.parse(await this.#holdfast('mounts', '--json')) as MountStatus[];
      const mount = all.find(({ directory }) => directory === this.directory);
      if (mount?.state === 'mounted' && mount.live?.pid !== daemonPid) return;
      if (Date.now() > deadline) throw new Error(`not adopted: ${JSON.stringify(mount)}`);
    }
  }

  /**
   * SIGKILL to the daemon and its keeper, that one first: it would start another daemon. Returns
   * their pids at once; what is left of the mount answers errors until `clear`.
   */
  killBoth(): number[] {
    const both = this.pids();
    for (const pid of both) kill(pid);
    return both;
  }

  /** The pids of keeper and daemon, in this order, as far as they run. */
  pids(): number[] {
    return [this.#keeperPid, this.daemonPid].filter((pid) => pid > 0);
  }

  /** SIGKILL to daemon and keeper: nobody goes on with the mount, and it is taken away. */
  async kill(): Promise<void> {
    await untilGone(this.killBoth());
    await this.clear();
  }

  /** A mount whose daemon and keeper are dead answers nothing but errors; it is taken away. */
  async clear(): Promise<void> {
    const deadline = Date.now() + UNMOUNT_MS;
    while (this.isMounted()) {
      const umount = new Process('umount', ['-i', '-c', '-l', this.directory]);
      await umount.exited;
      if (Date.now() > deadline) throw new Error(`${this.directory} stays: ${umount.stderr}`);
    }
  }
}

/** SIGKILL, or another signal, also to what is gone already. */
export function kill(pid: number, signal: NodeJS.Signals = 'SIGKILL'): void {
  try {
    process.kill(pid, signal);
  } catch {
    // gone already
  }
}
