/** Faults that destroy stored bytes of one node: what they destroyed must come back. */
import { closeSync, existsSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { PAGE_BYTES } from '../../src/core/units.js';
import type { StorageMachine } from '../machines/world.js';
import type { Struck } from './fault.js';
import type { Field } from './field.js';

const ROTTEN_PAGES = 6;
const SCRUB_TRIES = 3;

interface Rotten {
  readonly path: string;
  readonly offset: number;
  readonly bytes: Buffer;
}

/** Pages of sealed copies on one node become something else; a scrub makes them good. */
export async function rot(field: Field): Promise<Struck> {
  const { machine, disk, node } = field.one(field.world.storage);
  const id = await idOf(field, { machine, disk, node });
  const { volumes } = await field.world.status();
  const sealed = volumes.flatMap((volume) => volume.sealed);
  const here = sealed.filter(({ replicas, end }) => {
    return end >= PAGE_BYTES && replicas.some((replica) => replica.node === id);
  });
  const rotten: Rotten[] = [];
  for (let count = 0; count < ROTTEN_PAGES && here.length > 0; count++) {
    const { segment, end } = field.one(here);
    const path = join(disk.data, 'segments', segment.slice(0, 2), `${segment}.data`);
    const offset = field.choose.below(Math.floor(end / PAGE_BYTES)) * PAGE_BYTES;
    const bytes = Buffer.alloc(PAGE_BYTES, 0x5a + count);
    if (overwrite(path, offset, bytes)) rotten.push({ path, offset, bytes });
  }
  const heal = async (): Promise<void> => {
    await scrub(field, id);
    const still = rotten.find(isStill);
    if (still !== undefined) throw new Error(`a scrub left ${still.path} rotten`);
  };
  return { what: `${rotten.length} pages of ${machine.name}`, heal };
}

/** A node loses its disk and is given up; an empty one comes in its place, as another node. */
export async function wipe(field: Field): Promise<Struck> {
  const storage = field.one(field.world.storage);
  const { node, disk, machine } = storage;
  const former = await idOf(field, storage);
  await node.kill();
  disk.wipe();
  const heal = async (): Promise<void> => {
    // Where a disk is missed, an empty one is not formatted.
    await field.world.holdfast('node', 'rm', former, '--force');
    await node.start();
    await field.untilWhole();
  };
  return { what: machine.name, heal };
}

async function idOf(field: Field, { machine }: StorageMachine): Promise<string> {
  const { nodes } = await field.world.status();
  const found = nodes.find(({ address }) => address.startsWith(`${machine.address}:`));
  if (found === undefined) throw new Error(`${machine.name} is not registered`);
  return found.node;
}

/** False when the file went meanwhile, or is shorter: it holds nothing that is needed there. */
function overwrite(path: string, offset: number, bytes: Buffer): boolean {
  if (!existsSync(path)) return false;
  const file = openSync(path, 'r+');
  try {
    writeSync(file, bytes, 0, bytes.length, offset);
    return true;
  } finally {
    closeSync(file);
  }
}

function isStill({ path, offset, bytes }: Rotten): boolean {
  if (!existsSync(path)) return false;
  const file = openSync(path, 'r');
  try {
    const found = Buffer.alloc(PAGE_BYTES);
    readSync(file, found, 0, PAGE_BYTES, offset);
    return found.equals(bytes);
  } finally {
    closeSync(file);
  }
}

/** What it looks at may be deleted meanwhile: then it says so once, and not again. */
async function scrub(field: Field, node: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await field.world.holdfast('scrub', '--node', node, '--rate', '1GiB');
      return;
    } catch (error) {
      if (tries === SCRUB_TRIES) throw error;
    }
  }
}
