/**
 * Somebody who changes where the replicas of sealed segments are, beside the owners: by
 * compare-and-swap on a chunk alone, as repair does. Here the replicas only change places in their
 * list, since nobody copies anything: what is checked is that no swap of an owner takes it back.
 */
import { chunkPrefix } from '../../src/metadata/keys.js';
import { encodeChunk } from '../../src/metadata/sealed-chunks.js';
import { chunkOf } from '../../src/metadata/stored-volume.js';
import type { Fault } from './nemesis.js';
import type { World } from './world.js';

/** Moves of one fault, spread over its duration. */
const MOVES = 12;
/** Most swaps of an owner are about its newest segments, and so are most moves here. */
const NEWEST_CHANCE = 0.75;

export function moveReplicas(world: World, fault: Fault): true {
  for (let move = 0; move < MOVES; move++) {
    const detail = (fault.detail * (move + 1) * 7.3) % 1;
    world.scheduler.after((fault.duration / MOVES) * (move + detail), () => {
      if (world.chaos) turnAround(world, fault, detail);
    });
  }
  return true;
}

function turnAround(world: World, { target }: Fault, detail: number): void {
  const volume = world.volumes[Math.floor(target * world.volumes.length)];
  if (volume === undefined) return;
  const { entries: chunks } = world.server.peekRange(chunkPrefix(volume.id));
  const at = detail < NEWEST_CHANCE ? chunks.length - 1 : Math.floor(detail * chunks.length);
  const found = chunks[at];
  if (found === undefined) return;
  const { entries } = chunkOf(volume.id, found);
  const turned = entries.map((entry) => {
    const { sealed } = entry;
    return { ...entry, sealed: { ...sealed, replicas: [...sealed.replicas].reverse() } };
  });
  for (const { sealed } of turned) world.checkers.volumes.moved(sealed);
  world.note(() => `MOVE of the replicas in chunk ${found.key.slice(-8)} of ${volume.name}`);
  const value = encodeChunk(volume.id, turned);
  world.apply([{ type: 'put', key: found.key, value }]);
}
