/** Nodes that join a MountBed's cluster later than its own, in zones that the test names. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePorts } from '../fixtures/etcd.js';
import { holdfastBin, type Process, startNode } from '../fixtures/processes.js';
import type { MountBed } from './mount-bed.js';

const WAIT_MS = 120_000;

export class AddedNodes {
  readonly #bed: MountBed;
  readonly #nodes: Process[] = [];

  constructor(bed: MountBed) {
    this.#bed = bed;
  }

  /** Starts one with an empty disk, and waits until it is ready. */
  async start(zone: string): Promise<Process> {
    const { etcd, secretFile, root } = this.#bed.cluster;
    const [port] = await freePorts(1);
    const data = join(root, `added${this.#nodes.length}`, 'data');
    mkdirSync(data, { recursive: true });
    const node = startNode(holdfastBin, [
      ...['node', '--data-dir', data, '--json', '--journal-size', '8MiB'],
      ...['--metadata', etcd.url, '--secret-file', secretFile],
      ...['--listen', `127.0.0.1:${port}`, '--zone', zone],
    ]);
    this.#nodes.push(node);
    await node.line(/"ready"/, WAIT_MS);
    return node;
  }

  /** Polls until something holds. */
  async until(what: string, holds: () => Promise<boolean>): Promise<void> {
    const deadline = Date.now() + WAIT_MS;
    while (!(await holds())) {
      if (Date.now() > deadline) throw new Error(`not within ${WAIT_MS} ms: ${what}`);
      await sleep(500);
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.kill()));
  }
}
