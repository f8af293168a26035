import { test } from 'tap';
import { BlobArena } from '../../src/volume/arena.js';
import { SimRandom } from '../fixtures/sim-random.js';

test('pieces keep their bytes while others come and go', async (t) => {
  const random = new SimRandom('arena');
  const arena = new BlobArena();
  const held = new Map<number, Buffer>();
  for (let i = 0; i < 50_000; i++) {
    if (held.size > 500 || (held.size > 0 && random.chance(0.45))) {
      const [ref, bytes] = [...held][random.below(held.size)] as [number, Buffer];
      if (!arena.view(ref).equals(bytes)) t.fail(`piece ${ref} was changed`);
      arena.free(ref);
      held.delete(ref);
    } else {
      const length = 1 + random.below(random.chance(0.02) ? 65_000 : 300);
      const bytes = Buffer.alloc(length, random.below(256));
      const ref = arena.store(bytes);
      if (ref === 0 || held.has(ref)) t.fail(`piece ${ref} was given twice`);
      held.set(ref, bytes);
    }
  }
  for (const [ref, bytes] of held) t.ok(arena.view(ref).equals(bytes));
  for (const ref of held.keys()) arena.free(ref);
  t.equal(arena.liveBytes, 0);
});

test('memory of pieces that are gone serves other sizes', async (t) => {
  const arena = new BlobArena();
  let refs: number[] = [];
  for (let length = 8; length < 1000; length += 64) {
    const larger = Array.from({ length: 10_000 }, () => arena.allocate(length));
    for (const ref of refs) arena.free(ref);
    refs = larger;
  }
  t.ok(arena.reservedBytes < 2.2 * arena.liveBytes + 8e6, `${arena.reservedBytes} reserved`);
});

test('a piece freed twice is a bug that stops', async (t) => {
  const arena = new BlobArena();
  const ref = arena.store(Buffer.from('x'));
  arena.store(Buffer.from('y'));
  arena.free(ref);
  t.throws(() => arena.free(ref), /freed once/);
});
