/**
 * How a seed ends: everything is healed, and then what the design promises must come true within a
 * bounded time: takeovers complete, appends go through, sealed segments regain their copies (16); a
 * total power loss takes nothing that was acknowledged (15, 14); and without the metadata store and
 * one replica the volume goes on (17).
 */
import type { Incarnation } from '../../src/core/ids.js';
import { COPY_TIMEOUT_MS } from '../../src/core/limits.js';
import type { Replica, SealedSegment } from '../../src/metadata/model.js';
import { MOVES, type ReplicaMove } from '../../src/metadata/replica-moves.js';
import type { StorageMachine } from './machines.js';
import type { OwnerProcess } from './owner-process.js';
import { short, Violation } from './violation.js';
import type { VolumeSim, World } from './world.js';

const LIVENESS_MS = 60_000;
/** Longer than a COPY whose request or answer was lost, and its next attempt (COPY_TIMEOUT_MS). */
const COPIES_MS = 300_000;
/** For an owner that lost touch with the store a moment ago to have finished its roll. */
const SETTLE_MS = 15_000;

/**
 * Runs the world until a condition holds, looking now and then; a violation if it does not in time.
 */
export async function within(
  world: World,
  ms: number,
  invariant: number,
  condition: () => boolean,
  what: () => string,
  everyMs = 5,
): Promise<void> {
  const limit = world.scheduler.now + ms;
  while (!condition()) {
    if (world.scheduler.now >= limit) {
      world.checkers.fail(new Violation(invariant, `after ${ms} ms still not: ${what()}`));
    }
    await runFor(world, everyMs);
  }
}

export async function runFor(world: World, ms: number): Promise<void> {
  const limit = world.scheduler.now + ms;
  while (await world.step(limit)) {
    // Each step is one event.
  }
}

export async function endWorld(world: World): Promise<void> {
  world.nemesis.stop();
  world.chaos = false;
  world.note(() => 'HEAL everything');
  world.injector.healAll();
  for (const volume of world.volumes) await live(world, volume, 16);
  await copies(world);
  if (world.random.fork('ending').chance(0.5)) {
    await powerLoss(world);
    for (const volume of world.volumes) await live(world, volume, 16);
  }
  for (const volume of world.volumes) await replayAll(world, volume);
  if (world.random.fork('outage').chance(0.3)) {
    for (const volume of world.volumes) await withoutMetadata(world, volume);
  }
}

/** Some owner serves and acknowledges. */
async function live(world: World, volume: VolumeSim, invariant: number): Promise<OwnerProcess> {
  await within(
    world,
    LIVENESS_MS,
    invariant,
    () => world.servingOwner(volume) !== null,
    () => `${volume.name} is taken over (${describeOwners(volume)})`,
  );
  const limit = world.scheduler.now + LIVENESS_MS;
  for (;;) {
    const owner = world.servingOwner(volume);
    let acked = false;
    owner?.appendOnce(() => {
      acked = true;
    });
    const tried = world.scheduler.now;
    while (!acked && world.scheduler.now < tried + 5_000) {
      if (!(await world.step(tried + 5_000))) break;
    }
    if (acked && owner !== null) return owner;
    if (world.scheduler.now > limit) {
      const what = `${volume.name} acknowledges appends (${describeOwners(volume)})`;
      world.checkers.fail(new Violation(invariant, `not after ${LIVENESS_MS} ms: ${what}`));
    }
  }
}

function describeOwners(volume: VolumeSim): string {
  return volume.owners
    .slice(-4)
    .map((owner) => {
      const { state } = owner.owner;
      const step = state.type === 'taking-over' ? ` ${state.step}` : '';
      return `${owner.name} ${owner.process.alive ? state.type : 'dead'}${step}`;
    })
    .join(', ');
}

/** Every sealed segment has all the copies that its living disks can hold. */
async function copies(world: World): Promise<void> {
  const missing = (): string | null => {
    for (const volume of world.volumes) {
      for (const sealed of world.record(volume).sealed) {
        const lacking = lacks(world, volume, sealed);
        if (lacking !== null) return `${short(sealed.segment)} on ${lacking}`;
      }
    }
    return null;
  };
  await within(
    world,
    COPIES_MS,
    16,
    () => missing() === null,
    () => `copies are complete (${missing()})`,
    200,
  );
  // A move whose segment is whole by now waits for the COPY that was sent for it, too.
  await within(
    world,
    COPY_TIMEOUT_MS + LIVENESS_MS,
    18,
    () => leftovers(world) === null,
    () => `nothing is left of repair (${leftovers(world)})`,
    200,
  );
}

/**
 * Why a sealed segment does not have all its copies, each on a disk that is there; null if it has.
 * Where too few nodes have a disk that can be used, those count that are.
 */
function lacks(world: World, volume: VolumeSim, sealed: SealedSegment): string | null {
  const isEnough = hasNodesFor(world, volume);
  let found = 0;
  for (const replica of sealed.replicas) {
    const machine = world.machines.find((one) => one.node === replica.node);
    const isThere = machine?.incarnations().includes(replica.incarnation) === true;
    if (!isThere || machine.removed) {
      if (!isEnough) continue;
      return `a disk that is gone (${short(replica.incarnation)})`;
    }
    if (machine.drained && isEnough) return `${machine.name}, which is drained`;
    found += 1;
    if (!canOpen(world, machine, replica.incarnation)) continue;
    const disk = openDisk(machine, replica.incarnation);
    const copy = disk?.segments.find((one) => one.segment === sealed.segment);
    if (copy?.durableLength !== sealed.end || copy.sealedEnd !== sealed.end) {
      return `${machine.name} (${copy?.durableLength ?? 'nothing'} of ${sealed.end})`;
    }
  }
  return isEnough && found < volume.replicas ? `only ${found} disks` : null;
}

function hasNodesFor(world: World, volume: VolumeSim): boolean {
  const usable = world.machines.filter((machine) => {
    const { registered, removed, drained } = machine;
    const opens = (registered ?? []).some((disk) => canOpen(world, machine, disk));
    return opens && !removed && !drained;
  });
  return usable.length >= volume.replicas;
}

/** A damaged disk may refuse to open; then it is for an operator to replace. */
function canOpen(world: World, machine: StorageMachine, disk: Incarnation): boolean {
  return openDisk(machine, disk) !== undefined || !world.checkers.replicas.isDamaged(disk);
}

function openDisk({ storage }: StorageMachine, disk: Incarnation) {
  return storage?.inspect().find(({ incarnation }) => incarnation === disk);
}

/** Whether there are too few nodes for the segment of a move, or a disk of its list is damaged. */
function isShort(world: World, moveKey: string): boolean {
  const volume = world.volumes.find(({ id }) => moveKey.startsWith(MOVES + id));
  if (volume === undefined) return false;
  const { sealed } = world.record(volume);
  const replicas = sealed.find(({ segment }) => moveKey.endsWith(segment))?.replicas ?? [];
  const isOpen = ({ node, incarnation }: Replica): boolean =>
    world.machines.some((one) => one.node === node && openDisk(one, incarnation) !== undefined);
  return !hasNodesFor(world, volume) || !replicas.every(isOpen);
}

/** What repair left behind: moves that never end, and copies of segments that are deleted. */
function leftovers(world: World): string | null {
  // What is to be dropped by a node or disk that never comes up again waits for it.
  const isDown = ({ node, incarnation }: Replica): boolean => {
    const machine = world.machines.find((one) => one.node === node);
    return machine === undefined || openDisk(machine, incarnation) === undefined;
  };
  for (const { key, value } of world.server.peekRange(MOVES).entries) {
    const { filling, leaving } = JSON.parse(value) as ReplicaMove;
    if (filling === null && leaving.every(isDown)) continue;
    // Where a listed copy cannot be had, one that was replaced is not spared.
    if (filling === null && isShort(world, key)) continue;
    return `the move ${key.slice(-32, -26)} is over: ${value}`;
  }
  for (const machine of world.machines) {
    for (const { incarnation, segments } of machine.storage?.inspect() ?? []) {
      // What was deleted while its node was registered without it stays on a disk.
      if (machine.missed.has(incarnation)) continue;
      const back = segments.find(({ segment, sealedEnd, deleted }) => {
        return sealedEnd !== null && !deleted && world.checkers.volumes.isGone(segment);
      });
      if (back !== undefined) return `${machine.name} gave up ${short(back.segment)} for good`;
    }
  }
  return null;
}

/** All storage nodes lose power at once, in the middle of things. */
async function powerLoss(world: World): Promise<void> {
  world.note(() => 'POWER LOSS of all nodes');
  world.hit('fault.all.power');
  for (const machine of world.machines) machine.powerOff();
  for (const volume of world.volumes) for (const owner of volume.owners) owner.kill();
  await runFor(world, 50);
  for (const machine of world.machines) machine.powerOn();
}

async function replayAll(world: World, volume: VolumeSim): Promise<void> {
  let done = false;
  const limit = world.scheduler.now + LIVENESS_MS;
  while (!done) {
    let failed = false;
    world.servingOwner(volume)?.replay((error) => {
      if (error === null) done = true;
      else failed = true;
    });
    const tried = world.scheduler.now;
    while (!done && !failed && (await world.step(tried + 10_000))) {
      // Each step is one event.
    }
    if (!done && world.scheduler.now > limit) {
      world.checkers.fail(new Violation(16, `${volume.name} cannot be replayed`));
    }
    if (failed) await runFor(world, 100);
  }
}

/** Its owner is in the middle of nothing: no roll, no swap, and a spare for the next roll. */
function isCalm(world: World, volume: VolumeSim): boolean {
  const seen = world.servingOwner(volume)?.owner.inspect();
  if (seen === undefined || seen.swapInFlight) return false;
  const { current, frozen, spare } = seen;
  return frozen === null && spare !== null && current !== null;
}

/** Invariant 17: the metadata store and one replica of the current segment are down. */
async function withoutMetadata(world: World, volume: VolumeSim): Promise<void> {
  if (volume.replicas - volume.ackQuorum < 1) return;
  const limit = world.scheduler.now + SETTLE_MS;
  while (!isCalm(world, volume) && world.scheduler.now < limit) await runFor(world, 50);
  const owner = await live(world, volume, 16);
  // One failure is what is promised: a replica that is gone already, or left behind, was that one.
  const { current: writing, frozen } = owner.owner.inspect();
  const whole = writing?.replicas.every((replica) => replica.mode === 'following') ?? false;
  // So was a node that was removed, if the others are too few for a whole group.
  const isShort = (writing?.replicas.length ?? 0) < volume.replicas;
  if (!whole || isShort || frozen !== null) return;
  world.note(() => 'OUTAGE of the metadata store, and one replica goes down');
  world.hit('ending.without-metadata');
  world.metadata.setOutage(true);
  const current = world.record(volume).open[0];
  const node = current?.replicas[0]?.node;
  const machine = world.machines.find((one) => one.node === node);
  machine?.powerOff();
  for (let i = 0; i < 5; i++) {
    let acked = false;
    owner.appendOnce(() => {
      acked = true;
    });
    await within(
      world,
      20_000,
      17,
      () => acked,
      () => `${volume.name} acknowledges without metadata and ${machine?.name}`,
    );
  }
  await readUntilOk(world, owner);
  machine?.powerOn();
  world.metadata.setOutage(false);
  await live(world, volume, 16);
}

async function readUntilOk(world: World, owner: OwnerProcess): Promise<void> {
  const acked = owner.volume.acked.at(-1);
  if (acked === undefined) return;
  let ok = false;
  let waiting = false;
  await within(
    world,
    20_000,
    17,
    () => {
      if (!ok && !waiting) {
        waiting = true;
        owner.readOne(acked, (error) => {
          waiting = false;
          ok = error === null;
        });
      }
      return ok;
    },
    () => `${owner.volume.name} serves reads without metadata`,
  );
}
