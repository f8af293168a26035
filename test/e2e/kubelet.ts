/**
 * What kubelet and the controllers of Kubernetes do with one volume, step by step, as they do it:
 * paths, contexts, repetition until a call ends well. The wrong ways are for tests to take.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Answer } from '../csi-driver/caller.js';
import type { CsiDriver } from './csi-bed.js';

const MIB = 2 ** 20;
const PATIENCE_MS = 60_000;

export interface VolumeWish {
  readonly name: string;
  readonly capability: object;
  readonly sizeBytes?: number;
  readonly parameters?: Readonly<Record<string, string>>;
}

export class Kubelet {
  readonly driver: CsiDriver;
  readonly id: string;
  readonly capability: object;
  readonly staging: string;
  readonly #pods: string;

  constructor(driver: CsiDriver, root: string, id: string, capability: object) {
    this.driver = driver;
    this.id = id;
    this.capability = capability;
    const name = `${driver.nodeId}-${id.slice(0, 8)}`;
    this.staging = join(root, 'kubelet', name, 'globalmount');
    this.#pods = join(root, 'kubelet', name, 'pods');
  }

  /** Creates a volume as external-provisioner does. */
  static async provision(driver: CsiDriver, root: string, wish: VolumeWish): Promise<Kubelet> {
    const { name, capability, parameters = {}, sizeBytes = 64 * MIB } = wish;
    const { volume } = await driver.call('CreateVolume', {
      ...{ name, parameters, volume_capabilities: [capability] },
      capacity_range: { required_bytes: sizeBytes },
    });
    return new Kubelet(driver, root, volume.volume_id, capability);
  }

  /** The same volume on another machine. */
  on(driver: CsiDriver, root: string): Kubelet {
    return new Kubelet(driver, root, this.id, this.capability);
  }

  target(pod: string): string {
    return join(this.#pods, pod, 'mount');
  }

  request(more: object = {}): object {
    return { volume_id: this.id, volume_capability: this.capability, ...more };
  }

  get attachRequest(): object {
    return this.request({ node_id: this.driver.nodeId });
  }

  get stageRequest(): object {
    return this.request({ staging_target_path: this.staging });
  }

  publishRequest(pod: string, more: object = {}): object {
    const target_path = this.target(pod);
    return this.request({ staging_target_path: this.staging, target_path, ...more });
  }

  unpublishRequest(pod: string): object {
    return { volume_id: this.id, target_path: this.target(pod) };
  }

  get unstageRequest(): object {
    return { volume_id: this.id, staging_target_path: this.staging };
  }

  attach(): Promise<Answer> {
    return this.driver.call('ControllerPublishVolume', this.attachRequest);
  }
  detach(): Promise<Answer> {
    return this.driver.call('ControllerUnpublishVolume', this.attachRequest);
  }
  stage(): Promise<Answer> {
    return this.driver.call('NodeStageVolume', this.stageRequest);
  }
  publish(pod: string, more: object = {}): Promise<Answer> {
    return this.driver.call('NodePublishVolume', this.publishRequest(pod, more));
  }
  unpublish(pod: string): Promise<Answer> {
    return this.driver.call('NodeUnpublishVolume', this.unpublishRequest(pod));
  }
  unstage(): Promise<Answer> {
    return this.driver.call('NodeUnstageVolume', this.unstageRequest);
  }
  delete(): Promise<Answer> {
    return this.driver.call('DeleteVolume', { volume_id: this.id });
  }

  /** Everything up to a running pod. */
  async start(pod: string): Promise<void> {
    await this.attach();
    await this.stage();
    await this.publish(pod);
  }

  /** Everything after the last pod. */
  async end(pod: string): Promise<void> {
    await this.unpublish(pod);
    await this.unstage();
    await this.detach();
  }

  /** Repeats a call until it ends well, as all of Kubernetes does. */
  async insist(method: string, request: object): Promise<void> {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const outcome = await this.driver.outcome(method, request);
      if (outcome === 'OK') return;
      if (Date.now() > deadline) throw new Error(`${method}: ${outcome}`);
      await sleep(100);
    }
  }
}

/** How often something is mounted at a path: more than once is one time too many. */
export function mountsAt(path: string): number {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.filter((line) => line.split(' ')[4] === path).length;
}

/** 'absent', 'empty' (what a pod must never see), or how often it is mounted. */
export function stateOf(path: string): string | number {
  const count = mountsAt(path);
  if (count > 0) return count;
  return existsSync(path) ? 'empty' : 'absent';
}
