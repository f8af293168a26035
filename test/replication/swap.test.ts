/** One swap at a time, exactly once, whatever answers are lost. */
import t from 'tap';
import type { Incarnation, NodeId, OwnerId, SegmentId, VolumeId } from '../../src/core/ids.js';
import { MIB, type Monotonic, revision } from '../../src/core/units.js';
import type { VolumeRecord } from '../../src/metadata/model.js';
import { claimEpoch, planSpare, resize } from '../../src/metadata/volume-record.js';
import {
  newSwap,
  type SwapEffect,
  type SwapState,
  stepSwap,
  swapDeadline,
} from '../../src/replication/swap.js';
import { versioned, volumeRecord } from '../fixtures/volume-record.js';

const hex = (n: number): string => n.toString(16).padStart(32, '0');
const ME = hex(1) as OwnerId;
const OTHER = hex(2) as OwnerId;
const NOW = 1000 as Monotonic;
const LIMITS = { retryMinMs: 50, retryMaxMs: 400, chunkSegments: 4 };

const FRESH = volumeRecord(hex(9) as VolumeId, { sizeBytes: MIB });

function planned(n: number): { segment: SegmentId; group: number; replicas: never[] } {
  const replicas = [0, 1, 2].map((i) => ({
    node: hex(0x10 + i) as NodeId,
    incarnation: hex(0x20 + i) as Incarnation,
  }));
  return { segment: hex(0x100 + n) as SegmentId, group: 0, replicas: replicas as never[] };
}

function claim(owner: OwnerId, n: number) {
  const who = { id: owner, address: 'here', released: false };
  return {
    name: 'claim',
    change: (record: VolumeRecord) => claimEpoch(record, { owner: who, planned: [planned(n)] }),
  };
}

function plan(n: number) {
  return {
    name: 'plan',
    change: (record: VolumeRecord) =>
      planSpare(record, { epoch: record.epoch, plan: [planned(n)] }),
  };
}

const MINE = claim(ME, 1).change(FRESH);

function begun(record = MINE, rev = 5): [SwapState, SwapEffect[]] {
  const state = newSwap(ME, versioned(record, rev), LIMITS);
  return [state, stepSwap(state, { type: 'propose', purpose: plan(2) })];
}

function proposalOf(effects: readonly SwapEffect[]): VolumeRecord {
  const [effect] = effects;
  if (effect?.type !== 'send') throw new Error(`expected a send, saw ${effect?.type}`);
  return effect.swap.at(revision(99)).record;
}

function baseOf([effect]: readonly SwapEffect[]): number {
  return effect?.type === 'send' ? effect.base.modRevision : 0;
}

function names(effects: readonly SwapEffect[]): string[] {
  return effects.map((effect) =>
    effect.type === 'stop' ? `stop ${effect.reason.code}` : effect.type,
  );
}

function found(state: SwapState, record: VolumeRecord, rev: number): SwapEffect[] {
  return stepSwap(state, { type: 'found', found: versioned(record, rev) });
}

t.test('committed: it landed, and the next one builds on it', (t) => {
  const [state, sent] = begun();
  t.equal(baseOf(sent), 5);
  t.same(names(stepSwap(state, { type: 'committed', revision: revision(8) })), ['landed']);
  t.equal(state.known.modRevision, 8);
  t.equal(state.known.record.planned.length, 2);
  t.same(names(stepSwap(state, { type: 'propose', purpose: plan(3) })), ['send']);
  t.throws(() => stepSwap(state, { type: 'propose', purpose: plan(4) }), /one swap in flight/);
  t.end();
});

t.test('unknown outcome, revision unchanged: the identical swap is sent again', (t) => {
  const [state, sent] = begun();
  stepSwap(state, { type: 'failed', now: NOW });
  t.equal(swapDeadline(state), 1050);
  t.same(names(stepSwap(state, { type: 'tick', now: 1050 as Monotonic })), ['read']);
  const again = found(state, MINE, 5);
  t.equal(proposalOf(again), proposalOf(sent), 'the very same record');
  t.equal(baseOf(again), 5, 'on the very same revision');
  t.end();
});

t.test('unknown outcome, but it had landed', (t) => {
  const [state, sent] = begun();
  stepSwap(state, { type: 'failed', now: NOW });
  stepSwap(state, { type: 'tick', now: 1050 as Monotonic });
  t.same(names(found(state, proposalOf(sent), 6)), ['landed']);
  t.end();
});

t.test('it landed and another field changed after it', (t) => {
  const [state, sent] = begun();
  stepSwap(state, { type: 'refused' });
  const later = resize(proposalOf(sent), { sizeBytes: 2 * MIB });
  t.same(names(found(state, later, 9)), ['landed']);
  t.equal(state.known.record.sizeBytes, 2 * MIB, 'goes on from what was found');
  t.end();
});

t.test('another field changed before it: the same change of the record found', (t) => {
  const [state, sent] = begun();
  t.same(names(stepSwap(state, { type: 'refused' })), ['read']);
  const again = found(state, resize(MINE, { sizeBytes: 2 * MIB }), 7);
  t.equal(baseOf(again), 7);
  t.equal(proposalOf(again).sizeBytes, 2 * MIB);
  t.same(proposalOf(again).planned, proposalOf(sent).planned, 'with the same segment ids');
  t.end();
});

t.test('a higher epoch stops for good, even when our change had landed before it', (t) => {
  for (const before of [MINE, plan(2).change(MINE)]) {
    const [state] = begun();
    stepSwap(state, { type: 'refused' });
    t.same(names(found(state, claim(OTHER, 7).change(before), 9)), ['stop FENCED']);
    t.same(names(stepSwap(state, { type: 'tick', now: NOW })), []);
  }
  t.end();
});

t.test('the claim of an epoch that somebody else took is not taken for ours', (t) => {
  const state = newSwap(ME, versioned(FRESH, 3), LIMITS);
  stepSwap(state, { type: 'propose', purpose: claim(ME, 1) });
  stepSwap(state, { type: 'refused' });
  t.same(names(found(state, claim(OTHER, 7).change(FRESH), 4)), ['stop FENCED']);
  t.end();
});

t.test('a claim is made again when only other fields changed, and read back by its owner', (t) => {
  const state = newSwap(ME, versioned(FRESH, 3), LIMITS);
  stepSwap(state, { type: 'propose', purpose: claim(ME, 1) });
  stepSwap(state, { type: 'refused' });
  const again = found(state, resize(FRESH, { sizeBytes: 2 * MIB }), 4);
  t.equal(proposalOf(again).epoch, 1);
  stepSwap(state, { type: 'failed', now: NOW });
  stepSwap(state, { type: 'tick', now: 5000 as Monotonic });
  t.same(names(found(state, proposalOf(again), 5)), ['landed']);
  t.end();
});

t.test('a store that went back in time is no base for anything', (t) => {
  const [state] = begun();
  stepSwap(state, { type: 'refused' });
  t.same(names(found(state, MINE, 4)), ['stop INCONSISTENT']);
  const [removed] = begun();
  stepSwap(removed, { type: 'refused' });
  t.same(names(stepSwap(removed, { type: 'found', found: null })), ['stop NOT_FOUND']);
  t.end();
});

t.test('a store that is down is asked again with longer and longer pauses', (t) => {
  const [state] = begun();
  const waits: number[] = [];
  let now = 1000;
  for (let i = 0; i < 6; i++) {
    stepSwap(state, { type: 'failed', now: now as Monotonic });
    waits.push(swapDeadline(state) - now);
    now = swapDeadline(state);
    t.same(names(stepSwap(state, { type: 'tick', now: now as Monotonic })), ['read']);
  }
  t.same(waits, [50, 100, 200, 400, 400, 400]);
  t.end();
});
