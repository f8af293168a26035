/**
 * Machines as far as the network goes: namespaces joined by a bridge that is in one of its own, so
 * that no packet ever leaves them. Each namespace lives as long as the process that holds it, which
 * ends when this one does, however that ends; its links go with it. So nothing can be left behind.
 */
import { spawnSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { Process, run } from '../../test/fixtures/processes.js';

const READY_MS = 30_000;
const NEEDED = ['ip', 'tc', 'iptables', 'unshare', 'nsenter'];
const BRIDGE = 'switch';

/** Why there can be no such network here, or null. */
export function cannotJoinMachines(): string | null {
  const missing = NEEDED.filter(
    (name) => spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0,
  );
  if (missing.length > 0) return `not installed: ${missing.join(', ')}`;
  const tried = spawnSync('unshare', ['--net', 'iptables', '-w', '-L', '-n']);
  return tried.status === 0 ? null : 'network namespaces with iptables cannot be made here';
}

/** What a machine does not get any more, does not send any more, or both. */
export type Cut = 'deaf' | 'mute' | 'both';

class Namespace {
  readonly #holder: Process;

  private constructor(holder: Process) {
    this.#holder = holder;
  }

  static async open(): Promise<Namespace> {
    // It ends with its standard input: with us, not with what a terminal sends to all of us.
    const script = "trap '' INT HUP; ip link set lo up && echo ready && exec cat";
    const holder = new Process('unshare', ['--net', 'sh', '-c', script], { cwd: '/' });
    await holder.line(/^ready$/, READY_MS);
    return new Namespace(holder);
  }

  get pid(): number {
    return this.#holder.pid;
  }

  /** Goes before the words of a command that is to run in here. */
  get enter(): readonly string[] {
    return ['nsenter', '-t', `${this.pid}`, '-n', '--'];
  }

  async run(...script: string[]): Promise<void> {
    const [program = '', ...words] = this.enter;
    await run(program, ...words, 'sh', '-ec', script.join('\n'));
  }

  /** How the kernel calls it. */
  get id(): string {
    return readlinkSync(`/proc/${this.pid}/ns/net`);
  }

  close(): Promise<void> {
    return this.#holder.kill();
  }
}

export class Machine {
  readonly name: string;
  readonly address: string;
  readonly #namespace: Namespace;

  constructor(name: string, address: string, namespace: Namespace) {
    this.name = name;
    this.address = address;
    this.#namespace = namespace;
  }

  get enter(): readonly string[] {
    return this.#namespace.enter;
  }

  /** How the kernel calls its network namespace. */
  get namespace(): string {
    return this.#namespace.id;
  }

  /** Drops packets to or from these machines, all others by default. */
  async cut(how: Cut, others?: readonly Machine[]): Promise<void> {
    const rules: string[] = [];
    for (const address of others?.map((one) => one.address) ?? ['0.0.0.0/0']) {
      if (how !== 'mute') rules.push(`iptables -w -A INPUT -i eth0 -s ${address} -j DROP`);
      if (how !== 'deaf') rules.push(`iptables -w -A OUTPUT -o eth0 -d ${address} -j DROP`);
    }
    await this.#namespace.run(...rules);
  }

  /** Drops some of all packets, both ways. */
  async lose(percent: number): Promise<void> {
    const some = `-m statistic --mode random --probability ${percent / 100} -j DROP`;
    await this.#namespace.run(
      `iptables -w -A INPUT -i eth0 ${some}`,
      `iptables -w -A OUTPUT -o eth0 ${some}`,
    );
  }

  /**
   * What it sends arrives late: by netem where the kernel has it, else through a link so narrow
   * that a page takes as long.
   */
  async delay(ms: number): Promise<void> {
    const kilobits = Math.round((4_096 * 8) / ms);
    await this.#namespace.run(
      `tc qdisc add dev eth0 root netem delay ${ms}ms ${Math.round(ms / 4)}ms 2>/dev/null ||
       tc qdisc add dev eth0 root tbf rate ${kilobits}kbit burst 2kb latency 1s`,
    );
  }

  /** Everything arrives again, at once. Idempotent. */
  async heal(): Promise<void> {
    await this.#namespace.run('iptables -w -F', 'tc qdisc del dev eth0 root 2>/dev/null || :');
  }
}

export class Network {
  readonly #bridge: Namespace;
  readonly #namespaces: Namespace[];
  readonly machines: Machine[] = [];

  private constructor(bridge: Namespace) {
    this.#bridge = bridge;
    this.#namespaces = [bridge];
  }

  static async open(): Promise<Network> {
    const network = new Network(await Namespace.open());
    await network.#bridge.run(`ip link add ${BRIDGE} type bridge`, `ip link set ${BRIDGE} up`);
    return network;
  }

  async add(name: string): Promise<Machine> {
    const namespace = await Namespace.open();
    this.#namespaces.push(namespace);
    const number = this.machines.length + 1;
    const address = `10.99.0.${number}`;
    const link = `port${number}`;
    await this.#bridge.run(
      `ip link add ${link} type veth peer name eth0 netns ${namespace.pid}`,
      `ip link set ${link} master ${BRIDGE} up`,
    );
    await namespace.run(`ip address add ${address}/24 dev eth0`, 'ip link set eth0 up');
    const machine = new Machine(name, address, namespace);
    this.machines.push(machine);
    return machine;
  }

  /** Idempotent. */
  async close(): Promise<void> {
    await Promise.all(this.#namespaces.map((one) => one.close()));
  }
}
