/** SEAL, COPY and DELETE in the background: what an answer means for the job. */
import t from 'tap';
import type { Reply, StatusName } from '../../src/block/wire/messages.js';
import { present } from '../../src/core/assert.js';
import type { Incarnation, NodeId, SegmentId } from '../../src/core/ids.js';
import { UPKEEP_MAX_IN_FLIGHT } from '../../src/core/limits.js';
import { epoch, lsn, type Monotonic, offset, revision } from '../../src/core/units.js';
import type { SealedSegment } from '../../src/metadata/model.js';
import {
  forgetDeleted,
  type Job,
  newUpkeep,
  stepUpkeep,
  type UpkeepEffect,
  type UpkeepState,
  upkeepDeadline,
} from '../../src/replication/upkeep.js';

const hex = (n: number): string => n.toString(16).padStart(32, '0');
const END = 8192;

function sealed(n: number): SealedSegment {
  return {
    segment: hex(n) as SegmentId,
    group: 0,
    createEpoch: epoch(1),
    replicas: [0, 1, 2].map((i) => ({
      node: hex(0x10 + i) as NodeId,
      incarnation: hex(0x20 + i) as Incarnation,
    })),
    end: offset(END),
    endLsn: lsn(3),
    crc: 7,
  };
}

function at(ms: number): Monotonic {
  return ms as Monotonic;
}

function jobs(effects: readonly UpkeepEffect[]): Job[] {
  return effects.flatMap((effect) => (effect.type === 'send' ? [effect.job] : []));
}

function answer(
  state: UpkeepState,
  job: Job,
  status: StatusName | null,
  length = 0,
  gone = false,
): UpkeepEffect[] {
  const { incarnation } = present(job.segment.replicas[job.replica], 'a replica');
  const reply: Reply | null =
    status === null
      ? null
      : {
          status,
          incarnation,
          durableLength: offset(length),
          maxEpoch: epoch(1),
          body: null,
        };
  return stepUpkeep(state, { type: 'answer', job, reply, gone, now: at(1000) });
}

function isWanted(state: UpkeepState, job: Job): boolean {
  return state.jobs.get(job.segment.segment)?.has(job) ?? false;
}

t.test('a SEAL that finds a short replica becomes a COPY', (t) => {
  const table: [StatusName | null, number, string][] = [
    ['OK', END, 'done'],
    ['OK', END - 4096, 'copy'],
    ['GAP', 4096, 'copy'],
    ['UNKNOWN', 0, 'copy'],
    ['SUSPECT', 0, 'copy'],
    ['DISK', 0, 'copy'],
    ['DELETED', 0, 'done'],
    ['UNCONFIRMED', 0, 'seal'],
    ['BUSY', 0, 'seal'],
    [null, 0, 'seal'],
  ];
  for (const [status, length, expected] of table) {
    const state = newUpkeep(50);
    const sent = stepUpkeep(state, { type: 'sealed', sealed: sealed(1), now: at(1000) });
    const [job] = jobs(sent);
    if (job === undefined) throw new Error('no job');
    answer(state, job, status, length);
    t.equal(isWanted(state, job) ? job.kind : 'done', expected, `${status} ${length}`);
  }
  t.end();
});

t.test('tried again later and later, a few at a time', (t) => {
  const state = newUpkeep(50);
  let inFlight: Job[] = [];
  for (let n = 1; n <= 5; n++) {
    inFlight.push(...jobs(stepUpkeep(state, { type: 'sealed', sealed: sealed(n), now: at(1000) })));
  }
  t.equal(inFlight.length, UPKEEP_MAX_IN_FLIGHT);
  t.equal(upkeepDeadline(state), Number.POSITIVE_INFINITY, 'nothing more may be sent');
  inFlight = inFlight.slice(0, 1);
  const next = answer(state, inFlight[0] as Job, null);
  t.equal(jobs(next).length, 1, 'another one takes its turn');
  t.equal(inFlight[0]?.dueAt, 1050);
  t.end();
});

t.test('deleted when every replica has answered or is gone', (t) => {
  const state = newUpkeep(50);
  const segment = sealed(1);
  const event = { type: 'delete', segment, revision: revision(9), now: at(1000) } as const;
  const sent = jobs(stepUpkeep(state, event));
  t.same(jobs(stepUpkeep(state, event)), [], 'once');
  t.same(answer(state, sent[0] as Job, 'OK'), []);
  t.same(answer(state, sent[1] as Job, 'DELETED'), []);
  t.same(answer(state, sent[2] as Job, 'UNCONFIRMED'), [], 'not yet');
  const again = jobs(stepUpkeep(state, { type: 'tick', now: at(2000) }));
  t.equal(again.length, 1);
  const gone = answer(state, again[0] as Job, null, 0, true);
  t.match(gone, [{ type: 'deleted', segment: segment.segment }]);
  forgetDeleted(state, segment.segment);
  t.equal(state.deleting.size, 0);
  t.end();
});

t.test('a segment that is to be deleted is not sealed or copied any more', (t) => {
  const state = newUpkeep(50);
  const segment = sealed(1);
  const [job] = jobs(stepUpkeep(state, { type: 'sealed', sealed: segment, now: at(1000) }));
  stepUpkeep(state, { type: 'delete', segment, revision: revision(9), now: at(1000) });
  answer(state, job as Job, 'GAP');
  t.ok([...state.jobs.values()].every((of) => [...of].every((one) => one.kind === 'delete')));
  t.end();
});
