/** Where the pages of groups on their way stand in memory. */
import { test } from 'tap';
import { PAGE_BYTES } from '../../src/core/units.js';
import { PendingPool } from '../../src/volume/pending.js';

test('small groups share memory, and never a page', async (t) => {
  const pool = new PendingPool();
  const seen = new Map<ArrayBufferLike, Set<number>>();
  const filled: { page: Buffer; value: number }[] = [];
  for (const [group, pages] of [1, 1, 3, 20, 1, 16, 258, 7, 16, 1].entries()) {
    const chunk = pool.open();
    for (let taken = 0; taken < pages; ) {
      const count = Math.min(2, pages - taken);
      t.equal(chunk.take(count), chunk.place + taken);
      taken += count;
    }
    const data = Buffer.alloc(pages * PAGE_BYTES);
    for (let i = 0; i < pages; i++) data.fill(group * 7 + i, i * PAGE_BYTES, (i + 1) * PAGE_BYTES);
    chunk.copyIn(0, data, 0, data.length);
    t.ok(Buffer.concat(chunk.parts()).equals(data), `${pages} pages`);
    t.ok(Buffer.concat(pool.views(chunk.place, pages)).equals(data));
    for (let i = 0; i < pages; i++) {
      const page = chunk.page(i);
      const taken = seen.get(page.buffer) ?? new Set();
      t.notOk(taken.has(page.byteOffset), 'a page of its own');
      seen.set(page.buffer, taken.add(page.byteOffset));
      filled.push({ page, value: (group * 7 + i) & 0xff });
    }
  }
  t.ok(filled.every(({ page, value }) => page.every((byte) => byte === value)));
  t.ok(seen.size <= Math.ceil(filled.length / 16) + 1, `${seen.size} pieces`);
});
