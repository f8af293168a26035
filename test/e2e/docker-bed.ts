/**
 * A real cluster and real Docker Engines that use it: each engine on a machine of its own with the
 * plugin beside it. Images come from busybox alone: there is no registry.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster } from '../fixtures/cluster.js';
import { distRoot, holdfastBin, Process } from '../fixtures/processes.js';
import { Bridge, controlGroupOf, Machine, removeControlGroups } from './docker-machine.js';

const READY_MS = 60_000;
const COMMAND_S = 150;
const GONE_MS = 30_000;
const APPLETS = ['sh', 'cat', 'dd', 'sync', 'sleep', 'md5sum', 'ls', 'touch', 'wc', 'mount', 'id'];

/** The sources stand beside the compiled tree. */
const BUILD = join(distRoot, '..', 'deploy/docker/plugin/build.sh');

/** What a command said. */
export interface Said {
  readonly code: number | null;
  readonly text: string;
}

/** An engine with the plugin on its machine. */
export class DockerHost {
  readonly machine: Machine;
  readonly #bed: DockerBed;
  readonly #socket: string;
  engine: Process | null = null;
  plugin: Process | null = null;

  constructor(bed: DockerBed, machine: Machine) {
    this.#bed = bed;
    this.machine = machine;
    this.#socket = join(machine.root, 'docker.sock');
  }

  get environment(): Record<string, string> {
    return {
      HOLDFAST_METADATA: this.#bed.cluster.etcd.url,
      HOLDFAST_SECRET_FILE: this.#bed.cluster.secretFile,
    };
  }

  async startEngine(...more: string[]): Promise<void> {
    const { root } = this.machine;
    this.engine = this.machine.start([
      ...['dockerd', '--data-root', join(root, 'data'), '--exec-root', '/run/engine'],
      ...[
        '-H',
        `unix://${this.#socket}`,
        '--pidfile',
        '/run/engine.pid',
        '--storage-driver=overlay2',
      ],
      ...['--iptables=false', '--ip6tables=false', '--bridge=none', '--ip-forward=false'],
      ...['--cgroup-parent', `/${this.#bed.controlGroup}`, ...more],
    ]);
    for (const deadline = Date.now() + READY_MS; ; await sleep(100)) {
      if ((await this.docker('version')).code === 0) return;
      if (Date.now() < deadline && this.engine.alive) continue;
      throw new Error(`the engine does not serve: ${this.engine.stderr.slice(-2000)}`);
    }
  }

  /** SIGTERM, or SIGKILL to the engine alone; containers stay where `live-restore` is on. */
  async stopEngine(signal: 'TERM' | 'KILL' = 'TERM'): Promise<void> {
    const engine = this.engine;
    if (engine === null) return;
    this.engine = null;
    await this.machine.run('sh', '-c', `kill -${signal} $(cat /run/engine.pid)`);
    await engine.exited;
  }

  async startPlugin(...more: string[]): Promise<void> {
    const command = [process.execPath, holdfastBin, 'docker-plugin', '--wait', '20s', ...more];
    this.plugin = this.machine.start(command, this.environment);
    await this.plugin.line(/^serving Docker/, READY_MS);
  }

  /** Builds the managed plugin, and enables it. */
  async installPlugin(): Promise<void> {
    const directory = join(this.machine.root, 'plugin');
    const program = `${process.execPath} ${holdfastBin}`;
    const build = Object.assign({}, process.env, { HOLDFAST: program });
    execFileSync('sh', [BUILD, directory], { env: build });
    await this.must('plugin', 'create', 'holdfast', directory);
    rmSync(directory, { recursive: true });
    const { HOLDFAST_METADATA: metadata, HOLDFAST_SECRET_FILE: secret } = this.environment;
    const settings = [`HOLDFAST_METADATA=${metadata}`, 'HOLDFAST_WAIT=20s'];
    const file = `HOLDFAST_SECRET_FILE=/proc/1/root${secret}`;
    await this.must('plugin', 'set', 'holdfast', ...settings, file);
    await this.must('plugin', 'enable', '--timeout', '120', 'holdfast');
  }

  async killPlugin(): Promise<void> {
    const { plugin } = this;
    if (plugin === null) return;
    this.plugin = null;
    process.kill(this.machine.pidOf(plugin), 'SIGKILL');
    await plugin.exited;
  }

  /** The docker command line. */
  async docker(...args: string[]): Promise<Said> {
    const command = ['-k', '5', String(COMMAND_S), 'docker', '-H', `unix://${this.#socket}`];
    const process = new Process('timeout', [...command, ...args], {
      env: { DOCKER_CONFIG: join(this.machine.root, 'config') },
      cwd: '/',
    });
    const { code } = await process.exited;
    return { code, text: [...process.lines, process.stderr.trim()].join('\n').trim() };
  }

  /** As docker(); rejects when that fails. */
  async must(...args: string[]): Promise<string> {
    const { code, text } = await this.docker(...args);
    if (code !== 0) throw new Error(`docker ${args.join(' ')}: exit ${code}: ${text}`);
    return text;
  }

  /** A shell script in a new container with these volumes: "db:/data", "db:/data:ro". */
  async run(volumes: readonly string[], script: string): Promise<Said> {
    const mounts = volumes.flatMap((volume) => ['-v', volume]);
    const driver = ['--volume-driver', 'holdfast', '--network', 'none'];
    return await this.docker('run', '--rm', ...driver, ...mounts, 'box', 'sh', '-c', script);
  }

  holdfast(...args: string[]): Promise<string> {
    const env = Object.entries(this.environment).map(([key, value]) => `${key}=${value}`);
    return this.machine.run('env', ...env, process.execPath, holdfastBin, ...args);
  }

  /** What volumes have left here, once it has had the time to go: nothing, it is hoped. */
  async leftovers(): Promise<string[]> {
    for (const deadline = Date.now() + GONE_MS; ; await sleep(200)) {
      const mounts = this.machine.mounts().filter((line) => line.includes('fuse.holdfast'));
      const processes = this.machine.programs().filter((line) => line.includes('mount-daemon'));
      const listed = 'cd /run/holdfast 2>/dev/null && find mounts docker -mindepth 1 2>/dev/null';
      const states = await this.machine.run('sh', '-c', `${listed}; true`);
      const directories = 'ls /var/lib/holdfast/volumes 2>/dev/null; true';
      const left = [
        ...mounts,
        ...processes,
        ...states.split('\n'),
        ...(await this.machine.run('sh', '-c', directories)).split('\n'),
      ].filter((line) => line !== '');
      if (left.length === 0 || Date.now() > deadline) return left;
    }
  }
}

export interface BedOptions {
  /** Containers go on without their engine; a Swarm cannot have that. Default true. */
  readonly liveRestore?: boolean;
  /** Managed: built, and installed into the engine. Default: a process beside the engine. */
  readonly isManaged?: boolean;
}

export class DockerBed {
  readonly cluster: Cluster;
  readonly hosts: DockerHost[] = [];
  readonly root: string;
  readonly controlGroup = controlGroupOf(process.pid);
  readonly #bridge: Bridge;

  private constructor(cluster: Cluster, bridge: Bridge, root: string) {
    this.cluster = cluster;
    this.#bridge = bridge;
    this.root = root;
  }

  /** A cluster, and this many machines with engine and plugin, and an image "box". */
  static async start(machines: number, options: BedOptions = {}): Promise<DockerBed> {
    const root = mkdtempSync(join(tmpdir(), 'hf-docker-'));
    const bridge = new Bridge();
    process.once('exit', () => bridge.close());
    let bed: DockerBed | null = null;
    try {
      await bridge.open();
      const made = new DockerBed(await Cluster.start({ host: bridge.address }), bridge, root);
      bed = made;
      makeImage(root);
      const names = Array.from({ length: machines }, (_, at) => `machine${at}`);
      const added = await Promise.allSettled(names.map((name) => made.#addHost(name, options)));
      const failed = added.find((one) => one.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
      made.hosts.sort((a, b) => (a.machine.name < b.machine.name ? -1 : 1));
      return made;
    } catch (thrown) {
      await bed?.close();
      bridge.close();
      throw thrown;
    }
  }

  async #addHost(name: string, options: BedOptions): Promise<void> {
    const { liveRestore = true, isManaged = false } = options;
    const machine = await Machine.start(this.#bridge, name, join(this.root, name));
    const host = new DockerHost(this, machine);
    this.hosts.push(host);
    // What a test leaves in there would be the next one's, and this machine's.
    await machine.run('mkdir', '-p', '/var/lib/holdfast');
    await machine.run('mount', '-t', 'tmpfs', 'tmpfs', '/var/lib/holdfast');
    await host.startEngine(...(liveRestore ? ['--live-restore'] : []));
    if (isManaged) await host.installPlugin();
    else await host.startPlugin();
    // An engine, and a Swarm, knows of a plugin that is a socket once it was used.
    await host.must('volume', 'ls');
    await host.must('import', join(this.root, 'box.tar'), 'box');
  }

  /** Idempotent. */
  async close(): Promise<void> {
    for (const { machine } of this.hosts) await machine.die();
    this.#bridge.close();
    removeControlGroups(this.controlGroup);
    await this.cluster.close();
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** A tar of one static program, to import as an image. */
function makeImage(root: string): void {
  const tree = join(root, 'box');
  const bin = join(tree, 'bin');
  mkdirSync(bin, { recursive: true });
  for (const name of ['tmp', 'data', 'etc']) mkdirSync(join(tree, name));
  const busybox = execFileSync('sh', ['-c', 'command -v busybox'], { encoding: 'utf8' }).trim();
  copyFileSync(busybox, join(bin, 'busybox'));
  for (const name of APPLETS) symlinkSync('busybox', join(bin, name));
  execFileSync('tar', ['-C', tree, '-cf', join(root, 'box.tar'), '.']);
}
