/** One member of the metadata store on a machine of its own; killed and started again by pid. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Process } from '../../test/fixtures/processes.js';
import type { Machine } from './network.js';

const READY_MS = 60_000;
const CLIENT_PORT = 2379;
const PEER_PORT = 2380;

export class EtcdServer {
  readonly machine: Machine;
  readonly #directory: string;
  readonly #all: readonly Machine[];
  process: Process | null = null;

  constructor(machine: Machine, directory: string, all: readonly Machine[]) {
    this.machine = machine;
    this.#directory = directory;
    this.#all = all;
  }

  /** HOST:PORT for clients. */
  get endpoint(): string {
    return `${this.machine.address}:${CLIENT_PORT}`;
  }

  /** Does not wait until it serves. */
  start(): void {
    const { name, address, enter } = this.machine;
    const client = `http://${address}:${CLIENT_PORT}`;
    const peerOf = (one: Machine): string => `http://${one.address}:${PEER_PORT}`;
    const peers = this.#all.map((one) => `${one.name}=${peerOf(one)}`).join(',');
    const [program = '', ...words] = enter;
    this.process = new Process(program, [
      ...[...words, 'etcd', '--name', name, '--data-dir', this.#directory],
      ...['--listen-client-urls', client, '--advertise-client-urls', client],
      ...['--listen-peer-urls', peerOf(this.machine)],
      ...['--initial-advertise-peer-urls', peerOf(this.machine)],
      ...['--initial-cluster', peers, '--initial-cluster-state', 'new', '--log-level', 'error'],
    ]);
  }

  /** Waits until it answers linearizable reads. */
  async ready(): Promise<void> {
    const deadline = Date.now() + READY_MS;
    const [program = '', ...words] = this.machine.enter;
    const health = ['etcdctl', '--endpoints', this.endpoint, 'endpoint', 'health'];
    for (;;) {
      const { code } = await new Process(program, [...words, ...health]).exited;
      if (code === 0) return;
      const why = this.process?.stderr.slice(-2000);
      if (this.process?.alive !== true) throw new Error(`${this.machine.name} ended: ${why}`);
      if (Date.now() > deadline) throw new Error(`${this.machine.name} is not healthy: ${why}`);
      await sleep(100);
    }
  }

  async kill(): Promise<void> {
    await this.process?.kill();
  }
}
