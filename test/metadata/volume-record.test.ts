/** The proposals on a volume record: what each does, what each refuses, and when one has landed. */
import { test } from 'tap';
import { present } from '../../src/core/assert.js';
import { epoch, lsn, offset } from '../../src/core/units.js';
import type { VolumeRecord } from '../../src/metadata/model.js';
import { brokenInvariant, brokenSuccession } from '../../src/metadata/record-invariant.js';
import {
  assertVolumeRecord,
  claimEpoch,
  clearDeleted,
  configure,
  deleteSealed,
  landed,
  planSpare,
  registerSpare,
  release,
  replaceSpare,
  resize,
  roll,
  sealAtTakeover,
  setRoot,
  unplan,
} from '../../src/metadata/volume-record.js';
import { at, blank, fresh, owner, replicas, segmentId } from './samples.js';

const TWO = replicas('1', '2');
const one = epoch(1);
const two = epoch(2);
const claimed = claimEpoch(blank, { owner: owner('a'), planned: [fresh('1'), fresh('2')] });
const serving = sealAtTakeover(claimed, {
  epoch: one,
  ends: [],
  promote: [segmentId('1'), segmentId('2')],
  plan: [fresh('3')],
});
const rolled = roll(serving, {
  epoch: one,
  sealed: at('1', 4, 9),
  promote: segmentId('3'),
  plan: [fresh('4')],
});
const reclaimed = claimEpoch(rolled, { owner: owner('b'), planned: [fresh('5'), fresh('6')] });

/** Where each segment stands: "planned: 4 | open: 2 3 | …". */
function places(record: VolumeRecord): string {
  const short = (list: readonly { segment: string }[]): string =>
    list.map((one) => one.segment.replace(/^0+/, '')).join(' ');
  const { planned, open, sealed, pendingDelete } = record;
  return [planned, open, sealed, pendingDelete].map(short).join(' | ');
}

test('a volume goes through its life', async (t) => {
  t.equal(places(claimed), '1 2 |  |  | ');
  t.equal(claimed.epoch, 1);
  t.equal(claimed.planned[0]?.createEpoch, 1);
  t.equal(places(serving), '3 | 1 2 |  | ');
  t.equal(places(rolled), '4 | 2 3 | 1 | ');
  t.equal(rolled.sealed[0]?.end, 4 * 4096);
  t.equal(places(reclaimed), '5 6 | 2 3 | 1 | 4');
  t.equal(reclaimed.epoch, 2);
  const sealed = sealAtTakeover(reclaimed, {
    epoch: two,
    ends: [at('2', 0, 9), { segment: segmentId('3'), abandoned: true }],
    promote: [segmentId('5')],
    plan: [],
  });
  t.equal(places(sealed), '6 | 5 | 1 2 | 4 3');
  const spared = registerSpare(sealed, { epoch: two, segment: segmentId('6') });
  t.equal(places(spared), ' | 5 6 | 1 2 | 4 3');
  const planned = planSpare(spared, { epoch: two, plan: [fresh('7'), fresh('8')] });
  t.equal(places(planned), '7 8 | 5 6 | 1 2 | 4 3');
  const fewer = unplan(planned, { epoch: two, segments: [segmentId('7')] });
  t.equal(places(fewer), '8 | 5 6 | 1 2 | 4 3 7');
  const instead = replaceSpare(fewer, {
    epoch: two,
    segment: segmentId('6'),
    promote: segmentId('8'),
  });
  t.equal(places(instead), ' | 5 8 | 1 2 | 4 3 7 6');
  const cleared = clearDeleted(fewer, { segments: [segmentId('4'), segmentId('3')] });
  t.equal(places(cleared), '8 | 5 6 | 1 2 | 7');
  const root = { segment: segmentId('5'), offset: offset(4096), lsn: lsn(12) };
  const rooted = setRoot(cleared, { epoch: two, root });
  const cleaned = deleteSealed(rooted, { epoch: two, segments: [segmentId('1')] });
  t.equal(places(cleaned), '8 | 5 6 | 2 | 7 1');
  t.equal(release(cleaned, { epoch: two }).owner?.released, true);
  t.equal(resize(cleaned, { sizeBytes: (1 << 31) >>> 0 }).sizeBytes, 2 ** 31);
});

const root = (segment: string, page: number, at: number) => ({
  segment: segmentId(segment),
  offset: offset(page * 4096),
  lsn: lsn(at),
});
const rooted = setRoot(rolled, { epoch: one, root: root('1', 1, 4) });

/** Each a bug of the caller, and what the assertion says. */
const REFUSED: readonly (readonly [string, () => unknown, RegExp])[] = [
  ['an id planned before', () => planSpare(rolled, { epoch: one, plan: [fresh('1')] }), /again/],
  [
    'an id planned twice',
    () => planSpare(rolled, { epoch: one, plan: [fresh('9'), fresh('9')] }),
    /stands twice/,
  ],
  ['an owner id again', () => claimEpoch(rolled, { owner: owner('a'), planned: [] }), /attempt/],
  [
    'a released claim',
    () => claimEpoch(rolled, { owner: { ...owner('c'), released: true }, planned: [] }),
    /not a release/,
  ],
  ['a former epoch', () => release(reclaimed, { epoch: one }), /does not hold/],
  ['nobody holds it', () => release(blank, { epoch: epoch(0) }), /does not hold/],
  [
    'a roll of the spare',
    () => roll(rolled, { epoch: one, sealed: at('3', 1, 12), promote: null, plan: [] }),
    /current segment/,
  ],
  [
    'a roll without a spare',
    () => {
      const alone = roll(rolled, { epoch: one, sealed: at('2', 1, 12), promote: null, plan: [] });
      return roll(alone, { epoch: one, sealed: at('3', 1, 12), promote: null, plan: [] });
    },
    /registered spare/,
  ],
  [
    'promoting what is not planned',
    () => registerSpare(serving, { epoch: one, segment: segmentId('7') }),
    /no spare/,
  ],
  [
    'replacing what is written to',
    () => {
      const [segment, promote] = [segmentId('1'), segmentId('3')];
      return replaceSpare(serving, { epoch: one, segment, promote });
    },
    /replaces the spare/,
  ],
  [
    'promoting a former plan',
    () => roll(rolled, { epoch: one, sealed: at('2', 1, 12), promote: segmentId('1'), plan: [] }),
    /is planned/,
  ],
  [
    'an end within a page',
    () => {
      const sealed = { ...at('2', 1, 12), end: offset(100) };
      return roll(rolled, { epoch: one, sealed, promote: null, plan: [] });
    },
    /end 100/,
  ],
  [
    'a falling end LSN',
    () => roll(rolled, { epoch: one, sealed: at('2', 1, 8), promote: null, plan: [] }),
    /endLsn falls/,
  ],
  [
    'an empty segment with a crc',
    () => {
      const sealed = { ...at('2', 0, 9), crc: 1 };
      return roll(rolled, { epoch: one, sealed, promote: null, plan: [] });
    },
    /with a crc/,
  ],
  [
    'ends in another order',
    () => {
      const ends = [at('3', 1, 12), at('2', 1, 12)];
      return sealAtTakeover(reclaimed, { epoch: two, ends, promote: [segmentId('5')], plan: [] });
    },
    /in the order/,
  ],
  [
    'an end left out',
    () => {
      const ends = [at('2', 1, 12)];
      return sealAtTakeover(reclaimed, { epoch: two, ends, promote: [segmentId('5')], plan: [] });
    },
    /an end for each/,
  ],
  [
    'abandoning the first',
    () => {
      const ends = [{ segment: segmentId('2'), abandoned: true as const }, at('3', 1, 12)];
      return sealAtTakeover(reclaimed, { epoch: two, ends, promote: [segmentId('5')], plan: [] });
    },
    /only a spare/,
  ],
  [
    'taking over from oneself',
    () => {
      const ends = [at('2', 1, 12), at('3', 1, 12)];
      return sealAtTakeover(rolled, { epoch: one, ends, promote: [segmentId('4')], plan: [] });
    },
    /older epochs/,
  ],
  ['a root that falls', () => setRoot(rooted, { epoch: one, root: root('1', 0, 3) }), /fell back/],
  ['a root above the end', () => setRoot(rolled, { epoch: one, root: root('1', 4, 8) }), /above/],
  ['a root nowhere', () => setRoot(rolled, { epoch: one, root: root('4', 0, 20) }), /neither/],
  [
    'deleting what the root needs',
    () => deleteSealed(rooted, { epoch: one, segments: [segmentId('1')] }),
    /no durable root/,
  ],
  [
    'deleting before there is a root',
    () => deleteSealed(rolled, { epoch: one, segments: [segmentId('1')] }),
    /no durable root/,
  ],
  [
    'deleting the last one sealed',
    () => {
      const behind = setRoot(rolled, { epoch: one, root: root('2', 1, 9) });
      return deleteSealed(behind, { epoch: one, segments: [segmentId('1')] });
    },
    /not the last/,
  ],
  [
    'deleting an open segment',
    () => deleteSealed(rolled, { epoch: one, segments: [segmentId('2')] }),
    /is sealed/,
  ],
  ['clearing a sealed one', () => clearDeleted(rolled, { segments: [segmentId('1')] }), /pending/],
  ['shrinking', () => resize(rolled, { sizeBytes: 1 << 20 }), /shrink/],
  [
    'two replicas on one node',
    () => {
      const plan = [{ ...fresh('9'), replicas: replicas('1', '1', '2') }];
      return planSpare(rolled, { epoch: one, plan });
    },
    /one node/,
  ],
  [
    'too few replicas to acknowledge',
    () => planSpare(rolled, { epoch: one, plan: [{ ...fresh('9'), replicas: replicas('1') }] }),
    /ack quorum/,
  ],
  [
    'three open segments',
    () => assertVolumeRecord({ ...rolled, open: [...rolled.open, ...rolled.planned], planned: [] }),
    /3 open/,
  ],
];

test('what a caller must not do is asserted', async (t) => {
  for (const [name, act, message] of REFUSED) t.throws(act, { message }, name);
});

test('a segment of an earlier epoch does not follow one of a later', async (t) => {
  const last = present(reclaimed.sealed.at(-1), 'a sealed segment');
  const later = { ...last, segment: segmentId('77'), createEpoch: two };
  t.equal(brokenInvariant({ ...reclaimed, sealed: [...reclaimed.sealed, later] }), null);
  const turned = brokenInvariant({ ...reclaimed, sealed: [later, last] });
  t.match(turned, /createEpoch falls/);
});

test('landed: the record holds what was proposed, or it never happened', async (t) => {
  t.equal(landed(claimed, claimed), true);
  t.equal(landed(claimed, blank), false, 'not yet');
  t.equal(landed(claimed, serving), true, 'and went on');
  t.equal(landed(serving, claimed), false, 'planned is not registered');
  t.equal(landed(rolled, serving), false, 'open is not sealed');
  t.equal(landed(rolled, reclaimed), true, 'a later epoch kept it');
  const alone = roll(serving, { epoch: one, sealed: at('1', 4, 9), promote: null, plan: [] });
  const spared = registerSpare(alone, { epoch: one, segment: segmentId('3') });
  t.equal(landed(spared, alone), false, 'the same ids, but the spare is not registered');
  t.equal(landed(spared, spared), true);
  const other = claimEpoch(blank, { owner: owner('c'), planned: [fresh('c1'), fresh('c2')] });
  t.equal(landed(claimed, other), false, 'another one claimed the same epoch');
  const overtaken = claimEpoch(serving, { owner: owner('b'), planned: [fresh('5')] });
  t.equal(landed(rolled, overtaken), false, 'a later epoch came before the roll');
  const elsewhere = roll(serving, {
    epoch: one,
    sealed: at('1', 5, 10),
    promote: segmentId('3'),
    plan: [fresh('4')],
  });
  t.equal(landed(rolled, elsewhere), false, 'sealed at another end');
  const open = serving.open.map((segment) => ({ ...segment, replicas: replicas('7', '8', '9') }));
  t.equal(landed(serving, { ...serving, open }), false, 'open on other disks');
  const cleared = clearDeleted(reclaimed, { segments: [segmentId('4')] });
  t.equal(landed(reclaimed, cleared), true, 'what was pending may have been deleted');
  const released = release(rolled, { epoch: one });
  t.equal(landed(released, rolled), false);
  t.equal(landed(rolled, released), true);
  t.equal(landed(rooted, rolled), false);
  t.equal(landed(resize(rolled, { sizeBytes: 2 ** 31 }), rolled), false);
});

test('no swap takes a record back', async (t) => {
  t.equal(brokenSuccession(serving, rolled), null);
  const cases: readonly (readonly [string, VolumeRecord, VolumeRecord, RegExp])[] = [
    ['epoch', reclaimed, { ...reclaimed, epoch: one }, /epoch falls/],
    ['another volume', rolled, { ...rolled, volume: segmentId('f') as never }, /volume id/],
    ['quorum', rolled, { ...rolled, ackQuorum: 3 }, /ackQuorum changed/],
    ['unsealed', { ...rolled, planned: [] }, serving, /from open to planned/],
    ['forgotten', rolled, { ...rolled, planned: [] }, /from planned to nowhere/],
    [
      'other replicas',
      rolled,
      { ...rolled, open: rolled.open.map((one) => ({ ...one, replicas: replicas('1', '4') })) },
      /changed/,
    ],
    [
      'another end',
      rolled,
      { ...rolled, sealed: rolled.sealed.map((one) => ({ ...one, end: offset(4096) })) },
      /end of sealed/,
    ],
    ['root', rooted, { ...rooted, root: null }, /root fell/],
  ];
  for (const [name, before, after, message] of cases) {
    t.match(brokenSuccession(before, after), message, name);
  }
});

test('another ack quorum holds when nothing written with the former one is open', async (t) => {
  const wanted = { nextAckQuorum: 3 };
  const unused = configure(blank, wanted);
  t.match([unused.ackQuorum, unused.settings], [3, {}], 'at once while nothing was written');
  const asked = configure(reclaimed, { ...wanted, commitIntervalMs: 1_000 });
  t.equal(asked.ackQuorum, 2, 'the takeover under way decides with what was written with 2');
  t.same(asked.settings, { nextAckQuorum: 3, commitIntervalMs: 1_000 });
  const takeover = {
    epoch: two,
    ends: [at('2', 0, 9), { segment: segmentId('3'), abandoned: true }],
    promote: [segmentId('5'), segmentId('6')],
    plan: [],
  } as const;
  const sealed = sealAtTakeover(asked, takeover);
  t.equal(sealed.ackQuorum, 3);
  t.same(sealed.settings, { commitIntervalMs: 1_000 });
  const narrow = { ...asked, planned: asked.planned.map((one) => ({ ...one, replicas: TWO })) };
  const later = sealAtTakeover(narrow, takeover);
  t.equal(later.ackQuorum, 2, 'two disks cannot make a quorum of three');
  t.equal(later.settings?.nextAckQuorum, 3, 'a later takeover may');
  t.same(
    configure(asked, { nextAckQuorum: 2 }).settings,
    { commitIntervalMs: 1_000 },
    'taken back',
  );
  for (const record of [serving, rolled, reclaimed]) {
    t.match(brokenSuccession(record, { ...record, ackQuorum: 3 }), /ackQuorum changed/);
  }
});
