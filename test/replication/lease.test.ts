/** The read lease: who granted what, and until when reads may be answered. */
import t from 'tap';
import type { SegmentId } from '../../src/core/ids.js';
import type { Monotonic } from '../../src/core/units.js';
import {
  type LeaseEffect,
  type LeaseState,
  leaseDeadline,
  leaseEnd,
  leaseHolds,
  newLease,
  stepLease,
} from '../../src/replication/lease.js';

const A = 'a'.repeat(32) as SegmentId;
const B = 'b'.repeat(32) as SegmentId;
const CONFIG = { ackQuorum: 2, leaseMs: 2000, safeFraction: 0.9, retryMs: 200 };

function at(ms: number): Monotonic {
  return ms as Monotonic;
}

function onA(): LeaseState {
  const state = newLease(CONFIG);
  stepLease(state, { type: 'current', segment: A, replicas: 3 });
  return state;
}

function grant(
  state: LeaseState,
  replica: number,
  sentAt: number,
  now = sentAt + 1,
  segment = A,
): LeaseEffect[] {
  return stepLease(state, {
    type: 'granted',
    segment,
    replica,
    sentAt: at(sentAt),
    now: at(now),
  });
}

t.test('the lease ends 0.9 L after the older of the two newest grants was sent', (t) => {
  t.equal(leaseEnd(CONFIG, [1000, 1500, 0]), 2800);
  t.equal(leaseEnd(CONFIG, [1000, 1500, 1200]), 3000);
  t.equal(leaseEnd(CONFIG, [1000, 0, 0]), 0, 'one grant is none');
  t.equal(leaseEnd({ ...CONFIG, ackQuorum: 3 }, [1000, 1500, 1200]), 2800);
  t.end();
});

t.test('a quorum of grants serves reads until the lease lapses', (t) => {
  const state = onA();
  grant(state, 0, 1000);
  t.notOk(leaseHolds(state, at(1001)), 'one of three');
  grant(state, 2, 1100);
  t.ok(leaseHolds(state, at(2799)));
  t.notOk(leaseHolds(state, at(2800)));
  t.end();
});

t.test('a grant counts from when it was asked for, however late the answer comes', (t) => {
  const state = onA();
  grant(state, 0, 1000, 9000);
  grant(state, 1, 1000, 9000);
  t.notOk(leaseHolds(state, at(9000)));
  t.end();
});

t.test('an older grant of the same replica changes nothing', (t) => {
  const state = onA();
  grant(state, 0, 2000);
  grant(state, 1, 2000);
  grant(state, 1, 500, 2100);
  t.equal(state.validUntil, 3800);
  t.end();
});

t.test('grants on a frozen segment are worth nothing, old and late ones alike', (t) => {
  const state = onA();
  grant(state, 0, 1000);
  grant(state, 1, 1000);
  stepLease(state, { type: 'current', segment: B, replicas: 3 });
  t.notOk(leaseHolds(state, at(1002)), 'those that were given');
  grant(state, 0, 1100, 1101, A);
  grant(state, 1, 1100, 1101, A);
  t.notOk(leaseHolds(state, at(1102)), 'those that come late');
  grant(state, 0, 1100, 1101, B);
  grant(state, 1, 1100, 1101, B);
  t.ok(leaseHolds(state, at(1102)));
  t.end();
});

t.test('a read without a lease asks first, and goes on at the quorum', (t) => {
  const state = onA();
  const wanted = stepLease(state, { type: 'wanted', now: at(1000) });
  t.same(wanted, [{ type: 'ping', segment: A }]);
  t.same(stepLease(state, { type: 'wanted', now: at(1001) }), [], 'asked a moment ago');
  t.equal(leaseDeadline(state), 1200);
  t.same(stepLease(state, { type: 'tick', now: at(1200) }), [{ type: 'ping', segment: A }]);
  t.same(grant(state, 0, 1200), []);
  t.same(grant(state, 1, 1200), [{ type: 'acquired' }]);
  t.equal(leaseDeadline(state), Number.POSITIVE_INFINITY);
  t.end();
});

t.test('answers from before a pause do not let a waiting read through', (t) => {
  const state = onA();
  stepLease(state, { type: 'wanted', now: at(1000) });
  t.same(grant(state, 0, 1000, 8000), []);
  t.same(grant(state, 1, 1000, 8000), [], 'granted long ago');
  t.same(stepLease(state, { type: 'tick', now: at(8000) }), [{ type: 'ping', segment: A }]);
  t.end();
});

t.test('kept warm only while reads use it', (t) => {
  const state = onA();
  grant(state, 0, 1000);
  grant(state, 1, 1000);
  t.same(stepLease(state, { type: 'used', now: at(1500) }), [], 'more than half is left');
  t.same(stepLease(state, { type: 'used', now: at(2000) }), [{ type: 'ping', segment: A }]);
  t.same(stepLease(state, { type: 'tick', now: at(5000) }), [], 'no reads, no PINGs');
  t.end();
});

t.test('a stopped owner has no lease', (t) => {
  const state = onA();
  grant(state, 0, 1000);
  grant(state, 1, 1000);
  stepLease(state, { type: 'current', segment: null, replicas: 0 });
  t.notOk(leaseHolds(state, at(1002)));
  t.end();
});
