/**
 * The cluster of a driver or plugin that serves from its start on, also while the metadata store
 * cannot be reached: it is opened when it is first needed, and again as long as that fails.
 */
import type { MachineVolumes } from '../lifecycle/machine.js';
import type { VolumeLifecycle } from '../lifecycle/volumes.js';
import {
  type LifecycleOptions,
  machineOf,
  type OpenLifecycle,
  openLifecycle,
} from './lifecycle.js';
import { locate, type SessionOptions } from './session.js';

export class ClusterLater {
  /** Which works without the cluster; what is mounted with it is mounted by the same one. */
  readonly machine: MachineVolumes;
  readonly #options: SessionOptions;
  readonly #more: LifecycleOptions;
  #opening: Promise<OpenLifecycle> | null = null;

  constructor(options: SessionOptions, more: LifecycleOptions) {
    this.#options = options;
    this.#more = more;
    this.machine = machineOf(locate(options, process.env), process.env, more);
  }

  async lifecycle(): Promise<VolumeLifecycle> {
    const opening = this.#opening ?? openLifecycle(this.#options, this.#more, this.machine);
    this.#opening = opening;
    try {
      return (await opening).lifecycle;
    } catch (thrown) {
      if (this.#opening === opening) this.#opening = null;
      throw thrown;
    }
  }

  async close(): Promise<void> {
    const opened = await this.#opening?.catch(() => null);
    await opened?.close();
  }
}
