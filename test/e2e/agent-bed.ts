/**
 * An agent of this machine, and drivers as in containers: a pid and mount namespace of their own, a
 * cgroup that can be killed, a root directory that can be deleted.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { writableGroup } from '../../src/cli/scopes.js';
import { distRoot, Process } from '../fixtures/processes.js';
import type { MountBed } from './mount-bed.js';

const READY_MS = 20_000;
const CALL_MS = 60_000;

/** Why these tests cannot run; false: they can. */
export function cannotContain(): string | false {
  return writableGroup() === null ? 'no group of cgroup v2 can be made here' : false;
}

/** `holdfast agent` from an installed runtime, as a machine would run it. */
export class AgentProcess {
  readonly socket: string;
  readonly #bed: MountBed;
  readonly #program: string;
  readonly #more: readonly string[];
  process: Process | null = null;

  constructor(bed: MountBed, program: string, ...more: string[]) {
    this.#bed = bed;
    this.#program = program;
    this.#more = more;
    this.socket = join(bed.root, 'shared', 'agent.sock');
  }

  async start(): Promise<{ readonly scope: string }> {
    const args = ['agent', '--socket', this.socket, '--json', ...this.#more];
    const env = { HOLDFAST_RUN_DIR: this.#bed.runDirectory };
    this.process = new Process(this.#program, args, { env, cwd: '/' });
    return JSON.parse(await this.process.line(/"ready"/, READY_MS)) as { readonly scope: string };
  }

  async kill(): Promise<void> {
    await this.process?.kill();
  }

  async stop(): Promise<number | null | undefined> {
    return await this.process?.stop();
  }
}

export interface Answer {
  readonly result?: Record<string, unknown> | null;
  readonly code?: string;
  readonly message?: string;
}

/** A driver in its container. */
export class Driver {
  readonly #process: Process;
  readonly #root: string;
  readonly group: string;
  #answers = 1;

  private constructor(process: Process, root: string, group: string) {
    this.#process = process;
    this.#root = root;
    this.group = group;
  }

  /** `runtime` is an installed version, of which its root directory is a copy. */
  static async start(
    bed: MountBed,
    runtime: string,
    agent: AgentProcess,
    machine: string,
  ): Promise<Driver> {
    const root = join(bed.root, `root-${machine}`);
    fillRoot(root, runtime);
    const shared = join(bed.root, 'shared');
    for (const path of [join(root, shared), shared]) mkdirSync(path, { recursive: true });
    const group = join(writableGroup() ?? '', `test-${process.pid}-${machine}`);
    mkdirSync(group, { recursive: true });
    writeFileSync(join(root, 'secret'), readFileSync(bed.cluster.secretFile));
    // What a test runner adds to every Node.js below it is not there in a container.
    const script = `
      echo 0 > ${group}/cgroup.procs
      exec env -u NODE_OPTIONS -u NODE_EXTRA_CA_CERTS \\
        unshare --mount --pid --fork --kill-child --propagation slave sh -c '
        mount --rbind ${shared} ${root}${shared} &&
        mount -t proc proc ${root}/proc && exec chroot ${root} /app/bin/node \\
          /app/dist/test/fixtures/agent-driver.js ${bed.cluster.etcd.url} /secret \\
          ${agent.socket} ${machine}'`;
    const driver = new Driver(new Process('sh', ['-c', script], { cwd: '/' }), root, group);
    await driver.#process.line(/"ready"/, READY_MS);
    return driver;
  }

  async call(call: string, ...args: unknown[]): Promise<Answer> {
    const at = this.#answers++;
    this.#process.write(JSON.stringify({ call, args }));
    const answered = (): string | undefined => this.#process.lines[at];
    return JSON.parse(await this.#process.until(call, CALL_MS, answered)) as Answer;
  }

  /** As a container engine ends a pod: everything in its cgroup, then its root directory. */
  async kill(): Promise<void> {
    writeFileSync(join(this.group, 'cgroup.kill'), '1');
    await this.#process.exited;
    rmSync(this.#root, { recursive: true, force: true });
    for (let tries = 0; tries < 50; tries++) {
      try {
        execFileSync('rmdir', [this.group], { stdio: 'ignore' });
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
    throw new Error(`${this.group} still holds processes`);
  }
}

/** Node.js with the libraries that it needs, the program, and this test's driver. */
function fillRoot(root: string, runtime: string): void {
  for (const name of ['proc', 'tmp', 'run']) mkdirSync(join(root, name), { recursive: true });
  // By links: it is large, and what matters is that it goes.
  execFileSync('cp', ['-al', runtime, join(root, 'app')]);
  const driver = 'test/fixtures/agent-driver.js';
  mkdirSync(dirname(join(root, 'app/dist', driver)), { recursive: true });
  cpSync(join(distRoot, driver), join(root, 'app/dist', driver));
  const said = execFileSync('ldd', [process.execPath], { encoding: 'utf8' });
  for (const [, path = ''] of said.matchAll(/(\/\S+) \(0x/g)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    cpSync(path, join(root, path), { dereference: true });
  }
}

/** The line of cgroup v2 in a process's memberships. */
export function groupOf(pid: number): string {
  const text = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
  return /^0::(.*)$/m.exec(text)?.[1] ?? '';
}
