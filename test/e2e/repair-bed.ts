/**
 * What tests ask a cluster about its copies, and a program that works on a mount meanwhile and must
 * not see an error.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RepairReport } from '../../src/metadata/repair-report.js';
import type { ClusterNode } from '../fixtures/cluster.js';
import { distRoot, startNode } from '../fixtures/processes.js';
import type { Steady } from '../fixtures/steady-worker.js';
import type { MountBed } from './mount-bed.js';

/** A lease, what the controller waits for after it began to lead, and the copies. */
const REPAIRED_MS = 120_000;

export interface ListedNode {
  readonly node: string;
  readonly address: string;
  readonly state: string;
  readonly sealedSegments: number;
  readonly openSegments: number;
}

/** Polls; says how long it took. */
export async function eventually(what: string, test: () => Promise<boolean>): Promise<number> {
  const began = Date.now();
  while (!(await test())) {
    if (Date.now() - began > REPAIRED_MS) throw new Error(`not in ${REPAIRED_MS} ms: ${what}`);
    await sleep(500);
  }
  return Date.now() - began;
}

export class RepairBed {
  constructor(
    readonly bed: MountBed,
    readonly directory: string,
  ) {}

  json = async <T>(...args: string[]): Promise<T> => {
    const { lines, stderr } = await this.bed.holdfast(...args, '--json');
    if (lines[0] === undefined) throw new Error(`${args.join(' ')}: ${stderr}`);
    return JSON.parse(lines[0]) as T;
  };

  nodeOf = async ({ port }: ClusterNode): Promise<ListedNode> => {
    const found = (await this.json<ListedNode[]>('node', 'ls')).find((one) => {
      return one.address.endsWith(`:${port}`);
    });
    if (found === undefined) throw new Error(`no node listens at ${port}`);
    return found;
  };

  holds = async (node: ClusterNode): Promise<number> => (await this.nodeOf(node)).sealedSegments;

  repair = async (): Promise<RepairReport> =>
    (await this.json<{ repair: RepairReport }>('status')).repair;

  /** Every sealed segment has its copies, and nothing else is to be done. */
  isWhole = async (): Promise<boolean> => {
    const { copies, degraded, running, leaving } = await this.repair();
    return copies + degraded + running + leaving === 0;
  };

  /** Runs `trouble` while a program works on the mount; says what the program saw. */
  steadily = async (trouble: () => Promise<void>): Promise<Steady> => {
    const { bed, directory } = this;
    await bed.mount('db', directory);
    const program = `${distRoot}test/fixtures/steady-worker.js`;
    const worker = startNode(program, [join(directory, 'file')]);
    await worker.line(/^steady/, 30_000);
    await trouble();
    // What must go on goes on after the trouble, too.
    await sleep(2_000);
    worker.signal('SIGTERM');
    const { code } = await worker.exited;
    if (code !== 0) throw new Error(`the program saw an error: ${worker.stderr}`);
    const unmounted = await bed.holdfast('umount', directory);
    if (unmounted.code !== 0) throw new Error(unmounted.stderr);
    return JSON.parse(worker.lines.at(-1) ?? '{}') as Steady;
  };
}
