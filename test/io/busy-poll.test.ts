/** When the loop of a daemon waits awake, and when it does not, over a clock of the test's. */
import fc from 'fast-check';
import { test } from 'tap';
import {
  BusyPoll,
  MOST_LOOKS,
  SOON_MS,
  SOON_WHEN_BUSY,
  WRONG_COSTS,
} from '../../src/io/node/busy-poll.js';

const LIMIT_MS = 0.1;
const SHORT_MS = 0.02;
const STEP_MS = SHORT_MS / 2;
/** Longer than a look, and soon for who has to wake up first. */
const WAKING_MS = SOON_MS / 2;

class Loop {
  now = 0;
  /** Looks that ended with nothing found. */
  inVain = 0;
  #next: (() => void) | null = null;
  readonly poll = new BusyPoll(
    LIMIT_MS,
    () => this.now,
    (run) => {
      if (this.#next !== null) throw new Error('one turn at a time is asked for');
      this.#next = run;
    },
  );

  /** Whether it goes on without sleeping. */
  get awake(): boolean {
    return this.#next !== null;
  }

  /** Turns without anything coming for so long. */
  quiet(ms: number): void {
    const end = this.now + ms;
    for (; this.now < end && this.awake; this.now += STEP_MS) this.#look();
    this.now = Math.max(this.now, end);
    this.#look();
  }

  #look(): void {
    const wasAwake = this.awake;
    this.turn();
    if (wasAwake && !this.awake) this.inVain++;
  }

  turn(): void {
    const next = this.#next;
    this.#next = null;
    next?.();
  }

  requests(count: number, gapMs: number): void {
    for (let i = 0; i < count; i++) {
      this.quiet(gapMs);
      this.poll.arrived();
      this.poll.settled();
    }
  }
}

test('it stays awake once enough requests have come one soon after the other', async (t) => {
  const loop = new Loop();
  loop.requests(WRONG_COSTS, SHORT_MS);
  t.notOk(loop.awake, 'the first of them came after nothing');
  loop.requests(1, SHORT_MS);
  t.ok(loop.awake);
  loop.requests(1000, SHORT_MS);
  t.ok(loop.awake);
});

test('it tries where waking up takes longer than a look', async (t) => {
  const loop = new Loop();
  loop.requests(WRONG_COSTS + 1, WAKING_MS);
  t.ok(loop.awake);
  loop.requests(1000, SHORT_MS);
  t.equal(loop.inVain, 0, 'and without waking up they come at once');
});

test('it sleeps when nothing has come for the limit, and has to earn the next look', async (t) => {
  const loop = new Loop();
  loop.requests(WRONG_COSTS + 1, SHORT_MS);
  loop.quiet(LIMIT_MS / 2);
  t.ok(loop.awake, 'not yet');
  loop.quiet(LIMIT_MS);
  t.notOk(loop.awake);
  loop.requests(WRONG_COSTS, SHORT_MS);
  t.notOk(loop.awake, 'the first of them was late');
  loop.requests(1, SHORT_MS);
  t.ok(loop.awake);
});

test('what came soon for long pays for a few looks in vain', async (t) => {
  const loop = new Loop();
  loop.requests(1000, SHORT_MS);
  for (let i = 0; i < MOST_LOOKS; i++) {
    t.ok(loop.awake, `before pause ${i}`);
    loop.requests(1, WAKING_MS);
  }
  t.notOk(loop.awake, 'all are spent');
});

test('it never stays awake for requests that come now and then', async (t) => {
  const loop = new Loop();
  for (let i = 0; i < 100; i++) {
    loop.requests(WRONG_COSTS - 2, SHORT_MS);
    loop.requests(1, 2 * SOON_MS);
    t.notOk(loop.awake);
  }
});

test('however requests come, so many look in vain at most', async (t) => {
  const gap = fc.constantFrom(SHORT_MS, SHORT_MS, SHORT_MS, WAKING_MS, 2 * SOON_MS);
  const gaps = fc.array(gap, { minLength: 100, maxLength: 400 });
  let looks = 0;
  fc.assert(
    fc.property(gaps, (all) => {
      const loop = new Loop();
      for (const ms of all) loop.requests(1, ms);
      looks += loop.inVain;
      return loop.inVain * WRONG_COSTS <= all.length;
    }),
  );
  t.ok(looks > 0, 'some did');
});

test('it sleeps while a request is under way', async (t) => {
  const loop = new Loop();
  loop.requests(2 * WRONG_COSTS, SHORT_MS);
  loop.poll.arrived();
  loop.turn();
  t.notOk(loop.awake);
  loop.quiet(50 * SOON_MS);
  loop.poll.settled();
  t.ok(loop.awake, 'and is awake again after it, without having lost anything');
});

test('it leaves the processor to others for longer once they had to take it', async (t) => {
  const loop = new Loop();
  loop.requests(1000, SHORT_MS);
  loop.now += 3;
  loop.turn();
  t.notOk(loop.awake);
  loop.requests(SOON_WHEN_BUSY, SHORT_MS);
  t.notOk(loop.awake, 'the first of them came late');
  loop.requests(1, SHORT_MS);
  t.ok(loop.awake);
});
