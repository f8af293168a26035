/** The protocol's table and the recovery table, case by case. */
import { test } from 'tap';
import { newIncarnation } from '../../src/block/forming.js';
import { inventoryPage } from '../../src/block/inventory.js';
import { decideJournal, decideSegment, type FoundGroup } from '../../src/block/recovery.js';
import { newSegment, type Segment } from '../../src/block/replica-state.js';
import { decide } from '../../src/block/segment-table.js';
import type { Request } from '../../src/block/wire/messages.js';
import type { Incarnation } from '../../src/core/ids.js';
import { epoch, offset, pageIndex, revision } from '../../src/core/units.js';
import { SimRandom } from '../fixtures/sim-random.js';
import { seg, VOLUME } from './store-rig.js';

const incarnation = 'ee'.repeat(16) as Incarnation;
const on = { incarnation, segment: seg(1), volume: VOLUME };

/** Every request as one of epoch 3 against a segment of 8192 bytes. */
const requests = {
  create: { ...on, type: 'create', epoch: epoch(3) },
  append: { ...on, type: 'append', epoch: epoch(3), offset: offset(8192), batch: [] },
  duplicate: { ...on, type: 'append', epoch: epoch(3), offset: offset(4096), batch: [] },
  gap: { ...on, type: 'append', epoch: epoch(3), offset: offset(12288), batch: [] },
  ping: { ...on, type: 'ping', epoch: epoch(3) },
  fence: { ...on, type: 'fence', epoch: epoch(3), released: false },
  recover: {
    ...{ ...on, type: 'recover', epoch: epoch(3), createEpoch: epoch(3) },
    ...{ offset: offset(4096), bytes: Buffer.alloc(0) },
  },
  read: { ...on, type: 'read', page: pageIndex(0), count: 2 },
  beyond: { ...on, type: 'read', page: pageIndex(1), count: 2 },
  locate: { ...on, type: 'locate', page: pageIndex(1) },
  'locate beyond': { ...on, type: 'locate', page: pageIndex(2) },
  seal: { ...on, type: 'seal', end: offset(8192), crc: 7 },
  copy: {
    ...{ ...on, type: 'copy', createEpoch: epoch(3), sources: [], end: offset(8192), crc: 7 },
  },
  delete: { ...on, type: 'delete', revision: revision(1) },
} satisfies Record<string, Request>;

function state(changes: Partial<Segment> = {}): Segment {
  return {
    ...newSegment(seg(1), VOLUME),
    ...{ hasCreate: true, createEpoch: epoch(3), maxEpoch: epoch(3) },
    ...{ durableLength: offset(8192), acceptedLength: offset(8192), durableCrc: 7, acceptedCrc: 7 },
    ...changes,
  };
}

const tombstone = {
  ...{ hasCreate: false, createEpoch: epoch(0), maxEpoch: epoch(3) },
  ...{ durableLength: offset(0), acceptedLength: offset(0), durableCrc: 0, acceptedCrc: 0 },
};

type Row = Readonly<Record<keyof typeof requests, string>>;
const TABLE: readonly (readonly [string, Segment | undefined, Row])[] = [
  [
    'unknown',
    undefined,
    {
      ...{ create: 'commit', append: 'UNKNOWN', duplicate: 'UNKNOWN', gap: 'UNKNOWN' },
      ...{ ping: 'UNKNOWN', fence: 'commit', recover: 'UNKNOWN', read: 'UNKNOWN' },
      ...{ locate: 'UNKNOWN', 'locate beyond': 'UNKNOWN' },
      ...{ beyond: 'UNKNOWN', seal: 'UNKNOWN', copy: 'confirm', delete: 'confirm' },
    },
  ],
  [
    'open',
    state(),
    {
      ...{ create: 'again', append: 'commit', duplicate: 'OK', gap: 'GAP' },
      ...{ ping: 'OK', fence: 'commit', recover: 'commit', read: 'read' },
      ...{ locate: 'read', 'locate beyond': 'GAP' },
      ...{ beyond: 'GAP', seal: 'confirm', copy: 'confirm', delete: 'confirm' },
    },
  ],
  [
    'being appended to',
    state({ acceptedLength: offset(12288) }),
    {
      ...{ create: 'again', append: 'OK', duplicate: 'OK', gap: 'commit' },
      ...{ ping: 'OK', fence: 'commit', recover: 'commit', read: 'read' },
      ...{ locate: 'read', 'locate beyond': 'GAP' },
      ...{ beyond: 'GAP', seal: 'confirm', copy: 'confirm', delete: 'confirm' },
    },
  ],
  [
    'fenced higher',
    state({ maxEpoch: epoch(4) }),
    {
      ...{ create: 'STALE', append: 'STALE', duplicate: 'STALE', gap: 'STALE' },
      ...{ ping: 'STALE', fence: 'STALE', recover: 'STALE', read: 'read' },
      ...{ locate: 'read', 'locate beyond': 'GAP' },
      ...{ beyond: 'GAP', seal: 'confirm', copy: 'confirm', delete: 'confirm' },
    },
  ],
  [
    'of an older epoch',
    state({ createEpoch: epoch(2), maxEpoch: epoch(2) }),
    {
      ...{ create: 'STALE', append: 'STALE', duplicate: 'STALE', gap: 'STALE' },
      ...{ ping: 'OK', fence: 'commit', recover: 'REFUSED', read: 'read' },
      ...{ locate: 'read', 'locate beyond': 'GAP' },
      ...{ beyond: 'GAP', seal: 'confirm', copy: 'confirm', delete: 'confirm' },
    },
  ],
  [
    'fenced tombstone',
    state(tombstone),
    {
      ...{ create: 'STALE', append: 'UNKNOWN', duplicate: 'UNKNOWN', gap: 'UNKNOWN' },
      ...{ ping: 'UNKNOWN', fence: 'commit', recover: 'GAP', read: 'UNKNOWN' },
      ...{ locate: 'UNKNOWN', 'locate beyond': 'UNKNOWN' },
      ...{ beyond: 'UNKNOWN', seal: 'UNKNOWN', copy: 'confirm', delete: 'confirm' },
    },
  ],
  [
    'suspect',
    state({ suspect: true }),
    {
      ...{ create: 'SUSPECT', append: 'SUSPECT', duplicate: 'SUSPECT', gap: 'SUSPECT' },
      ...{ ping: 'SUSPECT', fence: 'commit', recover: 'commit', read: 'read' },
      ...{ locate: 'read', 'locate beyond': 'GAP' },
      ...{ beyond: 'GAP', seal: 'confirm', copy: 'confirm', delete: 'confirm' },
    },
  ],
  [
    'sealed',
    state({ sealed: true }),
    {
      ...{ create: 'again', append: 'SEALED', duplicate: 'SEALED', gap: 'SEALED' },
      ...{ ping: 'OK', fence: 'commit', recover: 'SEALED', read: 'read' },
      ...{ locate: 'read', 'locate beyond': 'GAP' },
      ...{ beyond: 'GAP', seal: 'again', copy: 'confirm', delete: 'confirm' },
    },
  ],
  [
    'sealed elsewhere',
    state({ sealed: true, durableCrc: 8 }),
    {
      ...{ create: 'again', append: 'SEALED', duplicate: 'SEALED', gap: 'SEALED' },
      ...{ ping: 'OK', fence: 'commit', recover: 'SEALED', read: 'read' },
      ...{ locate: 'read', 'locate beyond': 'GAP' },
      ...{ beyond: 'GAP', seal: 'REFUSED', copy: 'confirm', delete: 'confirm' },
    },
  ],
  [
    'being sealed, copied or deleted',
    state({ frozen: true }),
    {
      ...{ create: 'again', append: 'SEALED', duplicate: 'SEALED', gap: 'SEALED' },
      ...{ ping: 'OK', fence: 'commit', recover: 'SEALED', read: 'read' },
      ...{ locate: 'read', 'locate beyond': 'GAP' },
      ...{ beyond: 'GAP', seal: 'confirm', copy: 'confirm', delete: 'confirm' },
    },
  ],
  [
    'deleted',
    state({ ...tombstone, deleted: true }),
    {
      ...{ create: 'DELETED', append: 'DELETED', duplicate: 'DELETED', gap: 'DELETED' },
      ...{ ping: 'DELETED', fence: 'DELETED', recover: 'DELETED', read: 'DELETED' },
      ...{ locate: 'DELETED', 'locate beyond': 'DELETED' },
      ...{ beyond: 'DELETED', seal: 'DELETED', copy: 'confirm', delete: 'again' },
    },
  ],
  [
    'deleted and fenced higher',
    state({ ...tombstone, deleted: true, maxEpoch: epoch(9) }),
    {
      ...{ create: 'STALE', append: 'STALE', duplicate: 'STALE', gap: 'STALE' },
      ...{ ping: 'STALE', fence: 'STALE', recover: 'STALE', read: 'DELETED' },
      ...{ locate: 'DELETED', 'locate beyond': 'DELETED' },
      ...{ beyond: 'DELETED', seal: 'DELETED', copy: 'confirm', delete: 'again' },
    },
  ],
];

for (const [name, segment, row] of TABLE) {
  test(`a segment that is ${name}`, async (t) => {
    for (const [title, request] of Object.entries(requests)) {
      const verdict = decide(segment, request);
      const said = verdict.act === 'answer' ? verdict.status : verdict.act;
      t.equal(said, row[title as keyof Row], title);
    }
  });
}

test('what contradicts what a segment is, is refused', async (t) => {
  const refused = { act: 'answer', status: 'REFUSED' };
  const volume = seg(7) as string as typeof VOLUME;
  for (const title of ['create', 'fence', 'recover', 'seal', 'copy', 'delete'] as const) {
    t.same(decide(state(), { ...requests[title], volume }), refused, `${title} of another volume`);
  }
  const { recover } = requests;
  const older = { ...recover, createEpoch: epoch(2) };
  t.same(decide(state(), older), refused, 'recovered as created by another epoch');
  const later = { ...recover, offset: offset(0), createEpoch: epoch(4) };
  t.same(decide(state(tombstone), later), refused, 'created by a later epoch than recovers it');
});

const group = (sequence: number, flushedSequence = sequence - 1): FoundGroup => {
  return { lap: 1, sequence, flushedSequence };
};

test('which journal groups are history', async (t) => {
  const cases: [string, FoundGroup[], { apply: number; historyLost: boolean }][] = [
    ['nothing written', [], { apply: 0, historyLost: false }],
    ['all there', [group(5), group(6)], { apply: 2, historyLost: false }],
    ['the first was flushed and is bad', [group(6)], { apply: 1, historyLost: true }],
    ['a middle one', [group(5), group(7), group(8)], { apply: 3, historyLost: true }],
    ['a later one that proves nothing', [group(5), group(7, 5)], { apply: 1, historyLost: false }],
    ['a later one proves it', [group(5), group(7, 6)], { apply: 2, historyLost: true }],
  ];
  for (const [name, groups, want] of cases) t.same(decideJournal(groups, 5), want, name);
});

test('what a segment is after a start', async (t) => {
  const facts = {
    ...{ deleted: false, sealedEnd: null, suspect: false, recorded: offset(8192) },
    ...{ chainEnd: offset(8192), unreadable: false, historyLost: false },
  };
  const open = (length: number, suspect: boolean) => ({ keep: 'open', length, suspect });
  t.same(decideSegment(facts), open(8192, false), 'as recorded');
  const longer = { ...facts, chainEnd: offset(12288) };
  t.same(decideSegment(longer), open(12288, false), 'longer than recorded');
  t.same(decideSegment({ ...facts, chainEnd: offset(4096) }), open(4096, true), 'shorter');
  t.same(decideSegment({ ...longer, historyLost: true }), open(12288, true), 'history lost');
  t.same(decideSegment({ ...longer, unreadable: true }), open(12288, true), 'unreadable');
  t.same(decideSegment({ ...facts, suspect: true }), open(8192, true), 'suspect before');
  const sealed = { ...facts, sealedEnd: offset(8192), chainEnd: offset(0), historyLost: true };
  t.same(decideSegment(sealed), { keep: 'sealed', length: 8192 }, 'sealed stays sealed');
  t.same(decideSegment({ ...sealed, deleted: true }), { keep: 'tombstone' });
});

test('pages of an inventory are those of the sorted ids', async (t) => {
  const random = new SimRandom('inventory');
  const ids = [...new Set(Array.from({ length: 3_000 }, () => newIncarnation(random)))];
  const sorted = [...ids].sort();
  for (const limit of [1, 7, 1_000, 2_999, 3_000, 5_000]) {
    for (const from of [0, 1, 1_500, 2_999]) {
      const after = from === 0 ? '' : (sorted[from - 1] as string);
      const { page, more } = inventoryPage(ids, after, limit);
      t.same(page, sorted.slice(from, from + limit), `${limit} from ${from}`);
      t.equal(more, from + limit < sorted.length, `${limit} from ${from}: more`);
    }
  }
  t.same(inventoryPage([], '', 10), { page: [], more: false });
});
