/**
 * How a run ends: with everything whole, every application's data checked, every page of every copy
 * verified, and nothing left behind by daemons or by the run itself.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Application } from '../applications/application.js';
import { loopsBelow, mountsBelow } from '../machines/disks.js';
import type { Usage } from '../machines/usage.js';
import { mountOf } from '../machines/world.js';
import { nowMs } from '../waits.js';
import type { Field } from './field.js';

/** What a daemon may have more than at the start, when all is quiet again. */
const MORE_DESCRIPTORS = 40;
const MOST_RESIDENT_BYTES = 700 * 1024 * 1024;
const GONE_MS = 30_000;
const POLL_MS = 100;

export interface Ended {
  /** Sentences; empty when all is well. */
  readonly faults: readonly string[];
  /** Until every segment had all its copies. */
  readonly wholeMs: number;
  /** Copies that are sealed, all verified. */
  readonly copies: number;
  readonly verifiedBytes: number;
  /** The most that any daemon has at the end. */
  readonly descriptors: number;
  readonly residentBytes: number;
}

/** Stops everything in order and looks. Rejects when that cannot be done. */
export async function checkedEnd(
  field: Field,
  applications: readonly Application[],
  before: ReadonlyMap<string, Usage>,
): Promise<Ended> {
  const { world } = field;
  const faults: string[] = [];
  const wholeMs = await field.untilWhole();
  await Promise.all(applications.map((one) => one.kill()));
  field.applications.files?.noteSynced(nowMs());
  for (const { name, client } of world.volumes) await mountOf(client, name).sync();
  for (const one of applications) faults.push(...(await one.verify()));
  const used = world.usage();
  for (const [name, usage] of used) faults.push(...grown(name, before.get(name), usage));
  for (const volume of world.volumes) await world.unmount(volume);
  faults.push(...(await statesLeft(field)));
  await field.untilWhole();
  const scrubbed = await world.holdfast('scrub', '--rate', '1GiB', '--json');
  const { copies, bytes } = JSON.parse(scrubbed) as { copies: number; bytes: number };
  for (const { name } of world.volumes) await world.holdfast('volume', 'check', name);
  const most = (of: (usage: Usage) => number): number => Math.max(0, ...[...used.values()].map(of));
  return {
    ...{ faults, wholeMs, copies, verifiedBytes: bytes },
    descriptors: most((usage) => usage.descriptors),
    residentBytes: most((usage) => usage.residentBytes),
  };
}

function grown(name: string, before: Usage | undefined, after: Usage): string[] {
  const faults: string[] = [];
  const had = before?.descriptors ?? after.descriptors;
  if (after.descriptors > had + MORE_DESCRIPTORS) {
    faults.push(`${name} has ${after.descriptors} descriptors open, and had ${had}`);
  }
  if (after.residentBytes > MOST_RESIDENT_BYTES) {
    faults.push(`${name} takes ${after.residentBytes} bytes of memory`);
  }
  return faults;
}

/** State directories of mounts that are gone. */
async function statesLeft(field: Field): Promise<string[]> {
  const deadline = Date.now() + GONE_MS;
  for (;;) {
    const left = field.world.clients.flatMap(({ machine, runDirectory }) =>
      namesIn(join(runDirectory, 'mounts')).map((name) => `mount ${name} on ${machine.name}`),
    );
    if (left.length === 0 || Date.now() > deadline) return left.map((one) => `${one} left state`);
    await sleep(POLL_MS);
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** Mounts, loop devices and processes that outlived the run: nothing, it is hoped. */
export async function leftBehind(root: string, spaces: ReadonlySet<string>): Promise<string[]> {
  const deadline = Date.now() + GONE_MS;
  for (;;) {
    const left = [
      ...mountsBelow(root).map((point) => `mount ${point} was left`),
      ...loopsBelow(root).map((name) => `loop device ${name} was left`),
      ...processesIn(spaces).map((pid) => `process ${pid} was left in a network namespace`),
    ];
    if (left.length === 0 || Date.now() > deadline) return left;
    await sleep(POLL_MS);
  }
}

function processesIn(spaces: ReadonlySet<string>): string[] {
  return readdirSync('/proc').filter((name) => {
    try {
      return /^\d+$/.test(name) && spaces.has(readlinkSync(`/proc/${name}/ns/net`));
    } catch {
      return false;
    }
  });
}
