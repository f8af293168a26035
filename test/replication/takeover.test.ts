/** What a taker concludes from its replicas' answers, and in which order it acts. */
import t from 'tap';
import { type BatchHeader, decodeBatchHeader } from '../../src/block/wire/batch.js';
import type { Reply, StatusName } from '../../src/block/wire/messages.js';
import type { SegmentHeader } from '../../src/block/wire/segment-header.js';
import { present } from '../../src/core/assert.js';
import { HoldfastError } from '../../src/core/errors.js';
import type { Incarnation, NodeId, SegmentId, VolumeId } from '../../src/core/ids.js';
import { epoch, lsn, type Monotonic, offset, PAGE_BYTES } from '../../src/core/units.js';
import type { OpenSegment } from '../../src/metadata/model.js';
import {
  answersFor,
  commitOffsetOf,
  fenceQuorum,
  reachedBy,
} from '../../src/replication/quorum.js';
import {
  addBatch,
  addHeader,
  commit,
  newStream,
  noteDurable,
  type QueuedEntry,
  type Stream,
} from '../../src/replication/stream.js';
import {
  type AcceptLoss,
  newTakeover,
  stepTakeover,
  type TakeoverEffect,
  type TakeoverState,
  takeoverDeadline,
} from '../../src/replication/takeover.js';
import {
  type Decision,
  decideEnds,
  decideWithLoss,
  type Fenced,
} from '../../src/replication/takeover-rules.js';

const hex = (n: number): string => n.toString(16).padStart(32, '0');
const VOLUME = hex(9) as VolumeId;
const NOW = 1000 as Monotonic;
const P = PAGE_BYTES;

function open(n: number, replicas = 3): OpenSegment {
  return {
    segment: hex(0xa00 + n) as SegmentId,
    group: 0,
    createEpoch: epoch(1),
    replicas: Array.from({ length: replicas }, (_, i) => ({
      node: hex(0x10 + i) as NodeId,
      incarnation: hex(0x20 + i) as Incarnation,
    })),
  };
}
const A = open(0);
const B = open(1);

function header(previous: OpenSegment, end: number): SegmentHeader {
  return {
    previous: { segment: previous.segment, end: offset(end * P), endLsn: lsn(7) },
    name: 'v',
    kind: 'filesystem',
    sizeBytes: 1,
    replicas: 3,
    ackQuorum: 2,
    group: 0,
  };
}

/** A valid answer of this many pages. */
function has(pages: number, of: SegmentHeader | null = null): Fenced {
  return { durableLength: offset(pages * P), suspectFrom: null, header: of };
}

function suspect(pages: number, from: number): Fenced {
  return { durableLength: offset(pages * P), suspectFrom: offset(from * P), header: null };
}

t.test('any ack quorum and any fence quorum have a replica in common', (t) => {
  for (const replicas of [1, 2, 3, 5]) {
    for (let ack = 1; ack <= replicas; ack++) {
      t.ok(ack + fenceQuorum(replicas, ack) > replicas, `${ack} of ${replicas}`);
      t.ok(fenceQuorum(replicas, ack) >= 1);
    }
  }
  t.equal(fenceQuorum(3, 2), 2);
  t.equal(fenceQuorum(5, 3), 3);
  t.equal(reachedBy(2, [5, 9, 7]), 7);
  t.equal(reachedBy(2, [5]), 0);
  t.equal(commitOffsetOf([offset(3), offset(1), offset(2)], 3), 1);
  t.end();
});

type Row = readonly [
  title: string,
  open: readonly OpenSegment[],
  replies: readonly (readonly Fenced[])[],
  expected: string,
];

const H3 = header(A, 3);
const TABLE: readonly Row[] = [
  ['one answer is not enough', [A], [[has(9)]], 'undecided'],
  ['two of three decide by the longer', [A], [[has(3), has(9)]], 'A 9'],
  ['three decide by the longest', [A], [[has(3), has(9), has(4)]], 'A 9'],
  ['nobody has anything', [A], [[has(0), has(0)]], 'A 0'],
  ['a suspect answer is no negative', [A], [[has(3), suspect(3, 3)]], 'undecided'],
  ['a suspect answer shows what is there', [A], [[has(3), has(2), suspect(9, 6)]], 'A 6'],
  ['a suspect answer shows no more than its length', [A], [[has(3), has(2), suspect(4, 6)]], 'A 4'],
  ['no open segment', [], [], ''],
  [
    'an unused spare is abandoned',
    [A, B],
    [
      [has(5), has(4)],
      [has(0), has(0)],
    ],
    'A 5, B abandoned',
  ],
  ['both need their fence quorum', [A, B], [[has(5), has(4)], [has(0)]], 'undecided'],
  [
    'the header says where the first ends',
    [A, B],
    [
      [has(5), has(4)],
      [has(2, H3), has(0)],
    ],
    'A 3, B 2',
  ],
  [
    'bytes with an unreadable header are no absence',
    [A, B],
    [
      [has(5), has(4)],
      [has(2), has(0)],
    ],
    'undecided',
  ],
  [
    'another replica has a readable header',
    [A, B],
    [
      [has(5), has(4)],
      [has(2), has(0), has(1, H3)],
    ],
    'A 3, B 2',
  ],
  [
    'a suspect spare with bytes is no absence',
    [A, B],
    [
      [has(5), has(4)],
      [has(0), has(0), suspect(2, 1)],
    ],
    'undecided',
  ],
  [
    'rolled at 0',
    [A, B],
    [
      [has(1), has(0)],
      [has(1, header(A, 0)), has(1)],
    ],
    'A 0, B 1',
  ],
  [
    'rolled beyond what is left',
    [A, B],
    [
      [has(2), has(2)],
      [has(2, H3), has(0)],
    ],
    'INCONSISTENT',
  ],
  [
    'the header continues something else',
    [A, B],
    [
      [has(5), has(5)],
      [has(2, header(B, 3)), has(0)],
    ],
    'INCONSISTENT',
  ],
];

t.test('where the open segments end', (t) => {
  for (const [title, segments, replies, expected] of TABLE) {
    t.equal(shown(decideEnds(segments, replies, 2)), expected, title);
  }
  t.end();
});

/** Pages of A and of B that were said to stay. */
function said(...pages: number[]): Map<SegmentId, number> {
  return new Map(pages.map((count, i) => [open(i).segment, count * P]));
}

function shown(decision: Decision): string {
  if (decision.type === 'inconsistent') return decision.reason.code;
  if (decision.type === 'undecided') return decision.type;
  return decision.ends
    .map((end, i) => `${'AB'[i]} ${end.type === 'kept' ? end.end / P : end.type}`)
    .join(', ');
}

t.test('where they end when those that are silent were given up', (t) => {
  const one = [A];
  const two = [A, B];
  const ends = (
    segments: readonly OpenSegment[],
    replies: readonly (readonly Fenced[])[],
    stays = said(0, 0),
  ): string => shown(decideWithLoss(segments, replies, stays));
  t.equal(ends(one, [[has(2), suspect(9, 4)]]), 'A 4', 'the longest');
  t.equal(ends(one, [[]]), 'A 0');
  t.equal(ends(two, [[has(5)], [has(2, H3)]]), 'A 3, B 2', 'where it was rolled');
  t.equal(ends(two, [[has(2)], [has(2, H3)]]), 'A 2, B abandoned', 'a hole');
  t.equal(ends(two, [[has(5)], [has(2)]]), 'A 5, B abandoned', 'no header');
  t.equal(ends(two, [[has(5)], []]), 'A 5, B abandoned');
  t.equal(ends(two, [[has(5)], [has(2, header(B, 3))]]), 'INCONSISTENT');
  t.equal(ends(one, [[has(4)]], said(4)), 'A 4');
  t.equal(ends(one, [[has(3)]], said(4)), 'undecided', 'less than was said to stay');
  t.equal(ends(one, [[]], said(4)), 'undecided');
  t.equal(ends(two, [[has(5)], [has(1, H3)]], said(3, 2)), 'undecided');
  t.equal(ends(two, [[has(5)], [has(2)]], said(3, 2)), 'undecided', 'its header will be read');
  t.equal(ends(two, [[has(5)], []], said(5)), 'undecided', 'nothing was said of B');
  t.end();
});

/** A log of `batches` one-record batches of one page each, as an owner would have written it. */
function written(segment: OpenSegment, batches: number): { stream: Stream; bytes: Buffer } {
  const stream = newStream(VOLUME, segment, lsn(0));
  const { previous: _, ...facts } = header(A, 0);
  addHeader(stream, { ...facts, previous: null }, NOW);
  for (let i = 0; i < batches; i++) {
    const entry = { record: Buffer.from(`r${i}`), pages: [] };
    const queued: QueuedEntry = { entry, lsn: lsn(i), bytes: 10, done: () => {} };
    addBatch(stream, [queued], NOW);
  }
  const bytes = Buffer.concat(
    stream.batches.map(({ encoded }) => {
      const page = Buffer.alloc(P);
      page.set(encoded.parts[0] as Uint8Array);
      return page;
    }),
  );
  return { stream, bytes };
}

function taker(
  segments: readonly OpenSegment[],
  ackQuorum = 2,
  acceptLoss: AcceptLoss | null = null,
): TakeoverState {
  return newTakeover({
    volume: VOLUME,
    ackQuorum,
    epoch: epoch(2),
    open: segments,
    baseLsn: lsn(0),
    retryMinMs: 50,
    retryMaxMs: 400,
    acceptLoss,
  });
}

interface Said {
  readonly status?: StatusName;
  readonly pages?: number;
  readonly maxEpoch?: number;
  readonly sealed?: boolean;
  readonly wrong?: boolean;
  readonly suspectFrom?: number;
}

function reply(segment: OpenSegment, replica: number, said: Said, fence: boolean): Reply {
  const { incarnation } = present(segment.replicas[replica], 'a replica');
  const suspectFrom = said.suspectFrom === undefined ? null : offset(said.suspectFrom * P);
  const sealed = said.sealed ?? false;
  return {
    status: said.status ?? 'OK',
    incarnation: said.wrong ? (hex(0x666) as Incarnation) : incarnation,
    durableLength: offset((said.pages ?? 0) * P),
    maxEpoch: epoch(said.maxEpoch ?? 2),
    body: fence ? { type: 'fence', suspectFrom, firstBatch: null, sealed } : null,
  };
}

function fenced(state: TakeoverState, replica: number, said: Said | null): TakeoverEffect[] {
  const heard = said === null ? null : reply(A, replica, said, true);
  const { round } = state;
  return stepTakeover(state, {
    type: 'fence-answer',
    round,
    index: 0,
    replica,
    reply: heard,
    now: NOW,
  });
}

function recovery(
  state: TakeoverState,
  event: Extract<Parameters<typeof stepTakeover>[1], { type: 'recovery' }>['event'],
): TakeoverEffect[] {
  const { round } = state;
  return stepTakeover(state, { type: 'recovery', round, index: 0, event, now: NOW });
}

/** Effects as short text. */
function show(effects: readonly TakeoverEffect[]): string[] {
  return effects.map((effect) => {
    switch (effect.type) {
      case 'fence':
        return `fence ${effect.replica}`;
      case 'recovery': {
        const { effect: inner } = effect;
        if (inner.type === 'read') return `read ${inner.count} of ${inner.sources.join('')}`;
        if (inner.type === 'heads') {
          return `heads ${inner.from / P} to ${inner.end / P} of ${inner.sources.join('')}`;
        }
        return `recover ${inner.replica} ${inner.offset / P}+${inner.bytes.length / P}`;
      }
      case 'halt':
        return `halt ${effect.reason.code}`;
      case 'recovered':
        return `recovered ${effect.ends.map((end) => ('end' in end ? end.end / P : '-')).join()}`;
      default:
        return effect.type;
    }
  });
}

t.test('a volume that never was open has nothing to fence', (t) => {
  const state = taker([]);
  t.same(show(stepTakeover(state, { type: 'start', now: NOW })), ['recovered ']);
  t.end();
});

t.test('fences all replicas, reads the kept prefix, completes it, and is done', (t) => {
  const { bytes, stream } = written(A, 5);
  const state = taker([A]);
  t.same(show(stepTakeover(state, { type: 'start', now: NOW })), ['fence 0', 'fence 1', 'fence 2']);
  t.same(show(fenced(state, 0, { pages: 2 })), []);
  t.same(show(fenced(state, 2, { pages: 6 })), ['read 6 of 2'], 'the longest is the source');
  const sent = recovery(state, { type: 'pages', data: bytes, lost: false });
  t.same(show(sent), ['recover 0 2+4'], 'only what it lacks');
  const answer = reply(A, 0, { pages: 6 }, false);
  const done = recovery(state, { type: 'recover-answer', replica: 0, reply: answer });
  t.same(show(done), ['recovered 6']);
  const [effect] = done;
  t.match(effect?.type === 'recovered' ? effect.ends : null, [
    { end: 6 * P, endLsn: 5, crc: stream.lastCrc },
  ]);
  t.end();
});

t.test('wrong incarnations, silence and errors are no answers, and are asked again', (t) => {
  const state = taker([A]);
  stepTakeover(state, { type: 'start', now: NOW });
  fenced(state, 0, { pages: 3, wrong: true });
  fenced(state, 1, { pages: 3 });
  t.same(show(fenced(state, 2, null)), []);
  t.equal(state.phase.type, 'fencing');
  t.equal(takeoverDeadline(state), 1050);
  t.same(show(stepTakeover(state, { type: 'tick', now: 1050 as Monotonic })), [
    'fence 0',
    'fence 2',
  ]);
  fenced(state, 0, { status: 'DISK' });
  fenced(state, 2, { status: 'UNKNOWN' });
  t.equal(state.phase.type, 'fencing', 'still too few');
  t.end();
});

t.test('a replica that dies on the way: decided again from fresh answers', (t) => {
  const { bytes } = written(A, 5);
  const state = taker([A]);
  stepTakeover(state, { type: 'start', now: NOW });
  fenced(state, 0, { pages: 2 });
  fenced(state, 2, { pages: 6 });
  t.same(show(recovery(state, { type: 'pages', data: null, lost: false })), ['again']);
  const late = { type: 'pages', data: bytes, lost: false } as const;
  t.same(show(recovery(state, late)), [], 'nothing of the old round counts');
  t.equal(takeoverDeadline(state), 1050);
  const again = stepTakeover(state, { type: 'tick', now: 1050 as Monotonic });
  t.same(show(again), ['fence 0', 'fence 1', 'fence 2']);
  fenced(state, 0, { pages: 2 });
  // The one that had six is gone: two valid answers decide without it.
  t.same(show(fenced(state, 1, { pages: 2 })), ['read 2 of 01']);
  const half = bytes.subarray(0, 2 * P);
  t.same(show(recovery(state, { type: 'pages', data: half, lost: false })), ['recovered 2']);
  t.end();
});

/** All of a log that a quorum holds was asked for, and some of it is lost. */
function lostData(): { state: TakeoverState; heads: BatchHeader[]; asked: string[] } {
  const { bytes } = written(A, 5);
  const state = taker([A]);
  stepTakeover(state, { type: 'start', now: NOW });
  fenced(state, 0, { pages: 6 });
  fenced(state, 2, { pages: 6 });
  const asked = show(recovery(state, { type: 'pages', data: null, lost: true }));
  return { state, asked, heads: [0, 1, 2, 3, 4, 5].map((at) => decodeBatchHeader(bytes, at * P)) };
}

t.test('data that nobody has any more does not keep a log that a quorum holds', (t) => {
  const { state, heads, asked } = lostData();
  t.same(asked, ['heads 0 to 6 of 02']);
  for (const header of heads) t.same(show(recovery(state, { type: 'head', header })), []);
  t.same(show(recovery(state, { type: 'heads-end', error: null })), ['recovered 6']);
  t.end();
});

t.test('heads that cannot be read, or do not continue each other, end the round', (t) => {
  const unread = lostData();
  const error = new HoldfastError('DATA_LOST', 'gone');
  t.same(show(recovery(unread.state, { type: 'heads-end', error })), ['again']);
  const broken = lostData();
  const [first, , third] = broken.heads as [BatchHeader, BatchHeader, BatchHeader];
  recovery(broken.state, { type: 'head', header: first });
  t.same(show(recovery(broken.state, { type: 'head', header: third })), ['again']);
  const short = lostData();
  recovery(short.state, { type: 'head', header: first });
  t.same(show(recovery(short.state, { type: 'heads-end', error: null })), ['halt INCONSISTENT']);
  t.end();
});

t.test(
  'a replica whose bytes cannot be read is left out of the next round, then asked again',
  (t) => {
    const state = taker([A]);
    stepTakeover(state, { type: 'start', now: NOW });
    fenced(state, 0, { pages: 2 });
    fenced(state, 2, { pages: 6 });
    recovery(state, { type: 'pages', data: null, lost: true });
    stepTakeover(state, { type: 'tick', now: 1050 as Monotonic });
    fenced(state, 2, { pages: 6 });
    t.same(show(fenced(state, 0, { pages: 2 })), [], 'one counts, one is left out');
    t.same(show(stepTakeover(state, { type: 'tick', now: 3000 as Monotonic })), [
      'fence 0',
      'fence 1',
      'fence 2',
    ]);
    fenced(state, 2, { pages: 6 });
    t.same(show(fenced(state, 0, { pages: 2 })), ['read 6 of 2']);
    t.end();
  },
);

t.test('bytes that do not form the chain are not sent on', (t) => {
  const { bytes } = written(A, 5);
  const swapped = Buffer.concat([bytes.subarray(0, P), bytes.subarray(2 * P, 4 * P)]);
  const state = taker([A]);
  stepTakeover(state, { type: 'start', now: NOW });
  fenced(state, 0, { pages: 1 });
  fenced(state, 1, { pages: 3 });
  t.same(show(recovery(state, { type: 'pages', data: swapped, lost: false })), ['again']);
  t.end();
});

t.test('what only a newer owner can explain makes it read the record again', (t) => {
  const signs: Said[] = [
    { status: 'STALE', maxEpoch: 3 },
    { pages: 3, sealed: true },
    { status: 'DELETED' },
  ];
  for (const sign of signs) {
    const state = taker([A]);
    stepTakeover(state, { type: 'start', now: NOW });
    t.same(show(fenced(state, 1, sign)), ['doubt']);
    t.same(show(fenced(state, 0, { pages: 9 })), [], 'nothing is decided any more');
  }
  const state = taker([A]);
  stepTakeover(state, { type: 'start', now: NOW });
  t.same(show(fenced(state, 1, { status: 'STALE', maxEpoch: 3, wrong: true })), []);
  t.equal(state.phase.type, 'fencing', 'another disk says nothing about ours');
  t.end();
});

t.test('answers of a round that has ended count for nothing in the next', (t) => {
  const state = taker([A]);
  stepTakeover(state, { type: 'start', now: NOW });
  fenced(state, 0, { pages: 2 });
  fenced(state, 2, { pages: 6 });
  t.same(show(recovery(state, { type: 'pages', data: null, lost: false })), ['again']);
  stepTakeover(state, { type: 'tick', now: 1050 as Monotonic });
  const late = { type: 'fence-answer', round: 1, index: 0, now: NOW } as const;
  for (const replica of [0, 1]) {
    const said = reply(A, replica, { pages: 2 }, true);
    t.same(show(stepTakeover(state, { ...late, replica, reply: said })), []);
  }
  t.equal(state.phase.type, 'fencing', 'they may have been given before a lease was renewed');
  fenced(state, 0, { pages: 2 });
  t.same(show(fenced(state, 1, { pages: 2 })), ['read 2 of 01']);
  const event = { type: 'pages', data: written(A, 1).bytes, lost: false } as const;
  const old = { type: 'recovery', round: 1, index: 0, event, now: NOW } as const;
  t.same(show(stepTakeover(state, old)), [], 'nor pages that were read for it');
  t.same(show(recovery(state, event)), ['recovered 2']);
  t.end();
});

t.test('what a disk had that is another one now commits nothing', (t) => {
  const { stream } = written(A, 2);
  const [first, second, third] = stream.followers;
  for (const follower of [first, second]) {
    t.ok(noteDurable(stream, present(follower, 'a follower'), stream.nextOffset));
  }
  present(first, 'a follower').gone = true;
  t.same(commit(stream, 2), []);
  t.ok(noteDurable(stream, present(third, 'a follower'), stream.nextOffset));
  t.equal(commit(stream, 2).length, 3);
  t.end();
});

t.test('a segment that ends at another LSN than its successor says is INCONSISTENT', (t) => {
  const { bytes } = written(A, 5);
  const successor = newStream(VOLUME, B, lsn(7));
  addHeader(successor, header(A, 6), NOW);
  const firstBatch = Buffer.concat(successor.batches[0]?.encoded.parts ?? []);
  const state = taker([A, B]);
  stepTakeover(state, { type: 'start', now: NOW });
  for (const replica of [0, 2]) fenced(state, replica, { pages: 6 });
  const effects = [0, 1].flatMap((replica) => {
    const body = { type: 'fence', suspectFrom: null, firstBatch, sealed: false } as const;
    const answer = { ...reply(B, replica, { pages: 1 }, true), body };
    const { round } = state;
    const event = { type: 'fence-answer', round, index: 1, replica, now: NOW } as const;
    return stepTakeover(state, { ...event, reply: answer });
  });
  t.same(show(effects), ['read 6 of 02']);
  t.same(show(recovery(state, { type: 'pages', data: bytes, lost: false })), ['halt INCONSISTENT']);
  t.end();
});

t.test('a replica that was fenced by a newer owner while it was completed ends it all', (t) => {
  const { bytes } = written(A, 5);
  const state = taker([A]);
  stepTakeover(state, { type: 'start', now: NOW });
  fenced(state, 0, { pages: 2 });
  fenced(state, 2, { pages: 6 });
  recovery(state, { type: 'pages', data: bytes, lost: false });
  const newer = reply(A, 0, { pages: 6, maxEpoch: 3 }, false);
  t.same(show(recovery(state, { type: 'recover-answer', replica: 0, reply: newer })), ['doubt']);
  t.end();
});

t.test('with a large ack quorum one answer decides and three must hold', (t) => {
  const { bytes } = written(A, 2);
  const state = taker([A], 3);
  stepTakeover(state, { type: 'start', now: NOW });
  t.same(show(fenced(state, 0, { pages: 3 })), [], 'R is one, but three must hold it');
  fenced(state, 1, { pages: 1 });
  t.same(show(fenced(state, 2, { pages: 3, suspectFrom: 2 })), ['read 3 of 0']);
  const sent = recovery(state, { type: 'pages', data: bytes, lost: false });
  t.same(show(sent), ['recover 1 1+2', 'recover 2 2+1'], 'the suspect one from its good prefix');
  const answer = (replica: number): TakeoverEffect[] =>
    recovery(state, {
      type: 'recover-answer',
      replica,
      reply: reply(A, replica, { pages: 3 }, false),
    });
  t.same(show(answer(1)), []);
  t.same(show(answer(2)), ['recovered 3']);
  t.end();
});

t.test('a log that ends inside of a batch halts', (t) => {
  const { bytes } = written(A, 5);
  const state = taker([A]);
  const large = newStream(VOLUME, A, lsn(0));
  const { previous: _, ...facts } = header(A, 0);
  addHeader(large, { ...facts, previous: null }, NOW);
  const entry = { record: Buffer.from('r0'), pages: [Buffer.alloc(4 * P)] };
  addBatch(large, [{ entry, lsn: lsn(0), bytes: 10, done: () => {} }], NOW);
  const head = Buffer.alloc(P);
  head.set(large.batches[1]?.encoded.parts[0] as Uint8Array);
  stepTakeover(state, { type: 'start', now: NOW });
  fenced(state, 0, { pages: 3 });
  fenced(state, 1, { pages: 3 });
  const data = Buffer.concat([bytes.subarray(0, P), head, Buffer.alloc(P)]);
  t.same(show(recovery(state, { type: 'pages', data, lost: false })), ['halt INCONSISTENT']);
  t.end();
});

t.test('answers are matched by incarnation', (t) => {
  const replica = present(A.replicas[0], 'a replica');
  t.equal(answersFor(replica, reply(A, 0, {}, false)), true);
  t.equal(answersFor(replica, reply(A, 0, { wrong: true }, false)), false);
  t.end();
});

t.test('silent replicas are waited for, unless what only they have was given up', (t) => {
  const { bytes } = written(A, 5);
  const patient = taker([A]);
  stepTakeover(patient, { type: 'start', now: NOW });
  fenced(patient, 1, { pages: 6 });
  stepTakeover(patient, { type: 'tick', now: 1e6 as Monotonic });
  t.equal(patient.phase.type, 'fencing', 'for ever');
  const state = taker([A], 2, { afterMs: 5_000, said: said(6) });
  stepTakeover(state, { type: 'start', now: NOW });
  t.same(show(fenced(state, 1, { pages: 6 })), [], 'the others have their time');
  const late = NOW + 5_000;
  t.same(show(stepTakeover(state, { type: 'tick', now: (late - 1) as Monotonic })).slice(2), []);
  t.same(show(stepTakeover(state, { type: 'tick', now: late as Monotonic })), ['read 6 of 1']);
  t.same(show(recovery(state, { type: 'pages', data: bytes, lost: false })), ['recovered 6']);
  t.end();
});

t.test('with enough answers nothing is given up, and nobody waits', (t) => {
  const state = taker([A], 2, { afterMs: 5_000, said: said(6) });
  stepTakeover(state, { type: 'start', now: NOW });
  fenced(state, 0, { pages: 2 });
  t.same(show(fenced(state, 2, { pages: 6 })), ['read 6 of 2']);
  t.end();
});

t.test('what was said to stay is waited for, and asked for', (t) => {
  const state = taker([A], 2, { afterMs: 5_000, said: said(6) });
  stepTakeover(state, { type: 'start', now: NOW });
  for (const replica of [0, 1, 2]) fenced(state, replica, null);
  fenced(state, 0, { pages: 5 });
  const late = (NOW + 5_000) as Monotonic;
  t.same(show(stepTakeover(state, { type: 'tick', now: late })), ['fence 1', 'fence 2']);
  t.equal(takeoverDeadline(state), Number.POSITIVE_INFINITY, 'until they answer');
  t.same(show(fenced(state, 1, null)), []);
  t.ok(Number.isFinite(takeoverDeadline(state)), 'and again');
  t.same(show(fenced(state, 2, { pages: 6 })), ['read 6 of 2'], 'at once, when it is there');
  t.end();
});

t.test('when nothing was said to stay and nobody answers, all of the segment is given up', (t) => {
  const state = taker([A], 2, { afterMs: 5_000, said: said(0) });
  stepTakeover(state, { type: 'start', now: NOW });
  t.same(show(stepTakeover(state, { type: 'tick', now: (NOW + 5_000) as Monotonic })), [
    'recovered 0',
  ]);
  t.end();
});
