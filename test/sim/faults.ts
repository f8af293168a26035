/**
 * Carries a seed's faults out on the world, within the fault model of docs/FAULTS.md: crashes,
 * cuts, pauses and outages without limit; permanent damage (wiped disks, rot, unreadable sectors)
 * only on as many nodes as every segment can bear to lose.
 */
import { INDEX_HEADER_BYTES } from '../../src/block/index-snapshot.js';
import type { SegmentId } from '../../src/core/ids.js';
import { READ_LEASE_MS } from '../../src/core/limits.js';
import { drainChange, removal } from '../../src/metadata/node-states.js';
import type { SimDisk } from '../fixtures/sim-disk.js';
import type { StorageMachine } from './machines.js';
import { moveReplicas } from './moves.js';
import { describeFault, type Fault, type FaultKind } from './nemesis.js';
import { short } from './violation.js';
import type { World } from './world.js';

/** About what a takeover takes that has to wait for read leases. */
const TAKEOVER_MS = 2_500;

type Apply = (world: World, fault: Fault) => boolean;

function at<T>(items: readonly T[], fraction: number): T | undefined {
  return items[Math.floor(fraction * items.length)];
}

function machineOf(world: World, fault: Fault): StorageMachine {
  return at(world.machines, fault.target) as StorageMachine;
}

function diskOf(world: World, fault: Fault): SimDisk | undefined {
  const drives = world.machines.flatMap((machine) => machine.drives);
  return at(drives, fault.target)?.medium;
}

/**
 * The nodes that permanent damage may befall. None while something is written to fewer replicas
 * than it should have, for want of nodes with disks: that may bear no loss.
 */
function damageables(world: World): StorageMachine[] {
  const isShort = world.volumes.some((volume) => {
    const { planned, open } = world.record(volume);
    return [...planned, ...open].some(({ replicas }) => replicas.length < volume.replicas);
  });
  return isShort ? [] : world.machines.slice(0, world.spec.damagedNodes);
}

function damageable(world: World, fault: Fault): StorageMachine | undefined {
  return at(damageables(world), fault.target);
}

function later(world: World, fault: Fault, undo: () => void): true {
  world.injector.undoAfter(fault.duration, undo);
  return true;
}

function withProcess(machine: StorageMachine, act: () => void): boolean {
  if (!machine.up) return false;
  act();
  return true;
}

const powerCycle = (machine: StorageMachine, fault: Fault): boolean => {
  if (!machine.powered) return false;
  machine.powerOff();
  machine.restartAfter(fault.duration);
  return true;
};

const hostOf = (world: World, fault: Fault): string => at(world.hosts, fault.target) as string;

function peers(world: World, name: string): string[] {
  const all = [...world.machines.map((machine) => machine.name), ...world.hosts];
  return all.filter((other) => other !== name);
}

function cutAll(world: World, fault: Fault, name: string, others: readonly string[]): true {
  const oneWay = fault.kind.endsWith('one-way');
  const outwards = !oneWay || fault.detail < 0.5;
  const inwards = !oneWay || fault.detail >= 0.5;
  for (const other of others) {
    if (outwards) world.network.cut(name, other);
    if (inwards) world.network.cut(other, name);
  }
  const resets = fault.detail * 2 - Math.floor(fault.detail * 2);
  return later(world, fault, () => {
    for (const other of others) {
      world.network.heal(name, other, resets < 0.5 ? 0 : 0.7);
      world.network.heal(other, name, resets < 0.5 ? 0 : 0.7);
    }
  });
}

function isolate(world: World, fault: Fault): true {
  const name = machineOf(world, fault).name;
  return cutAll(world, fault, name, peers(world, name));
}

/**
 * Cuts an owner's host off from some or all nodes, and sometimes from the metadata store as well.
 */
function cutOwner(world: World, fault: Fault): true {
  const host = hostOf(world, fault);
  const nodes = world.machines.map((machine) => machine.name);
  const some = nodes.filter((_, index) => ((fault.detail * 977 * (index + 1)) % 1) * 3 > 1);
  return cutAll(world, fault, host, some.length > 0 ? some : nodes);
}

function setDisk(set: (disk: SimDisk) => () => void): Apply {
  return (world, fault) => {
    const disk = diskOf(world, fault);
    if (disk === undefined) return false;
    return later(world, fault, set(disk));
  };
}

function damage(
  world: World,
  fault: Fault,
  apply: (disk: SimDisk, isOpen: boolean) => string | null,
): boolean {
  const machine = damageable(world, fault);
  const drive = machine === undefined ? undefined : at(machine.drives, fault.detail);
  if (machine === undefined || drive === undefined || drive.incarnation === null) return false;
  // One that was wiped holds nothing that could be damaged.
  if (drive.needsFormat) return false;
  const what = apply(drive.medium, machine.isOpen);
  if (what === null) return false;
  world.checkers.replicas.damaged(drive.incarnation);
  world.note(() => `${drive.medium.name}: ${what}`);
  return true;
}

/** What may become unreadable: all but the lock, which holds nothing. */
const breakable = (path: string): boolean => path !== 'lock';
/**
 * What may rot: not the newest group of the journal, which is torn as far as a start can tell, as
 * nothing behind it says that it was flushed.
 */
const rottable = (path: string, isNewest: boolean): boolean =>
  breakable(path) && !(path === 'journal' && isNewest);
/**
 * Nor, until the program has opened the disk, data that the journal may not tell of: a large batch
 * that was acknowledged within JOURNAL_IDLE_MS of its last end.
 */
const rottableAtRest = (path: string, isNewest: boolean): boolean =>
  rottable(path, isNewest) && !path.endsWith('.data');

function wipe(world: World, fault: Fault, machine = damageable(world, fault)): boolean {
  if (machine === undefined || !machine.powered) return false;
  const index = Math.floor(fault.detail * machine.drives.length);
  const drive = machine.drives[index];
  if (drive === undefined || drive.needsFormat) return false;
  machine.powerOff();
  world.note(() => `${drive.medium.name} (${short(drive.incarnation ?? '')}) is wiped`);
  machine.wipe(index);
  machine.restartAfter(fault.duration);
  return true;
}

/** Both indexes of a disk rot while its program is down: it has to begin a new life. */
function loseIndex(world: World, fault: Fault): boolean {
  const machine = damageable(world, fault);
  if (machine === undefined || !machine.powered) return false;
  const drive = at(machine.drives, fault.detail);
  if (drive === undefined || drive.incarnation === null || drive.needsFormat) return false;
  if (fault.detail * 4 - Math.floor(fault.detail * 4) < 0.5) machine.kill();
  else machine.powerOff();
  machine.restartAfter(fault.duration);
  let rotten = 0;
  drive.medium.forEachFile((path, inode) => {
    if (!/^index-[AB]$/.test(path) || inode.mediaPages().length === 0) return;
    inode.flipBit(0, drive.medium.random.below(INDEX_HEADER_BYTES * 8));
    rotten += 1;
  });
  world.checkers.replicas.damaged(drive.incarnation);
  world.note(() => `${drive.medium.name}: ${rotten} indexes rot`);
  return true;
}

/**
 * A copy is complete at last, and then another one is wiped while the other holders have no power:
 * an owner that takes over now has only what was copied.
 */
function wipeAfterCopy(world: World, fault: Fault): boolean {
  const copied = world.injector.lastCopy;
  if (copied === null) return false;
  const holders = world.checkers.volumes.located(copied.segment);
  const holds = (machine: StorageMachine): boolean =>
    machine.incarnations().some((incarnation) => holders.includes(incarnation));
  const lost = damageables(world).find((machine) => machine !== copied.machine && holds(machine));
  if (lost === undefined || !wipe(world, fault, lost)) return false;
  for (const machine of world.machines) {
    if (machine === lost || machine === copied.machine || !holds(machine)) continue;
    if (!machine.powered) continue;
    machine.powerOff();
    machine.restartAfter(fault.duration + TAKEOVER_MS);
  }
  for (const volume of world.volumes) {
    const owner = volume.owners.filter((one) => !one.stopped).at(-1);
    if (owner !== undefined) world.injector.startOwnerSoon(volume, owner.host, fault);
  }
  return true;
}

function allPower(world: World, fault: Fault): boolean {
  for (const machine of world.machines) {
    if (!machine.powered) continue;
    machine.powerOff();
    machine.restartAfter(fault.duration * (0.5 + machine.name.charCodeAt(1) * 0.01));
  }
  return true;
}

function pauseNode(world: World, fault: Fault): boolean {
  const { process } = machineOf(world, fault);
  if (process === null || !process.alive || process.paused) return false;
  process.pause();
  return later(world, fault, () => process.resume(fault.detail < 0.5));
}

function liveOwner(world: World, fault: Fault) {
  const volume = at(world.volumes, fault.target);
  return volume?.owners.filter((owner) => !owner.stopped).at(-1);
}

function pauseOwner(world: World, fault: Fault): boolean {
  const owner = liveOwner(world, fault);
  if (owner === undefined || owner.process.paused) return false;
  owner.process.pause();
  world.note(() => `${owner.name} is paused`);
  // Long pauses are the interesting ones: somebody else takes over meanwhile.
  const volume = owner.volume;
  const replaced = fault.detail < 0.6;
  if (replaced) world.injector.startOwnerSoon(volume, owner.host, fault);
  world.injector.undoAfter(fault.duration + (replaced ? TAKEOVER_MS : 0), () => {
    world.note(() => `${owner.name} wakes up`);
    owner.process.resume(fault.detail < 0.3);
  });
  return true;
}

/**
 * The owner that serves is cut off from all nodes, at the worst moment, and another one takes over
 * at once: whatever the first one still believes is put to the test. Sometimes all nodes' programs
 * restart meanwhile, sometimes no disk can be read for a while and the metadata store is out of the
 * first one's reach as well: what it has rolled to is all that tells.
 */
function isolateOwner(world: World, fault: Fault): boolean {
  const owner = liveOwner(world, fault);
  if (owner === undefined || !owner.serving) return false;
  const { host } = owner;
  for (const { name } of world.machines) {
    world.network.cut(host, name);
    world.network.cut(name, host);
  }
  if (fault.detail > 0.6) {
    for (const machine of world.machines) {
      if (!machine.up) continue;
      machine.kill();
      machine.restartAfter(1 + (fault.detail - 0.6) * 50);
    }
  } else if (fault.detail > 0.25) {
    failReads(world, fault, world.machines);
    world.metadata.setReachable(host, false);
  }
  world.injector.startOwnerSoon(owner.volume, host, fault);
  world.injector.undoAfter(fault.duration + TAKEOVER_MS, () => {
    for (const { name } of world.machines) {
      world.network.heal(host, name, 0.3);
      world.network.heal(name, host, 0.3);
    }
    world.metadata.setReachable(host, true);
  });
  return true;
}

function failReads(world: World, fault: Fault, machines: readonly StorageMachine[]): true {
  const disks = machines.flatMap((machine) => machine.drives.map(({ medium }) => medium));
  for (const disk of disks) disk.faults.readsFail = true;
  world.injector.undoAfter(Math.min(fault.duration, 500) + 2_100, () => {
    for (const disk of disks) disk.faults.readsFail = false;
  });
  return true;
}

function powerOwner(world: World, fault: Fault): boolean {
  const host = hostOf(world, fault);
  if (world.network.isDark(host)) return false;
  world.network.powerLoss(host);
  for (const volume of world.volumes) {
    for (const owner of volume.owners) if (owner.host === host) owner.kill();
  }
  return later(world, fault, () => world.network.powerOn(host));
}

function networkRates(world: World, fault: Fault): true {
  const { faults } = world.network;
  const before = { ...faults };
  const d = fault.detail;
  const pick = (nth: number): boolean => Math.floor(d * 1000) % nth === 0;
  faults.slowFrame = 0.03;
  faults.slowFrameMs = 20 + d * 400;
  if (!pick(2)) faults.drop = 0.01 + d * 0.03;
  if (!pick(3)) faults.duplicate = 0.05;
  if (!pick(5)) faults.overtake = 0.1;
  if (pick(4)) faults.reset = 0.003;
  if (pick(7)) faults.bytesPerMs = 2_000;
  return later(world, fault, () => Object.assign(faults, before));
}

function metadataRates(world: World, fault: Fault): true {
  const { faults } = world.metadata;
  const before = { ...faults };
  faults.appliedReplyLost = 0.5;
  faults.failedNotApplied = 0.2;
  faults.appliedLate = 0.3;
  faults.readFails = 0.2;
  faults.slow = fault.detail * 0.5;
  // Swaps are rare next to everything else: it takes a while for some of them to go wrong.
  world.injector.undoAfter(fault.duration * 4, () => {
    Object.assign(faults, before, { outage: faults.outage });
  });
  return true;
}

/** Nodes that take part, and are not to leave. */
function staying(world: World): StorageMachine[] {
  return world.machines.filter(({ removed, drained }) => !removed && !drained);
}

/**
 * An administrator drains a node, and may change his mind. As the command does, only if enough
 * stay.
 */
function drain(world: World, fault: Fault): boolean {
  const machine = at(staying(world), fault.target);
  const most = Math.max(...world.volumes.map(({ replicas }) => replicas));
  if (machine === undefined || staying(world).length <= most) return false;
  const set = (isDrained: boolean): void => {
    if (machine.removed) return;
    machine.drained = isDrained;
    world.note(() => `${machine.name} is ${isDrained ? '' : 'not '}drained`);
    world.apply([drainChange(machine.node, isDrained ? 0 : null)]);
  };
  set(true);
  if (fault.detail < 0.6) world.scheduler.after(fault.duration * 8, () => set(false));
  return true;
}

/** A machine burns down, and an administrator takes it out of the cluster. */
function remove(world: World, fault: Fault): boolean {
  const machine = damageable(world, fault);
  if (machine === undefined || machine.removed || machine.registered === null) return false;
  machine.remove();
  world.note(() => `${machine.name} is removed`);
  for (const disk of machine.incarnations()) world.checkers.replicas.damaged(disk);
  world.apply(removal(machine.node, 0));
  return true;
}

function outage(world: World, fault: Fault): boolean {
  if (world.metadata.faults.outage) return false;
  world.metadata.setOutage(true);
  return later(world, fault, () => world.metadata.setOutage(false));
}

function cutHostFromMetadata(world: World, fault: Fault): true {
  const names = [...world.hosts, ...world.machines.map((machine) => machine.name)];
  const name = at(names, fault.target) as string;
  world.metadata.setReachable(name, false);
  return later(world, fault, () => world.metadata.setReachable(name, true));
}

const APPLY: Readonly<Record<FaultKind, Apply>> = {
  'node.kill': (world, fault) => {
    const machine = machineOf(world, fault);
    return withProcess(machine, () => {
      machine.kill();
      machine.restartAfter(fault.duration);
    });
  },
  'node.power': (world, fault) => powerCycle(machineOf(world, fault), fault),
  'node.pause': pauseNode,
  'node.wipe': (world, fault) => wipe(world, fault),
  'node.lose-index': loseIndex,
  'node.wipe-after-copy': wipeAfterCopy,
  'all.power': allPower,
  'disk.flush-error': (world, fault) => {
    const disk = diskOf(world, fault);
    if (disk === undefined) return false;
    disk.faults.failFlushes += 1 + Math.floor(fault.detail * 2);
    return true;
  },
  'disk.full': setDisk((disk) => {
    disk.faults.full = true;
    return () => {
      disk.faults.full = false;
    };
  }),
  'disk.read-error': (world, fault) => {
    const disk = diskOf(world, fault);
    if (disk === undefined) return false;
    disk.faults.failReads += 1 + Math.floor(fault.detail * 3);
    return true;
  },
  'disk.reads-fail': (world, fault) =>
    failReads(
      world,
      fault,
      world.machines.filter((_, i) => (fault.detail * 7 + i * 0.37) % 1 < 0.75),
    ),
  'disk.read-only': setDisk((disk) => {
    disk.faults.readOnly = true;
    return () => {
      disk.faults.readOnly = false;
    };
  }),
  'disk.failed': setDisk((disk) => {
    disk.faults.failed = true;
    return () => {
      disk.faults.failed = false;
    };
  }),
  // Some outlast a read lease: what was accepted before a FENCE is not durable when that could be.
  'disk.stall': (world, fault) => {
    const disk = diskOf(world, fault);
    if (disk === undefined) return false;
    disk.faults.stalledUntil = disk.scheduler.now + 1_000 + fault.detail * 3 * READ_LEASE_MS;
    return true;
  },
  'disk.slow': setDisk((disk) => {
    disk.faults.slowness = 20;
    return () => {
      disk.faults.slowness = 1;
    };
  }),
  'disk.rot': (world, fault) =>
    damage(world, fault, (disk, isOpen) => {
      const where = disk.rot(isOpen ? rottable : rottableAtRest, disk.random);
      return where === null ? null : `a bit of ${where} flips`;
    }),
  'disk.bad-sector': (world, fault) =>
    damage(world, fault, (disk) => {
      const where = disk.breakPage(breakable, disk.random);
      return where === null ? null : `${where} becomes unreadable`;
    }),
  'net.isolate': isolate,
  'net.isolate-one-way': isolate,
  'net.cut-owner': cutOwner,
  'net.cut-owner-one-way': cutOwner,
  'net.reset-one': (world) => world.network.resetSome(world.network.random) !== null,
  'net.half-open-one': (world) => world.network.halfOpenSome(world.network.random) !== null,
  'net.rates': networkRates,
  'owner.kill': (world, fault) => {
    const owner = liveOwner(world, fault);
    owner?.kill();
    return owner !== undefined;
  },
  'owner.power': powerOwner,
  'owner.pause': pauseOwner,
  'owner.compete': (world, fault) => {
    const volume = at(world.volumes, fault.target);
    const host = at(world.hosts, fault.detail);
    return volume !== undefined && host !== undefined && world.startOwner(volume, host) !== null;
  },
  'owner.isolate': isolateOwner,
  'owner.release': (world, fault) => {
    const owner = liveOwner(world, fault);
    owner?.release();
    return owner !== undefined;
  },
  'metadata.outage': outage,
  'metadata.cut-host': cutHostFromMetadata,
  'metadata.rates': metadataRates,
  'metadata.move': moveReplicas,
  'admin.drain': drain,
  'admin.remove': remove,
};

export class FaultInjector {
  readonly #world: World;
  /** The newest complete copy, and whose it is. */
  lastCopy: { readonly machine: StorageMachine; readonly segment: SegmentId } | null = null;
  readonly #undo = new Set<() => void>();

  constructor(world: World) {
    this.#world = world;
  }

  /** False when there was nothing to do it to. */
  fire(fault: Fault): boolean {
    const fired = APPLY[fault.kind](this.#world, fault);
    if (!fired) return false;
    this.#world.hit(`fault.${fault.kind}`);
    this.#world.note(() => `FAULT ${describeFault(fault)}`);
    return true;
  }

  /** A node has said that its copy of a segment is complete. */
  copied(machine: StorageMachine, segment: SegmentId): void {
    this.lastCopy = { machine, segment };
    this.#world.moment('copied');
  }

  /** Ends a fault after its duration, or when everything is healed. */
  undoAfter(delayMs: number, undo: () => void): void {
    const once = (): void => {
      if (this.#undo.delete(once)) undo();
    };
    this.#undo.add(once);
    this.#world.scheduler.after(delayMs, once);
  }

  /** Another owner starts, on another host than this one. */
  startOwnerSoon(volume: World['volumes'][number], host: string, fault: Fault): void {
    const world = this.#world;
    const others = world.hosts.filter((other) => other !== host);
    world.scheduler.after(1 + fault.detail * 20, () => {
      const other = at(others, (fault.detail * 7) % 1);
      if (world.chaos && other !== undefined) world.startOwner(volume, other);
    });
  }

  /** Ends every fault that has an end, and starts what is down. */
  healAll(): void {
    for (const undo of [...this.#undo]) undo();
    const world = this.#world;
    world.network.healAll(0.5);
    Object.assign(world.network.faults, {
      latencyMs: world.spec.latencyMs,
      slowFrame: 0,
      drop: 0,
      duplicate: 0,
      overtake: 0,
      reset: 0,
      bytesPerMs: 1_000_000,
    });
    Object.assign(world.metadata.faults, {
      appliedReplyLost: 0,
      failedNotApplied: 0,
      appliedLate: 0,
      readFails: 0,
      slow: 0,
    });
    world.metadata.healAll();
    for (const machine of world.machines) {
      for (const { medium } of machine.drives) {
        Object.assign(medium.faults, {
          failFlushes: 0,
          failReads: 0,
          readsFail: false,
          full: false,
          readOnly: false,
          failed: false,
          slowness: 1,
          stalledUntil: 0,
        });
      }
      machine.restartAfter(0);
    }
    for (const host of world.hosts) world.network.powerOn(host);
  }
}
