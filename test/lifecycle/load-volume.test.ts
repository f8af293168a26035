/** Loading for people who wait: it may take long, and must not stand still. */
import t from 'tap';
import type { HoldfastError } from '../../src/core/errors.js';
import { MIB } from '../../src/core/units.js';
import type { Clock } from '../../src/io/clock.js';
import { loadVolume } from '../../src/lifecycle/load-volume.js';
import type { VolumeFilesystem } from '../../src/volume/filesystem.js';
import { FakeOwner } from '../fixtures/fake-owner.js';
import { Bed, ROOT } from '../volume/harness.js';

const MINUTE_MS = 60_000;
const LIMIT_MS = 5 * MINUTE_MS;

/** A volume with a checkpoint whose images take several windows to read. */
function checkpointed(): Bed {
  const bed = new Bed();
  for (let i = 0; i < 20_000; i++) bed.file(`a file with a name ${i}`);
  t.equal(
    bed.wait((done) => bed.fs.checkpoints.begin(done)),
    null,
  );
  return bed;
}

class SlowOwner extends FakeOwner {
  readonly #clock: Clock;
  readonly #readMs: (read: number) => number;
  #reads = 0;

  constructor({ log, process }: Bed, readMs: (read: number) => number) {
    super(log, process.clock);
    this.#clock = process.clock;
    this.#readMs = readMs;
  }

  override readPages(...args: Parameters<FakeOwner['readPages']>): void {
    this.#clock.after(this.#readMs(this.#reads++), () => super.readPages(...args));
  }
}

/** Loads it from a log whose n-th read takes so long. */
async function load(bed: Bed, readMs: (read: number) => number) {
  const { log, process, scheduler } = bed;
  const owner = new SlowOwner(bed, readMs);
  const said: string[] = [];
  const began = scheduler.now;
  const { clock } = process;
  let ended: HoldfastError | VolumeFilesystem | null = null;
  const onProgress = (text: string): void => void said.push(text);
  const note = (what: HoldfastError | VolumeFilesystem): void => {
    ended = what;
  };
  void loadVolume({ owner, roots: log, clock, sizeBytes: 1024 * MIB, volume: 'db', onProgress })
    // In one turn, before time goes on.
    .then(note, note);
  await scheduler.until(() => ended !== null, 100 * LIMIT_MS);
  return { ended: ended as unknown, said, tookMs: scheduler.now - began };
}

t.test('a slow load is not given up as long as something comes', async (t) => {
  // Reads come back one after the other, each later than the one before it.
  const { ended, said, tookMs } = await load(checkpointed(), (read) => read * 2 * MINUTE_MS);
  t.ok(tookMs > 2 * LIMIT_MS, `${tookMs} ms`);
  t.equal((ended as VolumeFilesystem).getattr?.(ROOT).nlink, 2);
  t.match(said[0], /^loading the newest checkpoint$/);
  t.match(said[1], /^loading the newest checkpoint: 0 of \d+ MiB$/);
});

t.test('one that stands still is given up', async (t) => {
  const { ended, tookMs } = await load(checkpointed(), (read) => (read < 4 ? 1 : 50 * LIMIT_MS));
  t.match(ended, { code: 'TIMEOUT', message: /cannot be loaded: loading the newest checkpoint/ });
  t.ok(tookMs >= LIMIT_MS && tookMs < 2 * LIMIT_MS, `${tookMs} ms`);
});
