/**
 * Random files on a volume whose owners crash, sleep and lose touch with nodes and metadata store:
 * after each takeover the volume is a prefix of the calls with all that was fsynced, replay gives
 * the live state, and nothing that is reachable was deleted. HOLDFAST_SEED repeats one run,
 * HOLDFAST_RUNS makes more.
 */
import { test } from 'tap';
import { assert } from '../../src/core/assert.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import { FileWorkload } from '../fixtures/file-workload.js';
import { SimRandom } from '../fixtures/sim-random.js';
import type { OwnerWorld } from '../replication/owner-world.js';
import { isReproduced, mountOwned, type OwnedVolume, volumeWorld } from './owned-volume.js';

const { HOLDFAST_SEED, HOLDFAST_RUNS } = process.env;
const FIRST = Number(HOLDFAST_SEED ?? 1);
const RUNS = Number(HOLDFAST_RUNS ?? (HOLDFAST_SEED === undefined ? 20 : 1));
const STEPS = 150;

const mount = {
  checkpointLimits: { logBytes: 60 * PAGE_BYTES },
  cachePages: 8,
  commitIntervalMs: 20,
};

class RandomRun {
  readonly world: OwnerWorld = volumeWorld(4);
  readonly random: SimRandom;
  readonly files: FileWorkload;
  #volume: OwnedVolume | null = null;
  /** Those that were left asleep; they wake up at some time. */
  readonly #sleepers: OwnedVolume[] = [];

  constructor(seed: number) {
    this.random = new SimRandom(`owned volume ${seed}`);
    this.files = new FileWorkload(this.random.fork('files'));
  }

  get volume(): OwnedVolume {
    assert(this.#volume !== null, 'the run has begun');
    return this.#volume;
  }

  async takeOver(): Promise<void> {
    // What the former owner acknowledged is on the nodes; a taker needs R of them.
    for (const node of this.world.nodes) node.state = 'up';
    const volume = await mountOwned(this.world, mount);
    this.#volume = volume;
    await this.#must((done) => this.files.recovered(volume.fs, done));
    await this.reproduced();
  }

  /** The root and the log behind it give the live state (14), and none of it was deleted (13). */
  async reproduced(): Promise<void> {
    const { world, volume } = this;
    const { segments } = volume.fs.state;
    assert(await isReproduced(volume), 'root and log give the live state');
    const known = new Set([...world.record.sealed, ...world.record.open].map((one) => one.segment));
    for (let slot = 1; slot < segments.slots; slot++) {
      const use = segments.at(slot);
      if (use === null || use.livePages + use.imageBytes === 0) continue;
      assert(known.has(use.segment), `segment ${use.segment} is used and not in the record`);
      for (const node of world.nodes) {
        assert(node.segments.get(use.segment)?.deleted !== true, `${use.segment} was deleted`);
      }
    }
  }

  async #must(call: Parameters<OwnedVolume['wait']>[0]): Promise<void> {
    await this.volume.must(call);
  }

  async step(): Promise<void> {
    const { world, random, volume } = this;
    const dice = random.below(100);
    if (dice < 80) await this.#must((done) => this.files.step(volume.fs, done));
    else if (dice < 84) await world.pass(random.below(3_000));
    else if (dice < 88) volume.fs.checkpoints.begin(() => {});
    else if (dice < 90) volume.one.store.setReachable(random.below(2) === 0);
    else if (dice < 93) this.#disturbNode();
    else if (dice < 95) volume.one.trips.push(() => ({ lost: 'reply' }));
    else if (dice < 96) await this.#wake();
    else await this.#end();
  }

  /** One node at most is away, so that writing goes on. */
  #disturbNode(): void {
    const { nodes } = this.world;
    const away = nodes.find((node) => node.state !== 'up');
    if (away !== undefined) away.state = 'up';
    else if (nodes.every((node) => node.state === 'up')) {
      const node = this.world.node(this.random.below(nodes.length));
      node.state = this.random.below(2) === 0 ? 'down' : 'hung';
    }
  }

  /** The owner dies or falls asleep in the middle of something; another one takes over. */
  async #end(): Promise<void> {
    const { volume, random, world } = this;
    const { process } = volume.one;
    for (let left = random.below(4); left > 0; left--) {
      await this.#must((done) => this.files.step(volume.fs, done));
    }
    if (random.below(2) === 0) volume.fs.checkpoints.begin(() => {});
    if (random.below(2) === 0) this.files.fsync(volume.fs, () => {});
    for (let left = random.below(30); left > 0; left--) await world.scheduler.stepAsync();
    if (random.below(3) === 0) {
      process.pause();
      this.#sleepers.push(volume);
    } else process.kill();
    await this.takeOver();
  }

  /** A former owner wakes up and goes on with what it was at; none of that may count. */
  async #wake(): Promise<void> {
    const sleeper = this.#sleepers.pop();
    if (sleeper === undefined) return;
    sleeper.one.process.resume(this.random.below(2) === 0);
    await this.world.pass(this.random.below(500));
  }
}

test('takeovers at random moments', async (t) => {
  let deleted = 0;
  let takeovers = 0;
  for (let seed = FIRST; seed < FIRST + RUNS; seed++) {
    const run = new RandomRun(seed);
    try {
      await run.takeOver();
      for (let step = 0; step < STEPS; step++) await run.step();
      run.volume.one.process.kill();
      await run.takeOver();
    } catch (error) {
      t.fail(`seed ${seed}: ${(error as Error).stack}`);
      return;
    }
    takeovers += run.world.record.epoch;
    for (const { log } of run.world.nodes) {
      deleted += log.filter(({ type }) => type === 'delete').length;
    }
  }
  t.ok(takeovers > RUNS * 2, `${takeovers} takeovers`);
  t.ok(deleted > RUNS, `${deleted} DELETEs`);
});
