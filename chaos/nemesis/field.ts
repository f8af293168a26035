/** What the nemesis acts on: the machines, what works on their volumes, and how volumes move. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Application } from '../applications/application.js';
import type { RecordedWorkers } from '../applications/recorded.js';
import type { Registers } from '../applications/registers.js';
import { type Client, mountOf, type Volume, type World } from '../machines/world.js';
import { CommandFailed } from '../mount.js';
import type { Chooser } from '../recorded/random.js';
import { nowMs } from '../waits.js';

/** A former owner that can be reached again notices, and its mount goes. */
const GONE_MS = 60_000;
/** All copies are made again: a lease of 10 s, the grace, a new leader's 30 s, the copies. */
const WHOLE_MS = 300_000;
const POLL_MS = 500;
/** The exit code, as docs/CLI.md has it. */
const NOT_FOUND = 12;

export interface Applications {
  readonly registers: Registers | null;
  readonly files: RecordedWorkers | null;
  /** By volume: all that is to be stopped before it is mounted elsewhere, and started there. */
  readonly on: ReadonlyMap<string, readonly Application[]>;
}

export class Field {
  readonly world: World;
  readonly choose: Chooser;
  readonly applications: Applications;
  /** Applications that nobody is to miss just now. */
  readonly moving = new Set<Application>();
  /** The most bytes a second that repair was seen to copy while its end was waited for. */
  repairRate = 0;
  readonly #faults: string[];

  /** `faults` takes what checks find. */
  constructor(world: World, choose: Chooser, applications: Applications, faults: string[]) {
    this.world = world;
    this.choose = choose;
    this.applications = applications;
    this.#faults = faults;
  }

  one<T>(items: readonly T[]): T {
    const chosen = this.choose.of(items);
    if (chosen === undefined) throw new Error('there is something to choose from');
    return chosen;
  }

  async #check(application: Application): Promise<void> {
    this.#faults.push(...(await application.verify()));
  }

  /** What works on a volume is ended, or will be, by what is done to it. */
  leave(volume: Volume): readonly Application[] {
    const { registers, on } = this.applications;
    const these = on.get(volume.name) ?? [];
    for (const one of these) this.moving.add(one);
    if (volume.name === registers?.name) registers.leave();
    return these;
  }

  /** Stops, unmounts, mounts elsewhere, checks that nothing at all is missing, starts. */
  async moveOrderly(volume: Volume): Promise<void> {
    const { files, registers } = this.applications;
    const these = this.leave(volume);
    const using = volume.name === registers?.name ? [registers] : these;
    await Promise.all(using.map((one) => one.kill()));
    const stopped = nowMs();
    await this.world.unmount(volume);
    if (files !== null && these.includes(files)) files.noteSynced(stopped);
    await this.#mount(volume, this.world.otherClient(volume));
    if (volume.name === registers?.name) await registers.start();
    await this.#resume(these);
  }

  /**
   * Takes a volume away from where it is. `force` where the presence of its owner may still stand.
   * Its applications are ended as the end of their machine would end them; they go on once `arrive`
   * is called.
   */
  async takeOver(volume: Volume): Promise<{ arrive(): Promise<void> }> {
    const these = this.leave(volume);
    // Those that wait for the volume end when its former mount does; none of them runs on.
    const killed = Promise.all(these.map((one) => one.kill()));
    killed.catch(() => {}); // it is waited for later
    const former = volume.client;
    await this.world.holdfast('volume', 'fence', volume.name, '--force');
    const target = this.world.otherClient(volume);
    await this.#mount(volume, target);
    const arrive = async (): Promise<void> => {
      await this.#untilGone(former, volume);
      await killed;
      await this.#resume(these);
    };
    return { arrive };
  }

  async #mount(volume: Volume, client: Client): Promise<void> {
    const { registers } = this.applications;
    await this.world.mountAt(volume, client);
    if (volume.name === registers?.name) registers.arrive(client.machine.name);
  }

  async #resume(these: readonly Application[]): Promise<void> {
    for (const one of these) await this.#check(one);
    if (this.#faults.length > 0) return;
    for (const one of these) {
      await one.start();
      this.moving.delete(one);
    }
  }

  /** The mount of a former owner is taken out of the tree by its own daemon. */
  async #untilGone(client: Client, volume: Volume): Promise<void> {
    const mount = mountOf(client, volume.name);
    const deadline = Date.now() + GONE_MS;
    while (mount.isMounted() || mount.daemonPid > 0) {
      if (Date.now() > deadline) {
        this.#faults.push(`${volume.name}: its former mount on ${client.machine.name} stays`);
        await mount.kill();
        return;
      }
      await sleep(POLL_MS);
    }
    // What it left for somebody to read, unless that went with a later mount.
    await mount.unmount().catch((error: Error) => {
      if (!(error instanceof CommandFailed && error.code === NOT_FOUND)) throw error;
    });
  }

  /** Why not every segment has all its copies on disks that answer; null when they have. */
  async lacks(): Promise<string | null> {
    const status = await this.world.status().catch((error: Error) => error.message);
    if (typeof status === 'string') return status;
    const { repair, problems } = status;
    if (problems.length > 0) return problems.join('; ');
    if (repair === null) return 'no controller has reported yet';
    const { copies, degraded, running, leaving } = repair;
    this.repairRate = Math.max(this.repairRate, repair.bytesPerSecond);
    const counts = `${copies} copies to make, ${degraded} segments lack some, ${running} under way`;
    return copies + degraded + running + leaving > 0 ? counts : null;
  }

  /** Every segment has all its copies. Returns how long that took, in ms. */
  async untilWhole(): Promise<number> {
    const began = Date.now();
    for (;;) {
      const why = await this.lacks();
      if (why === null) return Date.now() - began;
      if (Date.now() - began > WHOLE_MS) {
        throw new Error(`not every segment has its copies in ${WHOLE_MS / 1000} s: ${why}`);
      }
      await sleep(POLL_MS);
    }
  }
}
