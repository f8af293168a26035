/**
 * Machines for tests with real Docker Engines: pid, mount, host name and network namespaces of
 * their own, joined by a bridge, so that each has its own /run, plugins, mounts and address, can be
 * cut off the network, and can die as a whole. Nothing of one outlives `close`.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { dropCopies } from '../fixtures/copied-mounts.js';
import { Process, run } from '../fixtures/processes.js';

const READY_MS = 60_000;
const NEEDED = ['dockerd', 'docker', 'containerd', 'busybox', 'docker-init', 'ip', 'nsenter'];

/** Why tests with a real engine cannot run here, or false. */
export function cannotRunDocker(): string | false {
  if (process.getuid?.() !== 0) return 'a Docker Engine needs root';
  if (!existsSync('/dev/fuse')) return 'there is no /dev/fuse';
  const missing = NEEDED.filter(
    (name) => spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0,
  );
  if (missing.length > 0) return `not installed: ${missing.join(', ')}`;
  const tried = spawnSync('unshare', ['--pid', '--fork', '--mount', '--uts', '--net', 'true']);
  return tried.status === 0 ? false : 'namespaces cannot be made here';
}

/** A bridge in this machine's own network namespace, with an address that its machines reach. */
export class Bridge {
  readonly name = `hfd${process.pid}`;
  readonly #prefix = `10.${200 + (process.pid % 50)}.${process.pid % 250}`;
  #next = 2;

  get address(): string {
    return `${this.#prefix}.1`;
  }

  async open(): Promise<void> {
    removeStale();
    // Of its own: else it is that of a machine, and goes with it, and the others still send there.
    const own = ['address', '02:00:00:00:00:01'];
    await run('ip', 'link', 'add', this.name, ...own, 'type', 'bridge');
    await run('ip', 'address', 'add', `${this.address}/24`, 'dev', this.name);
    await run('ip', 'link', 'set', this.name, 'up');
  }

  nextAddress(): string {
    return `${this.#prefix}.${this.#next++}`;
  }

  /** Idempotent. */
  close(): void {
    spawnSync('ip', ['link', 'delete', this.name]);
  }
}

export class Machine {
  readonly name: string;
  readonly address: string;
  readonly root: string;
  readonly #link: string;
  readonly #holder: Process;
  /** Process 1 of the machine, as seen from outside. */
  readonly #init: number;

  private constructor(parts: {
    name: string;
    address: string;
    root: string;
    link: string;
    holder: Process;
    init: number;
  }) {
    this.name = parts.name;
    this.address = parts.address;
    this.root = parts.root;
    this.#link = parts.link;
    this.#holder = parts.holder;
    this.#init = parts.init;
  }

  static async start(bridge: Bridge, name: string, root: string): Promise<Machine> {
    mkdirSync(root, { recursive: true });
    const spaces = ['--pid', '--fork', '--kill-child', '--mount-proc', '--mount', '--uts', '--net'];
    const script = `
      hostname '${name}'
      ${dropCopies()}
      mount -t tmpfs tmpfs /run
      mount --make-rshared /
      ip link set lo up
      echo ready
      exec docker-init -- sleep infinity`;
    const holder = new Process('unshare', [...spaces, '--', 'sh', '-ec', script], { cwd: '/' });
    await holder.line(/^ready$/, READY_MS);
    const [init] = childrenOf(holder.pid);
    if (init === undefined) throw new Error('the machine has no first process');
    const address = bridge.nextAddress();
    // No bridge has such a name: removeStale would take it for that of another process.
    const link = `${bridge.name}-${address.split('.')[3]}`;
    await run('ip', 'link', 'add', link, 'type', 'veth', 'peer', 'eth0', 'netns', String(init));
    await run('ip', 'link', 'set', link, 'master', bridge.name, 'up');
    const machine = new Machine({ name, address, root, link, holder, init });
    await machine.run('ip', 'address', 'add', `${address}/24`, 'dev', 'eth0');
    await machine.run('ip', 'link', 'set', 'eth0', 'up');
    return machine;
  }

  /** Starts a program on this machine. */
  start(command: readonly string[], env: Readonly<Record<string, string>> = {}): Process {
    const enter = ['-t', String(this.#init), '-m', '-u', '-n', '-p', '--', ...command];
    return new Process('nsenter', enter, { env, cwd: '/' });
  }

  /** Runs a program there to its end. Rejects when it fails or takes too long. */
  async run(...command: string[]): Promise<string> {
    const process = this.start(['timeout', '-k', '5', '90', ...command]);
    const { code } = await process.exited;
    if (code === 0) return process.lines.join('\n');
    throw new Error(`${command.join(' ')}: exit ${code}: ${process.stderr}`);
  }

  /** A pid there of a program that was started there. */
  pidOf(process: Process): number {
    return childrenOf(process.pid)[0] ?? -1;
  }

  /** The command lines of everything that runs there, but for what holds the machine. */
  programs(): string[] {
    const held = /^docker-init|^sleep infinity/;
    return this.#processes()
      .map(commandLine)
      .filter((line) => line !== '' && !held.test(line));
  }

  /** Those whose command line is such a one, as seen from outside. */
  pids(test: (line: string) => boolean): number[] {
    return this.#processes().filter((pid) => test(commandLine(pid)));
  }

  #processes(): number[] {
    const own = pidNamespace(this.#init);
    const all = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
    return all.filter((pid) => pidNamespace(pid) === own);
  }

  /** The machine's table of mounts. */
  mounts(): string[] {
    return readFileSync(`/proc/${this.#init}/mountinfo`, 'utf8').split('\n');
  }

  /** Its network cable. */
  async plug(isIn: boolean): Promise<void> {
    await run('ip', 'link', 'set', this.#link, isIn ? 'up' : 'down');
  }

  /** The end of everything on it, at once. */
  async die(): Promise<void> {
    await this.#holder.kill();
    const deadline = Date.now() + READY_MS;
    while (existsSync(`/proc/${this.#init}`) && Date.now() < deadline) await sleep(50);
    spawnSync('ip', ['link', 'delete', this.#link]);
  }
}

function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return text.split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

function pidNamespace(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return '';
  }
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}

/** What test processes left that were killed: bridges and control groups with their numbers. */
function removeStale(): void {
  const links = readdirSync('/sys/class/net').map((name) => /^hfd(\d+)$/.exec(name)?.[1]);
  for (const pid of links) {
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    spawnSync('ip', ['link', 'delete', `hfd${pid}`]);
    removeControlGroups(controlGroupOf(Number(pid)));
  }
}

/** Below which the engines of a test process make those of their containers. */
export function controlGroupOf(pid: number): string {
  return `holdfast-test-${pid}`;
}

/** Removes the control groups that an engine made below this name, in every hierarchy. */
export function removeControlGroups(name: string): void {
  const top = '/sys/fs/cgroup';
  for (const hierarchy of ['', ...readdirSync(top)]) removeEmptyTree(join(top, hierarchy, name));
}

function removeEmptyTree(path: string): void {
  try {
    const below = readdirSync(path, { withFileTypes: true }).filter((one) => one.isDirectory());
    for (const { name } of below) removeEmptyTree(join(path, name));
    rmdirSync(path);
  } catch {
    // there is none
  }
}
