/**
 * MachineVolumes by way of the agent of this machine: for processes that live in a container, whose
 * mounts and daemons would end with it.
 */

import { type AgentCall, type PortableLocation, resultOf } from './agent-protocol.js';
import type { MachineVolumes } from './machine.js';
import type {
  BindRequest,
  MachineMountRequest,
  MachineVolume,
  VolumeStats,
} from './volume-types.js';

export interface AgentClientDeps {
  readonly name: string;
  /** One request; resolves with the answer's body. Rejects with UNAVAILABLE, TIMEOUT. */
  readonly call: (call: AgentCall, body: string) => Promise<string>;
  /** Read anew each time: secrets are replaced. */
  readonly location: () => PortableLocation;
}

export class AgentMachine implements MachineVolumes {
  readonly name: string;
  readonly #deps: AgentClientDeps;

  constructor(deps: AgentClientDeps) {
    this.name = deps.name;
    this.#deps = deps;
  }

  list(): Promise<MachineVolume[]> {
    return this.#ask('list', {});
  }

  mount(request: MachineMountRequest, directory: string): Promise<MachineVolume> {
    return this.#ask('mount', { ...this.#mountBody(request), directory });
  }

  async unmount(
    directory: string,
    options: { readonly lazy?: boolean; readonly timeoutMs?: number } = {},
  ): Promise<void> {
    await this.#ask('unmount', { directory, ...options });
  }

  openDevice(request: MachineMountRequest): Promise<MachineVolume> {
    return this.#ask('openDevice', this.#mountBody(request));
  }

  async closeDevice(volume: string): Promise<void> {
    await this.#ask('closeDevice', { volume });
  }

  async bind(request: BindRequest): Promise<void> {
    await this.#ask('bind', request);
  }

  async unbind(path: string): Promise<void> {
    await this.#ask('unbind', { path });
  }

  async grow(volume: string, sizeBytes: number): Promise<void> {
    await this.#ask('grow', { volume, sizeBytes });
  }

  stats(path: string): Promise<VolumeStats> {
    return this.#ask('stats', { path });
  }

  #mountBody(request: MachineMountRequest) {
    return { request, machine: this.name, location: this.#deps.location() };
  }

  async #ask<T>(call: AgentCall, body: object): Promise<T> {
    return resultOf(await this.#deps.call(call, JSON.stringify(body))) as T;
  }
}
