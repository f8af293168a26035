/**
 * A storage machine: its disks, which survive, and its program, which is killed, loses power,
 * pauses and starts again. The supervisor restarts a program whose disk has failed, as an
 * operator's would.
 */
import type { DiskStore } from '../../src/block/disk-store.js';
import { StorageNode } from '../../src/block/storage-node.js';
import type { HoldfastError } from '../../src/core/errors.js';
import { type Incarnation, idFromBytes, type NodeId } from '../../src/core/ids.js';
import { KIB } from '../../src/core/units.js';
import type { Timer } from '../../src/io/clock.js';
import { SimProcess } from '../fixtures/sim-clock.js';
import { SimDisk } from '../fixtures/sim-disk.js';
import type { SimRandom } from '../fixtures/sim-random.js';
import { buildStores, formatDisk, NODE_PORT, serve } from './parts.js';
import type { World } from './world.js';

/** How long the supervisor leaves a failed disk before it restarts the program. */
const FAILED_RESTART_MS = 400;

export interface SimDrive {
  readonly medium: SimDisk;
  /** Null until it was formatted. */
  incarnation: Incarnation | null;
  needsFormat: boolean;
}

/** Time within which a flush of the index is beside a large write. */
const BESIDE_MS = 20;

export class StorageMachine {
  readonly name: string;
  readonly node: NodeId;
  readonly zone: string;
  readonly drives: SimDrive[];
  readonly world: World;
  readonly #random: SimRandom;
  readonly #rate: number;
  #process: SimProcess | null = null;
  #storage: StorageNode | null = null;
  /** The last program that opened the disks. */
  #openedBy: SimProcess | null = null;
  #stores: { drive: SimDrive; store: DiskStore }[] = [];
  #powered = true;
  #restart: Timer | null = null;
  #lives = 0;
  /** Taken out of the cluster for good: it is switched off, and stays so. */
  removed = false;
  /** Its copies are to be made elsewhere. */
  drained = false;
  /** The disks that its record in the metadata store names; null before it has been written. */
  registered: readonly Incarnation[] | null = null;
  /** Disks that did not open once, so that the node was registered without them for a while. */
  readonly missed = new Set<Incarnation>();

  constructor(world: World, index: number, drives: number) {
    this.world = world;
    this.name = `n${index}`;
    this.zone = `zone-${index % 3}`;
    this.#random = world.random.fork(this.name);
    this.node = idFromBytes<NodeId>(this.#random.bytes(16));
    this.#rate = this.#random.between(0.97, 1.03);
    this.drives = Array.from({ length: drives }, (_, i) => this.#newDrive(i));
  }

  #newDrive(index: number): SimDrive {
    const name = `${this.name}d${index}`;
    const flushMs = this.#random.pick([0.2, 0.8, 3]);
    // So slow that journals go on, and begin new laps, while a large batch is written.
    const writeBytesPerMs = this.#random.pick([Number.POSITIVE_INFINITY, 20 * KIB, 3 * KIB]);
    const medium = new SimDisk(this.world.scheduler, this.#random.fork(`disk${index}`), {
      name,
      flushMs,
      writeBytesPerMs,
    });
    const drive: SimDrive = { medium, incarnation: null, needsFormat: true };
    medium.observer = {
      fired: (kind) => this.world.hit(`fault.${kind}`),
      flushed: (path) => {
        const { writing, wroteAt } = medium;
        const isBeside = writing > 0 || wroteAt > this.world.scheduler.now - BESIDE_MS;
        if (path.startsWith('index') && isBeside) this.world.moment('lap');
      },
      flushFailed: () => {
        if (drive.incarnation === null) return;
        this.world.note(() => `${name}: a flush fails`);
        this.world.checkers.replicas.flushFailed(drive.incarnation);
      },
    };
    return drive;
  }

  get up(): boolean {
    return this.#process?.alive ?? false;
  }

  /** Whether the program has found out what its disks hold, and watches over it. */
  get isOpen(): boolean {
    return this.up && this.#openedBy === this.#process;
  }

  get process(): SimProcess | null {
    return this.#process;
  }

  get storage(): StorageNode | null {
    return this.up ? this.#storage : null;
  }

  get address(): string {
    return `${this.name}:${NODE_PORT}`;
  }

  incarnations(): Incarnation[] {
    return this.drives.flatMap((drive) => (drive.incarnation === null ? [] : [drive.incarnation]));
  }

  /** Starts the program, unless it runs or there is no power. Formats drives that are new. */
  start(): void {
    if (this.up || !this.#powered || this.removed) return;
    this.#restart?.cancel();
    const { world } = this;
    this.#lives += 1;
    const life = this.#random.fork(`life${this.#lives}`);
    const process = new SimProcess(world.scheduler, this.name, {
      offsetMs: life.between(0, 1e6),
      rate: this.#rate,
    });
    this.#process = process;
    world.note(() => `${this.name} starts`);
    this.#format(process, life, 0);
  }

  #format(process: SimProcess, life: SimRandom, index: number): void {
    const drive = this.drives[index];
    if (drive === undefined) {
      this.#open(process, life);
      return;
    }
    if (!drive.needsFormat) {
      this.#format(process, life, index + 1);
      return;
    }
    const disk = drive.medium.attach(process);
    formatDisk(this.world, this, disk, life.fork(`format${index}`), (error, incarnation) => {
      if (error === null && incarnation !== null) {
        drive.needsFormat = false;
        drive.incarnation = incarnation;
        this.world.note(() => `${drive.medium.name} is formatted as ${incarnation.slice(0, 6)}`);
      } else if (error?.code === 'ALREADY_EXISTS') {
        // A power cut, but the superblock was durable: opening it does the rest.
        drive.needsFormat = false;
        drive.incarnation = null;
        this.world.hit('format-resumed');
      } else {
        drive.medium.scheduler.after(50, () => {
          if (!process.alive) return;
          this.kill();
          this.start();
        });
        return;
      }
      this.#format(process, life, index + 1);
    });
  }

  #open(process: SimProcess, life: SimRandom): void {
    this.#stores = buildStores(this.world, this, process, life);
    const storage = new StorageNode({
      node: this.node,
      zone: this.zone,
      version: 'sim',
      clock: process.clock,
      stores: this.#stores.map(({ store }) => store),
    });
    this.#storage = storage;
    const opening = process.clock.monotonic();
    storage.open((failures) => {
      const took = process.clock.monotonic() - opening;
      this.world.note(() => `${this.name} is open after ${took.toFixed(0)} ms`);
      for (const failure of failures) this.#openFailed(failure);
      this.#opened();
      this.#openedBy = process;
      serve(this.world, this, process, storage, life);
      this.#watchFailures(process);
    });
  }

  #openFailed(failure: { readonly disk: string; readonly error: HoldfastError }): void {
    const { disk, error } = failure;
    this.world.note(() => `${this.name}: disk ${disk} does not open: ${error.message}`);
    this.world.hit(`disk-open.${error.code}`);
  }

  /** Compares what the disks found with what they had said. */
  #opened(): void {
    const found = this.#storage?.inspect() ?? [];
    for (const { drive, store } of this.#stores) {
      const { incarnation } = store;
      if (store.state !== 'ok' && store.state !== 'full') {
        this.#lifeNotBegun(drive, incarnation);
        continue;
      }
      if (drive.incarnation !== null && incarnation !== drive.incarnation) {
        this.world.tookNewIncarnation(this, drive, incarnation);
      }
      drive.incarnation = incarnation;
      const segments = found.find((disk) => disk.incarnation === incarnation)?.segments ?? [];
      this.world.checkers.reopened(incarnation, segments);
    }
  }

  /** A new life that damage made necessary, and that did not come to be: damaged as the old one. */
  #lifeNotBegun(drive: SimDrive, incarnation: Incarnation): void {
    const { replicas } = this.world.checkers;
    if (incarnation !== '' && drive.incarnation !== null && replicas.isDamaged(drive.incarnation)) {
      replicas.damaged(incarnation);
    }
  }

  #watchFailures(process: SimProcess): void {
    process.scheduler.after(FAILED_RESTART_MS, () => {
      if (!process.alive || process !== this.#process) return;
      const failed = this.#stores.some(({ store, drive }) => {
        return (
          (store.state === 'failed' || store.state === 'closed') && !drive.medium.faults.failed
        );
      });
      if (failed) {
        this.world.note(() => `${this.name}: the supervisor restarts it, a disk has failed`);
        this.kill();
        this.start();
        return;
      }
      this.#watchFailures(process);
    });
  }

  /** The program dies; page cache and machine live on. */
  kill(): void {
    this.#process?.kill();
    this.#storage = null;
    this.#stores = [];
  }

  /** The machine loses power: unflushed bytes are gone. */
  powerOff(): void {
    this.#powered = false;
    this.world.network.powerLoss(this.name);
    this.kill();
    for (const { medium } of this.drives) medium.powerLoss();
  }

  powerOn(): void {
    this.#powered = true;
    this.world.network.powerOn(this.name);
    this.start();
  }

  remove(): void {
    this.powerOff();
    this.removed = true;
  }

  get powered(): boolean {
    return this.#powered;
  }

  restartAfter(delayMs: number): void {
    this.#restart?.cancel();
    this.#restart = this.world.scheduler.after(delayMs, () => {
      if (this.#powered) this.start();
      else this.powerOn();
    });
  }

  /** Replaces a drive by an empty one. The program must be down. */
  wipe(index: number): void {
    const drive = this.drives[index];
    if (drive === undefined) return;
    drive.medium.wipe();
    drive.needsFormat = true;
  }
}
