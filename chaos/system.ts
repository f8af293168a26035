/**
 * What is tested: etcd, three storage nodes and a mount daemon as real processes on this machine,
 * with a volume mounted at a directory, and everything that can happen to them: SIGKILL of one, of
 * all at once, a pause, a power cut. Afterwards it is brought up again as an administrator would,
 * by starting the nodes and `holdfast mount`.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mountAt } from '../src/fuse/launcher.js';
import { parseMountTable } from '../src/io/node/fuse-device-mounts.js';
import type { MountStatus } from '../src/lifecycle/mount-types.js';
import { Cluster, type ClusterOptions } from '../test/fixtures/cluster.js';
import { CutImages } from '../test/fixtures/cut-images.js';
import { holdfastBin, Process, untilGone } from '../test/fixtures/processes.js';

const IMAGE_MIB = 3_072;
const PLACES = ['etcd', 'node0', 'node1', 'node2'];
const COMMAND_MS = 120_000;
const UNMOUNT_MS = 30_000;
/** For another daemon to go on with the mount; the rest is up to the checks. */
const ADOPTED_MS = 60_000;

export interface SystemOptions {
  readonly sizeBytes: number;
  /** Nodes and etcd on file systems whose power can be cut. */
  readonly powerCuts?: boolean;
  /** Another compiled program than the one beside this file. */
  readonly program?: string;
}

/** What `holdfast mount --json` prints, as far as it matters here. */
interface MountSaid {
  readonly keeperPid: number | null;
  readonly live: { readonly pid: number } | null;
}

export class System {
  /** Not on the volume; others may look into it. */
  readonly root: string;
  readonly mountPoint: string;
  readonly cluster: Cluster;
  readonly #images: CutImages | null;
  readonly #program: string;
  /** Of the mount as it was made last. */
  #keeperPid = 0;
  /** After a cut: mounts the disks as they were then. */
  #reopen: (() => Promise<(name: string) => string>) | null = null;

  private constructor(
    root: string,
    cluster: Cluster,
    images: CutImages | null,
    options: SystemOptions,
  ) {
    this.root = root;
    this.mountPoint = join(root, 'mnt');
    this.cluster = cluster;
    this.#images = images;
    this.#program = options.program ?? holdfastBin;
  }

  /** A new cluster with an empty volume, mounted. */
  static async start(options: SystemOptions): Promise<System> {
    const images = options.powerCuts === true ? await CutImages.create(PLACES, IMAGE_MIB) : null;
    let system: System | null = null;
    try {
      const { sizeBytes, program } = options;
      const clusterOptions: ClusterOptions = {
        ...{ sizeBytes, labels: {} },
        ...(program === undefined ? {} : { program }),
        ...(images === null ? {} : { directoryOf: (name: string) => images.live(name) }),
      };
      const cluster = await Cluster.start(clusterOptions);
      const root = mkdtempSync(join(tmpdir(), 'hf-sys-'));
      system = new System(root, cluster, images, options);
      chmodSync(root, 0o755);
      mkdirSync(system.mountPoint);
      await system.mount();
      return system;
    } catch (error) {
      await (system === null ? images?.close() : system.close());
      throw error;
    }
  }

  /** Runs a `holdfast` command against this cluster. Rejects when it fails, with what it said. */
  async holdfast(...args: string[]): Promise<string> {
    const command = new Process(process.execPath, [this.#program, ...args], {
      env: {
        HOLDFAST_METADATA: this.cluster.etcd.url,
        HOLDFAST_SECRET_FILE: this.cluster.secretFile,
        HOLDFAST_RUN_DIR: join(this.root, 'run'),
      },
      cwd: '/',
    });
    const timer = setTimeout(() => command.signal('SIGKILL'), COMMAND_MS);
    const { code, signal } = await command.exited;
    clearTimeout(timer);
    if (code === 0) return command.lines.join('\n');
    const said = `${command.lines.join('\n')}${command.stderr}`;
    throw new Error(`holdfast ${args.join(' ')}: ${signal ?? `exit ${code}`}: ${said}`);
  }

  async mount(): Promise<void> {
    const said = await this.holdfast('mount', this.cluster.volume, this.mountPoint, '--json');
    const { keeperPid, live } = JSON.parse(said) as MountSaid;
    if (keeperPid === null || live === null) throw new Error(`the mount says: ${said}`);
    this.#keeperPid = keeperPid;
  }

  async unmount(): Promise<void> {
    await this.holdfast('umount', this.mountPoint);
  }

  /** Everything written so far is on stable storage. */
  async sync(): Promise<void> {
    await this.holdfast('sync', this.mountPoint);
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
    return mountAt(table, this.mountPoint) !== undefined;
  }

  /** SIGKILL to the daemon alone; resolves once another one serves the mount. */
  async killDaemon(): Promise<void> {
    const { daemonPid } = this;
    kill(daemonPid);
    const deadline = Date.now() + ADOPTED_MS;
    for (;;) {
      const [mount] = JSON.parse(await this.holdfast('mounts', '--json')) as MountStatus[];
      if (mount?.state === 'mounted' && mount.live?.pid !== daemonPid) return;
      if (Date.now() > deadline) throw new Error(`not adopted: ${JSON.stringify(mount)}`);
    }
  }

  /** SIGKILL to the daemon and its keeper: nobody goes on with the mount. */
  async killMount(): Promise<void> {
    await untilGone(this.#killBoth());
    await this.#clearMount();
  }

  /** The keeper first: it would start another daemon. */
  #killBoth(): number[] {
    const both = [this.#keeperPid, this.daemonPid].filter((pid) => pid > 0);
    for (const pid of both) kill(pid);
    return both;
  }

  /** SIGKILL to everything at once: daemon, keeper, nodes, etcd. Data stay. */
  async killAll(): Promise<void> {
    const mount = this.#killBoth();
    for (const pid of this.cluster.pids()) kill(pid);
    await this.cluster.powerOff();
    await untilGone(mount);
    await this.#clearMount();
  }

  /** Starts what killAll ended, and mounts. */
  async startAll(): Promise<void> {
    const { etcd, nodes } = this.cluster;
    for (const member of etcd.members) member.start();
    await Promise.all(etcd.members.map((member) => member.ready()));
    await Promise.all(nodes.map((node) => node.start()));
    await this.mount();
  }

  /** Cuts the power of everything. */
  async cutPower(): Promise<void> {
    if (this.#images === null) throw new Error('this system has no images to cut');
    const mount = [this.#keeperPid, this.daemonPid].filter((pid) => pid > 0);
    const open = await this.#images.cut([...mount, ...this.cluster.pids()]);
    await this.killAll();
    this.#reopen = open;
  }

  /** Starts from what had reached the disks when the power was cut, and mounts. */
  async startFromCut(): Promise<void> {
    const directoryOf = await this.#reopen?.();
    if (directoryOf === undefined) throw new Error('the power was not cut');
    this.#reopen = null;
    await this.cluster.powerOn(directoryOf);
    await this.mount();
  }

  /** The last of what the mount daemons said. */
  daemonLog(lines = 30): string {
    try {
      const text = readFileSync(
        join(this.root, 'run', 'log', `${this.cluster.volume}.log`),
        'utf8',
      );
      return text.trimEnd().split('\n').slice(-lines).join('\n');
    } catch {
      return '';
    }
  }

  /** Everything is ended and removed; whatever state it is in. Idempotent. */
  async close(): Promise<void> {
    if (this.isMounted()) await this.unmount().catch(() => {});
    await untilGone(this.#killBoth());
    await this.#clearMount();
    await this.cluster.close();
    await this.#images?.close();
    rmSync(this.root, { recursive: true, force: true });
  }

  /** A mount whose daemon and keeper are dead answers nothing but errors; it is taken away. */
  async #clearMount(): Promise<void> {
    const deadline = Date.now() + UNMOUNT_MS;
    while (this.isMounted()) {
      const umount = new Process('umount', ['-i', '-c', '-l', this.mountPoint]);
      await umount.exited;
      if (Date.now() > deadline) throw new Error(`${this.mountPoint} stays: ${umount.stderr}`);
    }
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // gone already
  }
}
