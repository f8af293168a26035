/** When a planned segment may be registered, and when it is given up. */
import t from 'tap';
import type { Incarnation, NodeId, SegmentId } from '../../src/core/ids.js';
import { epoch, type Monotonic } from '../../src/core/units.js';
import type { PlannedSegment } from '../../src/metadata/model.js';
import {
  type CreationState,
  creationDeadline,
  failingNodes,
  isHopeless,
  isReady,
  newCreation,
  stepCreation,
} from '../../src/replication/creation.js';

const hex = (n: number): string => n.toString(16).padStart(32, '0');
const PLANNED: PlannedSegment = {
  segment: hex(0xa) as SegmentId,
  group: 0,
  createEpoch: epoch(1),
  replicas: [0, 1, 2].map((n) => ({
    node: hex(0x10 + n) as NodeId,
    incarnation: hex(0x20 + n) as Incarnation,
  })),
};
const { segment } = PLANNED;

function at(ms: number): Monotonic {
  return ms as Monotonic;
}

function planned(): CreationState {
  const state = newCreation({
    ackQuorum: 2,
    retryMinMs: 50,
    retryMaxMs: 400,
    graceMs: 500,
    replanMs: 3000,
  });
  const effects = stepCreation(state, { type: 'planned', planned: PLANNED, now: at(1000) });
  t.same(
    effects.map((effect) => effect.replica),
    [0, 1, 2],
  );
  return state;
}

function answer(state: CreationState, replica: number, created: boolean, ms: number): void {
  stepCreation(state, { type: 'answer', segment, replica, created, now: at(ms) });
}

t.test('registered only when ackQuorum replicas have it durably', (t) => {
  const state = planned();
  answer(state, 0, true, 1001);
  answer(state, 1, false, 1002);
  answer(state, 2, false, 1002);
  t.notOk(isReady(state, segment, at(9000)), 'one of three is never enough');
  t.end();
});

t.test('at once when all have answered, else after a grace', (t) => {
  const state = planned();
  answer(state, 0, true, 1001);
  answer(state, 1, true, 1002);
  t.notOk(isReady(state, segment, at(1003)), 'the third may yet answer');
  t.equal(creationDeadline(state, at(1003)), 1502);
  t.ok(isReady(state, segment, at(1502)));
  answer(state, 2, true, 1010);
  t.ok(isReady(state, segment, at(1010)));
  t.end();
});

t.test('a replica that failed holds nobody up, and is asked again', (t) => {
  const state = planned();
  answer(state, 0, true, 1001);
  answer(state, 1, true, 1002);
  answer(state, 2, false, 1003);
  t.ok(isReady(state, segment, at(1003)));
  t.same(stepCreation(state, { type: 'tick', now: at(1050) }), []);
  const again = stepCreation(state, { type: 'tick', now: at(1103) });
  t.match(again, [{ type: 'create', replica: 2 }]);
  t.same([...failingNodes(state)], [hex(0x12)]);
  t.end();
});

t.test('given up when the quorum is missing for too long', (t) => {
  const state = planned();
  answer(state, 0, true, 1001);
  t.notOk(isHopeless(state, segment, at(3999)));
  t.ok(isHopeless(state, segment, at(4000)));
  answer(state, 1, true, 4001);
  t.notOk(isHopeless(state, segment, at(9000)), 'there it is');
  stepCreation(state, { type: 'forget', segment });
  t.notOk(isReady(state, segment, at(9000)));
  t.equal(creationDeadline(state, at(9000)), Number.POSITIVE_INFINITY);
  t.end();
});
