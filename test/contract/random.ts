/** What every Random promises (src/io/random.ts). */
import { test } from 'tap';
import type { Random } from '../../src/io/random.js';

export function randomContract(name: string, make: () => Random): void {
  test(`${name}: bytes are as many as asked, and fresh`, async (t) => {
    const random = make();
    for (const count of [0, 1, 3, 4, 16, 1000]) t.equal(random.bytes(count).length, count);
    const seen = new Set<string>();
    for (let i = 0; i < 1000; i++) seen.add(Buffer.from(random.bytes(16)).toString('hex'));
    t.equal(seen.size, 1000, 'no repeats');
    const first = random.bytes(16);
    const kept = Buffer.from(first);
    random.bytes(16);
    t.same(Buffer.from(first), kept, 'not overwritten by the next call');
  });

  test(`${name}: every bit of the bytes varies`, async (t) => {
    const random = make();
    const ones = new Array<number>(64).fill(0);
    for (let i = 0; i < 2000; i++) {
      const bytes = random.bytes(8);
      for (let bit = 0; bit < 64; bit++) {
        if (((bytes[bit >> 3] ?? 0) >> (bit & 7)) & 1) ones[bit] = (ones[bit] ?? 0) + 1;
      }
    }
    for (const count of ones) t.ok(count > 800 && count < 1200, `${count} of 2000`);
  });

  test(`${name}: fractions are uniform in [0, 1)`, async (t) => {
    const random = make();
    const buckets = new Array<number>(10).fill(0);
    for (let i = 0; i < 10_000; i++) {
      const value = random.fraction();
      if (value < 0 || value >= 1) t.fail(`${value}`);
      const bucket = Math.floor(value * 10);
      buckets[bucket] = (buckets[bucket] ?? 0) + 1;
    }
    for (const count of buckets) t.ok(count > 800 && count < 1200, `${count} of 10000`);
  });
}
