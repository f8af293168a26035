/**
 * Crashes a scripted workload after every event, loses power (all, nothing, or any sectors of what
 * was not flushed), reopens, and checks: what was acknowledged is there, fences hold, no byte is
 * invented.
 */
import { type Test, test } from 'tap';
import type { Reply, Request } from '../../src/block/wire/messages.js';
import type { SegmentId } from '../../src/core/ids.js';
import { KIB, MIB, PAGE_BYTES } from '../../src/core/units.js';
import { LogOf, Rig, seg } from './store-rig.js';

/** What the replies have promised so far. */
interface Promised {
  readonly length: Map<SegmentId, number>;
  readonly epoch: Map<SegmentId, number>;
  readonly sealed: Map<SegmentId, number>;
  readonly deleted: Set<SegmentId>;
}

function script(rig: Rig): { requests: Request[]; logs: Map<SegmentId, LogOf> } {
  const logs = new Map([1, 2, 3, 4].map((n) => [seg(n), new LogOf(seg(n))]));
  const log = (n: number): LogOf => logs.get(seg(n)) as LogOf;
  const { incarnation } = rig;
  const requests: Request[] = [];
  const on = (n: number) => ({
    incarnation,
    segment: seg(n),
    volume: log(n).batches[0]?.header.volume,
  });
  const add = (request: object): void => {
    requests.push(request as Request);
  };
  for (const n of [1, 2, 3]) {
    add({ type: 'create', ...on(n), epoch: 1 });
    requests.push(rig.appendRequest(log(n).batches[0] as LogOf['batches'][number]));
  }
  for (const [n, pages] of [
    [1, 1],
    [2, 30],
    [1, 2],
    [2, 1],
    [1, 20],
    [1, 1],
    [2, 3],
    [3, 1],
  ] as const) {
    requests.push(rig.appendRequest(log(n).add(pages)));
  }
  add({ ...rig.fenceRequest(seg(1), 2) });
  add({ ...rig.fenceRequest(seg(4), 3) });
  log(4).add(2);
  log(4).add(25);
  const { end, crc } = log(4);
  add({ type: 'recover', ...on(4), epoch: 3, createEpoch: 1, offset: 0, bytes: log(4).bytes() });
  add({ type: 'seal', ...on(4), end, crc });
  const cut = log(2).ends().at(-2);
  add({ type: 'seal', ...on(2), ...cut });
  add({ type: 'delete', ...on(3), revision: 1 });
  for (let i = 0; i < 6; i++) {
    log(1).add(i);
  }
  const rest = log(1).bytes(log(1).ends()[3]?.end);
  const from = log(1).ends()[3]?.end;
  add({ type: 'recover', ...on(1), epoch: 2, createEpoch: 1, offset: from, bytes: rest });
  return { requests, logs };
}

function note(promised: Promised, request: Request, reply: Reply): void {
  if (reply.status !== 'OK' || !('segment' in request)) return;
  const { segment } = request;
  const raise = (map: Map<SegmentId, number>, value: number): void => {
    map.set(segment, Math.max(map.get(segment) ?? 0, value));
  };
  if (request.type === 'delete') promised.deleted.add(segment);
  else if (request.type === 'seal') promised.sealed.set(segment, request.end);
  else raise(promised.length, reply.durableLength);
  if (request.type === 'fence') raise(promised.epoch, request.epoch);
}

/** Sends up to `inFlight` requests at once; stops after `steps` events. */
function run(
  rig: Rig,
  steps: number,
  inFlight: number,
): { promised: Promised; done: boolean; logs: Map<SegmentId, LogOf> } {
  const { requests, logs } = script(rig);
  const promised: Promised = {
    length: new Map(),
    epoch: new Map(),
    sealed: new Map(),
    deleted: new Set(),
  };
  let next = 0;
  let flying = 0;
  const pump = (): void => {
    while (flying < inFlight && next < requests.length) {
      const request = requests[next] as Request;
      next += 1;
      flying += 1;
      rig.store.handle(request, (reply) => {
        flying -= 1;
        note(promised, request, reply);
        rig.process.clock.soon(pump);
      });
    }
  };
  pump();
  for (let step = 0; step < steps; step++) {
    if (flying === 0 && next === requests.length) return { promised, done: true, logs };
    rig.scheduler.step();
  }
  return { promised, done: false, logs };
}

function check(rig: Rig, promised: Promised, logs: Map<SegmentId, LogOf>): string[] {
  const wrong: string[] = [];
  for (const [segment, log] of logs) {
    const found = rig.look(segment);
    const say = (what: string): void => {
      wrong.push(`${segment.slice(-2)}: ${what}: ${JSON.stringify(found)}`);
    };
    if (promised.deleted.has(segment)) {
      if (!found?.deleted) say('deleted segment came back');
      continue;
    }
    if (found?.deleted) continue;
    const sealed = promised.sealed.get(segment);
    const least = found?.sealedEnd ?? promised.length.get(segment) ?? 0;
    const length = found?.durableLength ?? 0;
    if (sealed !== undefined && found?.sealedEnd !== sealed) say(`not sealed at ${sealed}`);
    if (length < least) say(`lost bytes below ${least}`);
    if ((found?.maxEpoch ?? 0) < (promised.epoch.get(segment) ?? 0)) say('lost a fence');
    if (found?.suspectFrom !== null && found !== undefined) say('suspect after a mere crash');
    if (!log.ends().some(({ end }) => end === length)) say('no batch ends there');
    for (let page = 0; page < length / PAGE_BYTES; page += 16) {
      const count = Math.min(16, length / PAGE_BYTES - page);
      const reply = rig.read(segment, page, count);
      const want = log.bytes(page * PAGE_BYTES, (page + count) * PAGE_BYTES);
      if (reply.body?.type !== 'read') say(`read ${page}: ${reply.status}`);
      else if (!want.equals(reply.body.data as Buffer)) say(`invented bytes at page ${page}`);
    }
  }
  return wrong;
}

interface Course {
  readonly inFlight: number;
  /** Lose power with the program. */
  readonly power: boolean;
  readonly seed: string;
  /** What the journal's half has room for when the script begins; unset: all of it. */
  readonly roomBytes?: number;
}

function crashEverywhere(t: Test, course: Course): void {
  const { inFlight, power, seed, roomBytes } = course;
  let crashes = 0;
  for (let steps = 0; ; steps++) {
    // Snapshots in the smallest slices: the script goes on between any two segments of one.
    const limits = { indexSlice: 1 };
    const rig = new Rig({ seed: `${seed}/${steps}`, limits }).format().open();
    if (roomBytes !== undefined) fillJournal(rig, roomBytes);
    const { promised, done, logs } = run(rig, steps, inFlight);
    rig.crash(power).open();
    const wrong = check(rig, promised, logs);
    // Once more: what recovery has reported must survive a power loss right after it.
    rig.crash().open();
    wrong.push(...check(rig, promised, logs));
    if (wrong.length > 0) {
      t.fail(`seed ${seed}, crash after ${steps} events`, { wrong: wrong.slice(0, 5) });
      return;
    }
    crashes += 1;
    if (done) break;
  }
  t.ok(crashes > 30, `${crashes} crashes`);
}

/** Appends to a segment of its own until the journal's half has only this much room. */
function fillJournal(rig: Rig, roomBytes: number): void {
  const log = new LogOf(seg(99));
  rig.create(seg(99));
  rig.append(log.first);
  const { journalBytes } = rig.store.stats();
  while (rig.store.stats().journalUsedBytes < journalBytes / 2 - roomBytes) {
    rig.append(log.add(rig.store.stats().journalUsedBytes < journalBytes / 2 - MIB ? 14 : 1));
  }
}

test('one request after the other, power loss after every event', async (t) => {
  for (let seed = 0; seed < 4; seed++)
    crashEverywhere(t, { inFlight: 1, power: true, seed: `one ${seed}` });
});

test('many requests at once, power loss after every event', async (t) => {
  for (let seed = 0; seed < 8; seed++)
    crashEverywhere(t, { inFlight: 32, power: true, seed: `many ${seed}` });
});

test('the program is killed after every event, and the page cache survives', async (t) => {
  crashEverywhere(t, { inFlight: 8, power: false, seed: 'kill' });
});

test('a snapshot of the index is taken in slices while the script goes on', async (t) => {
  for (const [at, roomBytes] of [16, 60, 120, 200].entries()) {
    const seed = `slices ${roomBytes}`;
    crashEverywhere(t, { inFlight: 1 + at * 3, power: true, seed, roomBytes: roomBytes * KIB });
  }
});

test('recovery itself is cut short, again and again', async (t) => {
  for (let steps = 1; steps < 80; steps += 3) {
    const rig = new Rig({ seed: `recovery ${steps}` }).format().open();
    const { promised, logs } = run(rig, 60 + steps * 5, 16);
    rig.crash();
    for (let again = 0; again < 3; again++) {
      rig.store.open(() => {});
      for (let step = 0; step < steps * (again + 1); step++) rig.scheduler.step();
      rig.crash();
    }
    rig.open();
    t.same(check(rig, promised, logs), [], `cut after ${steps}`);
  }
});

test('laps of the journal are recycled between crashes', async (t) => {
  const rig = new Rig({ seed: 'laps' }).format().open();
  const log = new LogOf(seg(1));
  rig.create(seg(1));
  rig.append(log.batches[0] as LogOf['batches'][number]);
  let acknowledged = 0;
  for (let i = 0; i < 1_500; i++) {
    const reply = rig.append(log.add(5));
    if (reply.status !== 'OK') throw new Error(reply.status);
    acknowledged = reply.durableLength;
    if (i % 97 === 0) {
      for (let step = 0; step < i % 13; step++) rig.scheduler.step();
      rig.crash().open();
      t.match(rig.look(seg(1)), { durableLength: acknowledged, suspectFrom: null });
    }
  }
});

test('a half of the journal waits for the snapshot that replaces it', async (t) => {
  for (let cut = 400; cut < 2_400; cut += 90) {
    const rig = new Rig({ seed: `half ${cut}` }).format().open();
    const logs = Array.from({ length: 40 }, (_, n) => new LogOf(seg(n + 1)));
    const acknowledged = new Map<SegmentId, number>();
    const go = (log: LogOf, batch: LogOf['first']): void => {
      rig.store.handle(rig.appendRequest(batch), (reply) => {
        if (reply.status === 'OK') acknowledged.set(log.segment, reply.durableLength);
        rig.process.clock.soon(() => {
          if (reply.status === 'OK') go(log, log.add(12));
        });
      });
    };
    for (const log of logs) rig.create(log.segment);
    for (const log of logs) go(log, log.first);
    for (let step = 0; step < cut; step++) rig.scheduler.step();
    rig.crash().open();
    for (const log of logs) {
      const found = rig.look(log.segment);
      const least = acknowledged.get(log.segment) ?? 0;
      if (found === undefined || found.durableLength < least || found.suspectFrom !== null) {
        t.fail(`cut after ${cut}: ${least} acknowledged, found ${JSON.stringify(found)}`);
      }
    }
  }
});
