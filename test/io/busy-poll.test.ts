/** When the loop of a daemon waits awake, and when it does not, over a clock of the test's. */
import { test } from 'tap';
import { BusyPoll, STREAK, STREAK_WHEN_BUSY } from '../../src/io/node/busy-poll.js';

const LIMIT_MS = 0.1;
const SHORT_MS = 0.02;

class Loop {
  now = 0;
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
    for (; this.now < end; this.now += SHORT_MS / 2) this.turn();
    this.turn();
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

test('it stays awake once a row of requests has come one soon after the other', async (t) => {
  const loop = new Loop();
  loop.requests(STREAK, SHORT_MS);
  t.notOk(loop.awake, 'the first of them came after nothing');
  loop.requests(1, SHORT_MS);
  t.ok(loop.awake);
  loop.requests(1000, SHORT_MS);
  t.ok(loop.awake);
});

test('it sleeps when nothing has come for the limit, and wants a new row then', async (t) => {
  const loop = new Loop();
  loop.requests(2 * STREAK, SHORT_MS);
  loop.quiet(LIMIT_MS / 2);
  t.ok(loop.awake, 'not yet');
  loop.quiet(LIMIT_MS);
  t.notOk(loop.awake);
  loop.requests(STREAK, SHORT_MS);
  t.notOk(loop.awake, 'a guess that was wrong is not repeated at once');
  loop.requests(1, SHORT_MS);
  t.ok(loop.awake);
});

test('it never stays awake for requests that come now and then', async (t) => {
  const loop = new Loop();
  for (let i = 0; i < 100; i++) {
    loop.requests(STREAK - 2, SHORT_MS);
    loop.requests(1, 2 * LIMIT_MS);
    t.notOk(loop.awake);
  }
});

test('it leaves the processor to others for longer once they had to take it', async (t) => {
  const loop = new Loop();
  loop.requests(2 * STREAK, SHORT_MS);
  loop.now += 3;
  loop.turn();
  t.notOk(loop.awake);
  loop.requests(STREAK_WHEN_BUSY, SHORT_MS);
  t.notOk(loop.awake, 'the first of them came late');
  loop.requests(1, SHORT_MS);
  t.ok(loop.awake);
});
