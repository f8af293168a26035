/** The ring holds what a Map would, the oldest first, and gives no id that waits out again. */
import fc from 'fast-check';
import t from 'tap';
import { IdRing } from '../../src/core/id-ring.js';

const STEPS = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.constant({ type: 'add' } as const) },
    { weight: 5, arbitrary: fc.record({ type: fc.constant('delete' as const), at: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ type: fc.constant('oldest' as const), keep: fc.nat(3) }) },
  ),
  { maxLength: 400 },
);

t.test('a ring is a Map under ids of its own', async (t) => {
  const property = fc.property(STEPS, (steps) => {
    const ring = new IdRing<string>();
    const model = new Map<number, string>();
    let added = 0;
    for (const step of steps) {
      if (step.type === 'add') {
        const id = ring.freeId();
        if (model.has(id)) return false;
        added += 1;
        ring.set(id, `value ${added}`);
        model.set(id, `value ${added}`);
      } else if (step.type === 'delete') {
        // Also ids that do not wait.
        const id = step.at % (added + 2);
        ring.delete(id);
        model.delete(id);
      } else {
        // All but the newest few end at once, as when a connection breaks.
        for (const [id] of ring.entries().slice(0, -step.keep || undefined)) {
          ring.delete(id);
          model.delete(id);
        }
      }
      for (let id = 0; id <= added; id++) if (ring.get(id) !== model.get(id)) return false;
    }
    const seen = JSON.stringify(ring.entries()) === JSON.stringify([...model]);
    ring.clear();
    return seen && ring.entries().length === 0;
  });
  t.doesNotThrow(() => fc.assert(property, { numRuns: 300 }));
});

t.test('one that waits for long is passed over, time after time', async (t) => {
  const ring = new IdRing<string>();
  ring.set(ring.freeId(), 'waits');
  for (let i = 0; i < 1_000; i++) {
    const id = ring.freeId();
    ring.set(id, 'short');
    ring.delete(id);
  }
  t.equal(ring.get(0), 'waits');
  const last = ring.freeId();
  ring.set(last, 'new');
  t.strictSame(ring.entries(), [
    [0, 'waits'],
    [last, 'new'],
  ]);
  t.equal(ring.get(64), undefined, 'another id of the same slot');
  ring.delete(64);
  t.equal(ring.get(0), 'waits', 'deletes only its own');
});

t.test('a thousand wait at once', async (t) => {
  const ring = new IdRing<number>();
  const ids = Array.from({ length: 1_000 }, (_, i) => {
    const id = ring.freeId();
    ring.set(id, i);
    return id;
  });
  t.equal(new Set(ids).size, 1_000);
  t.strictSame(
    ring.entries().map(([, value]) => value),
    ids.map((_, i) => i),
    'the oldest first',
  );
});
