/**
 * A CSI driver as its users have it: `holdfast csi` processes over a real cluster, which may be
 * killed and started again, one for each node; and what they have done to this machine.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Answer, Caller } from '../csi-driver/caller.js';
import type { Process } from '../fixtures/processes.js';
import { MountBed, shell } from './mount-bed.js';

const READY_MS = 60_000;

export interface DriverOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export class CsiDriver {
  readonly endpoint: string;
  readonly nodeId: string;
  readonly caller: Caller;
  process: Process | null = null;
  readonly #bed: MountBed;
  readonly #args: readonly string[];
  readonly #environment: Readonly<Record<string, string>>;

  constructor(bed: MountBed, nodeId: string, options: DriverOptions = {}) {
    this.#bed = bed;
    this.nodeId = nodeId;
    this.#environment = options.env ?? {};
    const path = join(bed.root, `${nodeId}.sock`);
    this.endpoint = `unix://${path}`;
    this.#args = [
      ...['csi', '--mode', 'all', '--endpoint', this.endpoint, '--node-id', nodeId],
      ...['--zone', 'zone0', ...(options.args ?? ['--agent', 'none'])],
    ];
    this.caller = new Caller(this.endpoint);
  }

  async start(): Promise<void> {
    this.process = this.#bed.start([...this.#args, '--json'], this.#environment);
    await this.process.line(/"ready"/, READY_MS);
  }

  async kill(): Promise<void> {
    await this.process?.kill();
  }

  async restart(): Promise<void> {
    await this.kill();
    await this.start();
  }

  call(method: string, request: object = {}): Promise<Answer> {
    return this.caller.call(method, request);
  }

  outcome(method: string, request: object = {}): Promise<string> {
    return this.caller.outcome(method, request);
  }

  /** What it logged since it was started last. */
  get log(): string {
    return this.process?.stderr ?? '';
  }

  async close(): Promise<void> {
    this.caller.close();
    await this.kill();
  }
}

export class CsiBed {
  readonly bed: MountBed;
  readonly #drivers: CsiDriver[] = [];

  private constructor(bed: MountBed) {
    this.bed = bed;
  }

  static async start(): Promise<CsiBed> {
    return new CsiBed(await MountBed.start());
  }

  async driver(nodeId: string, options: DriverOptions = {}): Promise<CsiDriver> {
    const driver = new CsiDriver(this.bed, nodeId, options);
    this.#drivers.push(driver);
    await driver.start();
    return driver;
  }

  /** Mounts below this bed's directory, as the kernel has them. */
  mounts(): string[] {
    return readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
      .filter((path) => path.startsWith(`${this.bed.root}/`));
  }

  /** Loop devices over files of this bed's volumes. */
  async loops(): Promise<string[]> {
    const { text } = await shell('losetup --list --noheadings --output NAME,BACK-FILE');
    const lines = text.split('\n').filter((line) => line.includes(` ${this.bed.root}/`));
    return lines.map((line) => line.split(' ')[0] ?? '');
  }

  /** Everything that volumes leave on a machine: nothing, it is hoped. */
  async leftovers(): Promise<string[]> {
    const left = await this.bed.leftovers();
    const mounts = this.mounts().map((path) => `mount ${path}`);
    const loops = (await this.loops()).map((name) => `loop device ${name}`);
    return [...left, ...mounts, ...loops];
  }

  async close(): Promise<void> {
    for (const driver of this.#drivers) await driver.close();
    for (const path of this.mounts().reverse()) await shell(`umount -i -c -l '${path}'`);
    for (const name of await this.loops()) await shell(`losetup -d '${name}'`);
    await this.bed.close();
  }
}
