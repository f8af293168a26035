/**
 * What is tested: etcd, three storage nodes and a mount daemon as real processes on this machine,
 * with a volume mounted at a directory, and everything that can happen to them: SIGKILL of one, of
 * all at once, a pause, a power cut. Afterwards it is brought up again as an administrator would,
 * by starting the nodes and `holdfast mount`.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cluster, type ClusterOptions } from '../test/fixtures/cluster.js';
import { CutImages } from '../test/fixtures/cut-images.js';
import { holdfastBin, untilGone } from '../test/fixtures/processes.js';
import { commandsOf, kill, VolumeMount } from './mount.js';

const IMAGE_MIB = 3_072;
const PLACES = ['etcd', 'node0', 'node1', 'node2'];

export interface SystemOptions {
  readonly sizeBytes: number;
  /** Nodes and etcd on file systems whose power can be cut. */
  readonly powerCuts?: boolean;
  /** Another compiled program than the one beside this file. */
  readonly program?: string;
}

export class System {
  /** Not on the volume; others may look into it. */
  readonly root: string;
  readonly mountPoint: string;
  readonly cluster: Cluster;
  readonly #images: CutImages | null;
  readonly #mount: VolumeMount;
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
    const holdfast = commandsOf({
      command: [process.execPath, options.program ?? holdfastBin],
      env: {
        HOLDFAST_METADATA: cluster.etcd.url,
        HOLDFAST_SECRET_FILE: cluster.secretFile,
        HOLDFAST_RUN_DIR: join(root, 'run'),
      },
    });
    this.#mount = new VolumeMount(cluster.volume, this.mountPoint, holdfast);
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

  mount(): Promise<void> {
    return this.#mount.mount();
  }

  unmount(): Promise<void> {
    return this.#mount.unmount();
  }

  /** Everything written so far is on stable storage. */
  sync(): Promise<void> {
    return this.#mount.sync();
  }

  /** The mount's daemon of this moment; 0 when there is none. */
  get daemonPid(): number {
    return this.#mount.daemonPid;
  }

  /** SIGKILL to the daemon alone; resolves once another one serves the mount. */
  killDaemon(): Promise<void> {
    return this.#mount.killDaemon()();
  }

  /** SIGKILL to the daemon and its keeper: nobody goes on with the mount. */
  killMount(): Promise<void> {
    return this.#mount.kill();
  }

  /** SIGKILL to everything at once: daemon, keeper, nodes, etcd. Data stay. */
  async killAll(): Promise<void> {
    const mount = this.#mount.killBoth();
    for (const pid of this.cluster.pids()) kill(pid);
    await this.cluster.powerOff();
    await untilGone(mount);
    await this.#mount.clear();
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
    const open = await this.#images.cut([...this.#mount.pids(), ...this.cluster.pids()]);
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
    if (this.#mount.isMounted()) await this.unmount().catch(() => {});
    await this.#mount.kill();
    await this.cluster.close();
    await this.#images?.close();
    rmSync(this.root, { recursive: true, force: true });
  }
}
