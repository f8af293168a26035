/** What is taken to be in the page cache: what was noted, by region, for so long, so much of it. */
import fc from 'fast-check';
import { test } from 'tap';
import { READ_IN_PLACE_MAX_MS } from '../../src/core/limits.js';
import { WarmReads } from '../../src/io/node/warm-reads.js';

test('regions that were noted are warm, those beside them are not', async (t) => {
  const warm = new WarmReads(4096);
  warm.note(1, 8192, 4096);
  t.equal(warm.isWarm(1, 8192, 4096), true);
  t.equal(warm.isWarm(1, 4096, 4096), false);
  t.equal(warm.isWarm(1, 8192, 4097), false, 'partly beyond');
  t.equal(warm.isWarm(2, 8192, 4096), false, 'another file');
});

test('what was not noted for long is forgotten', async (t) => {
  let now = 0;
  const warm = new WarmReads(4096, 1_000, () => now);
  warm.note(1, 0, 4096);
  now = 900;
  t.equal(warm.isWarm(1, 0, 4096), true);
  now = 1_500;
  t.equal(warm.isWarm(1, 0, 4096), true, 'for one to two lifetimes');
  now = 2_600;
  t.equal(warm.isWarm(1, 0, 4096), false);
  warm.note(1, 0, 4096);
  now = 10_000;
  t.equal(warm.isWarm(1, 0, 4096), false, 'after a long pause, too');
});

test('after a read from the disk all others go the safe way for a while', async (t) => {
  let diskReads = 5;
  const warm = new WarmReads(
    4096,
    1_000,
    () => 0,
    () => diskReads,
  );
  warm.note(1, 0, 4096);
  warm.took(READ_IN_PLACE_MAX_MS * 10);
  t.equal(warm.isWarm(1, 0, 4096), true, 'others had the processor');
  diskReads += 1;
  warm.took(READ_IN_PLACE_MAX_MS / 2);
  t.equal(warm.isWarm(1, 0, 4096), true, 'it was fast');
  warm.took(READ_IN_PLACE_MAX_MS);
  t.equal(warm.isWarm(1, 0, 4096), false);
  let reads = 1;
  while (!warm.isWarm(1, 0, 4096) && reads < 1_000) reads += 1;
  t.equal(reads, 256);
});

test('any stretch is warm if all of its regions were noted, and only then', async (t) => {
  const stretch = fc.record({
    file: fc.integer({ min: 1, max: 2 }),
    region: fc.integer({ min: 0, max: 100 }),
    count: fc.integer({ min: 1, max: 80 }),
  });
  fc.assert(
    fc.property(fc.array(stretch, { maxLength: 8 }), stretch, (noted, asked) => {
      const warm = new WarmReads(16);
      const model = new Set<string>();
      for (const { file, region, count } of noted) {
        warm.note(file, region * 16, count * 16);
        for (let at = region; at < region + count; at++) model.add(`${file} ${at}`);
      }
      const { file, region, count } = asked;
      let isWarm = true;
      for (let at = region; at < region + count; at++) isWarm &&= model.has(`${file} ${at}`);
      return warm.isWarm(file, region * 16, count * 16) === isWarm;
    }),
  );
  t.pass('as the model');
});

test('no more regions are remembered than twice the half, however they are noted', async (t) => {
  const warm = new WarmReads(1);
  warm.note(1, 0, 1);
  // 32,768 regions make a generation; the first one ends with its.
  for (let at = 0; at < 2; at++) {
    t.equal(warm.isWarm(1, 0, 1), true);
    warm.note(2, at * 32_768, 32_768);
  }
  t.equal(warm.isWarm(1, 0, 1), false);
});
