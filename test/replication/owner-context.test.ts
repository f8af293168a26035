/** What the parts of an owner share: which segments it has written of late. */
import { test } from 'tap';
import type { SegmentId } from '../../src/core/ids.js';
import { LOCAL_FRESH_MS } from '../../src/core/limits.js';
import type { Monotonic } from '../../src/core/units.js';
import { OwnerContext } from '../../src/replication/owner-context.js';
import type { OwnerDeps, OwnerLimits, OwnerOptions } from '../../src/replication/owner-types.js';
import { id } from './reader-nodes.js';

test('a segment is fresh while all of it is of the last minute', async (t) => {
  let now = 5_000;
  const clock = { monotonic: () => now as Monotonic };
  const deps = { clock } as OwnerDeps;
  const context = new OwnerContext(deps, {} as OwnerOptions, {} as OwnerLimits);
  const [first, second] = [id<SegmentId>(1), id<SegmentId>(2)];
  t.equal(context.isFresh(first), false, 'written by others, who knows when');
  context.noteOpened(first, context.now());
  t.equal(context.isFresh(first), true);
  now += LOCAL_FRESH_MS - 1;
  context.noteOpened(second, context.now());
  t.equal(context.isFresh(first), true);
  now += 1;
  t.equal(context.isFresh(first), false);
  t.equal(context.isFresh(second), true);
});
