/**
 * A cluster of machines: three with etcd, five with a storage node and a disk in three zones, two
 * that mount volumes, and one that an administrator sits at. All are real processes in network
 * namespaces of their own; a mount's keeper and daemon are in that of the machine that mounts.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EXIT_PROBLEMS } from '../../src/cli/errors.js';
import type { VolumeRecord } from '../../src/metadata/model.js';
import type { RepairReport } from '../../src/metadata/repair-report.js';
import { ClusterNode } from '../../test/fixtures/cluster.js';
import { holdfastBin } from '../../test/fixtures/processes.js';
import { CommandFailed, commandsOf, type Holdfast, kill, VolumeMount } from '../mount.js';
import { Disk } from './disks.js';
import { EtcdServer } from './etcd.js';
import { type Machine, Network } from './network.js';
import { type Usage, usageOf } from './usage.js';

const MEMBERS = 3;
const NODES = 5;
const ZONES = 3;
const CLIENTS = ['east', 'west'];
const PORT = 7400;
const DISK_MIB = 6 * 1024;
const UNMOUNT_TRIES = 20;

export interface VolumePlan {
  readonly name: string;
  /** As `--size` takes it. */
  readonly size: string;
  /** Which client mounts it first. */
  readonly client: number;
}

export interface WorldOptions {
  readonly volumes: readonly VolumePlan[];
  /** Another compiled program than the one beside this file. */
  readonly program?: string;
}

/** Of what `holdfast status --json` prints. */
export interface Status {
  readonly nodes: readonly {
    readonly node: string;
    readonly address: string;
    readonly live: boolean;
  }[];
  readonly volumes: readonly VolumeRecord[];
  readonly repair: RepairReport | null;
  /** Sentences; empty when all is well. */
  readonly problems: readonly string[];
}

/** A machine with a storage node. */
export interface StorageMachine {
  readonly machine: Machine;
  readonly disk: Disk;
  readonly node: ClusterNode;
}

/** A machine that mounts. */
export interface Client {
  readonly machine: Machine;
  readonly runDirectory: string;
  /** By the volume's name; each volume has its directory here, mounted or not. */
  readonly mounts: ReadonlyMap<string, VolumeMount>;
}

/** A volume, and where it is mounted. */
export interface Volume {
  readonly name: string;
  /** Leads to where it is mounted. */
  readonly link: string;
  client: Client;
}

export class World {
  readonly root: string;
  readonly network: Network;
  readonly etcd: EtcdServer[] = [];
  readonly storage: StorageMachine[] = [];
  readonly clients: Client[] = [];
  readonly volumes: Volume[] = [];
  readonly #options: WorldOptions;
  #administrator: Holdfast | null = null;

  private constructor(root: string, network: Network, options: WorldOptions) {
    this.root = root;
    this.network = network;
    this.#options = options;
  }

  /** Everything runs, and every volume is mounted at its first client. */
  static async start(options: WorldOptions): Promise<World> {
    const root = mkdtempSync(join(tmpdir(), 'hf-chaos-'));
    chmodSync(root, 0o755);
    mkdirSync(join(root, 'volumes'));
    const world = new World(root, await Network.open(), options);
    try {
      await world.#startEtcd();
      world.#administrator = world.#commands(await world.network.add('admin'), 'run-admin');
      await world.holdfast('cluster', 'init');
      await world.#startNodes();
      for (const name of CLIENTS) world.clients.push(await world.#client(name));
      for (const plan of options.volumes) await world.#addVolume(plan);
      return world;
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  /** As an administrator, who is on none of the machines that things happen to. */
  holdfast(...args: string[]): Promise<string> {
    if (this.#administrator === null) throw new Error('there is no cluster yet');
    return this.#administrator(...args);
  }

  async #startEtcd(): Promise<void> {
    const machines: Machine[] = [];
    for (let at = 0; at < MEMBERS; at++) machines.push(await this.network.add(`etcd${at}`));
    for (const machine of machines) {
      const member = new EtcdServer(machine, join(this.root, machine.name), machines);
      this.etcd.push(member);
      member.start();
    }
    await Promise.all(this.etcd.map((member) => member.ready()));
  }

  async #startNodes(): Promise<void> {
    for (let at = 0; at < NODES; at++) {
      const machine = await this.network.add(`node${at}`);
      const disk = await Disk.create(this.root, machine.name, DISK_MIB);
      disk.wipe();
      const command = [...machine.enter, process.execPath, this.#program];
      const node = new ClusterNode(machine.name, PORT, disk.data, command, [
        ...['--metadata', this.#metadata, '--secret-file', join(this.root, 'secret')],
        ...['--listen', `${machine.address}:${PORT}`, '--zone', `zone${at % ZONES}`],
        ...['--journal-size', '16MiB'],
      ]);
      this.storage.push({ machine, disk, node });
    }
    await Promise.all(this.storage.map(({ node }) => node.start()));
  }

  async #client(name: string): Promise<Client> {
    const machine = await this.network.add(name);
    const runDirectory = join(this.root, `run-${name}`);
    // Machines share one file system here: every other one sees only its own disks, that is none.
    const sees = this.clients.length % 2 === 0 ? {} : { HOLDFAST_LOCAL_READS: 'no' };
    const holdfast = this.#commands(machine, `run-${name}`, sees);
    const mounts = new Map<string, VolumeMount>();
    for (const volume of this.#options.volumes) {
      const directory = join(this.root, name, volume.name);
      mkdirSync(directory, { recursive: true });
      mounts.set(volume.name, new VolumeMount(volume.name, directory, holdfast));
    }
    return { machine, runDirectory, mounts };
  }

  async #addVolume({ name, size, client }: VolumePlan): Promise<void> {
    await this.holdfast('volume', 'create', name, '--size', size);
    const first = this.clients[client];
    if (first === undefined) throw new Error(`there is no client ${client}`);
    const volume: Volume = { name, link: join(this.root, 'volumes', name), client: first };
    this.volumes.push(volume);
    await this.mountAt(volume, first);
  }

  /** Mounts a volume that is mounted nowhere, or was taken away from where it is. */
  async mountAt(volume: Volume, client: Client, ...options: string[]): Promise<void> {
    const mount = mountOf(client, volume.name);
    await mount.mount(...options);
    rmSync(volume.link, { force: true });
    symlinkSync(mount.directory, volume.link);
    volume.client = client;
  }

  /** Unmounts a volume; who looks into it now and then is waited for. */
  async unmount(volume: Volume): Promise<void> {
    const mount = mountOf(volume.client, volume.name);
    for (let tries = 1; mount.isMounted(); tries++) {
      await mount.unmount().catch((error: Error) => {
        if (tries === UNMOUNT_TRIES || !/in use/.test(error.message)) throw error;
      });
    }
  }

  /** The client that a volume is not mounted at. */
  otherClient(volume: Volume): Client {
    const other = this.clients.find((client) => client !== volume.client);
    if (other === undefined) throw new Error('there are two clients');
    return other;
  }

  /** As `holdfast status --json` prints it. */
  async status(): Promise<Status> {
    const text = await this.holdfast('status', '--json').catch((error: Error) => {
      if (error instanceof CommandFailed && error.code === EXIT_PROBLEMS) return error.output;
      throw error;
    });
    return JSON.parse(text) as Status;
  }

  /** What each daemon has and takes, by its name: nodes, and mount daemons. */
  usage(): Map<string, Usage> {
    const pids = new Map<string, number>();
    for (const { machine, node } of this.storage) pids.set(machine.name, node.process?.pid ?? 0);
    for (const { name, client } of this.volumes) {
      pids.set(`the mount of ${name}`, mountOf(client, name).daemonPid);
    }
    const all = [...pids].map(([name, pid]) => [name, usageOf(pid)] as const);
    return new Map(all.filter((one): one is [string, Usage] => one[1] !== null));
  }

  /** How the kernel calls the network namespaces of all machines. */
  namespaces(): Set<string> {
    return new Set(this.network.machines.map((machine) => machine.namespace));
  }

  /** What the daemons that run, or ran, on the machines have said; of nodes the end. */
  logs(): string[] {
    const nodes = this.storage.map(({ machine, node }): [string, string] => [
      machine.name,
      node.process?.stderr ?? '',
    ]);
    const mounts = this.clients.flatMap(({ machine, runDirectory }) =>
      this.volumes.map(({ name }): [string, string] => [
        `the mount of ${name} on ${machine.name}`,
        readIfThere(join(runDirectory, 'log', `${name}.log`)),
      ]),
    );
    const said = [...mounts, ...nodes].filter(([, text]) => text !== '');
    return said.map(([name, text]) => `the log of ${name}:\n${text}`);
  }

  /** Ends every pause and every trouble of the network. */
  async thaw(): Promise<void> {
    await Promise.all(this.network.machines.map((machine) => machine.heal()));
    const members = this.etcd.map((member) => member.process);
    for (const one of [...members, ...this.storage.map(({ node }) => node.process)]) {
      one?.signal('SIGCONT');
    }
    for (const mount of this.clients.flatMap(({ mounts }) => [...mounts.values()])) {
      for (const pid of mount.pids()) kill(pid, 'SIGCONT');
    }
  }

  /** Everything is ended and removed, whatever state it is in. Idempotent. */
  async close(): Promise<void> {
    const mounts = this.clients.flatMap(({ mounts }) => [...mounts.values()]);
    await Promise.allSettled(mounts.map((mount) => mount.kill()));
    await Promise.all(
      [...this.storage.map(({ node }) => node), ...this.etcd].map((one) => one.kill()),
    );
    for (const { disk } of this.storage) await disk.close();
    await this.network.close();
    rmSync(this.root, { recursive: true, force: true });
  }

  get #program(): string {
    return this.#options.program ?? holdfastBin;
  }

  get #metadata(): string {
    return `etcd://${this.etcd.map(({ endpoint }) => endpoint).join(',')}`;
  }

  #commands(machine: Machine, runDirectory: string, env: Record<string, string> = {}): Holdfast {
    return commandsOf({
      command: [...machine.enter, process.execPath, this.#program],
      env: {
        HOLDFAST_METADATA: this.#metadata,
        HOLDFAST_SECRET_FILE: join(this.root, 'secret'),
        HOLDFAST_RUN_DIR: join(this.root, runDirectory),
        HOLDFAST_MACHINE: machine.name,
        ...env,
      },
    });
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

export function mountOf(client: Client, volume: string): VolumeMount {
  const mount = client.mounts.get(volume);
  if (mount === undefined) throw new Error(`${client.machine.name} knows no volume "${volume}"`);
  return mount;
}
