/** What is found at a place, and how far nothing is, against going through all ranges. */
import fc from 'fast-check';
import { test } from 'tap';
import { type Range, RangeIndex } from '../../src/volume/range-index.js';

const SPAN = 400;

const steps = fc.array(
  fc.record({
    adds: fc.boolean(),
    place: fc.integer({ min: 0, max: SPAN }),
    count: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 200 })),
  }),
  { maxLength: 40 },
);

function covers(range: Range, place: number): boolean {
  return range.place <= place && place < range.place + range.count;
}

test('the newest range at each place, and the places before the next one', async (t) => {
  fc.assert(
    fc.property(steps, (done) => {
      const index = new RangeIndex<Range>();
      const model: Range[] = [];
      for (const { adds, place, count } of done) {
        if (adds || model.length === 0) {
          const range = { place, count };
          index.add(range);
          model.push(range);
        } else {
          const [range] = model.splice(place % model.length, 1);
          index.remove(range as Range);
          index.remove({ ...(range as Range) });
        }
      }
      for (let place = 0; place < SPAN + 200; place++) {
        if (index.at(place) !== model.findLast((range) => covers(range, place))) return false;
        let gap = 0;
        while (gap < 150 && !model.some((range) => covers(range, place + gap))) gap++;
        if (index.gap(place, 150) !== gap) return false;
      }
      return true;
    }),
  );
  t.pass('as the model');
});
