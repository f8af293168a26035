/** Handing a mount over: all of it is committed, or the daemon goes on with it. */
import t, { type Test } from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import { settleSession } from '../../src/lifecycle/hand-over.js';
import { ticking } from './ticking.js';

/** A session and a history, of which a test says what comes when. */
class Mount {
  readonly did: string[] = [];
  requestsUnderWay = 0;
  isSettled = true;
  onCommit: (commits: number) => void = () => {};
  onEnd: () => void = () => {};
  #commits = 0;

  hold(held: boolean): void {
    this.did.push(held ? 'hold' : 'go on');
  }

  async settle(): Promise<void> {
    const { world, clock } = ticking();
    const settled = settleSession({
      session: this,
      clock,
      commit: async () => {
        this.did.push('commit');
        this.onCommit(++this.#commits);
      },
      isSettled: () => this.isSettled,
      end: () => {
        this.did.push('end');
        this.onEnd();
      },
    });
    await world.wait(settled);
  }
}

function mount(t: Test, change: Partial<Mount> = {}): Mount {
  t.setTimeout(30_000);
  return Object.assign(new Mount(), change);
}

t.test('what was answered last is committed, then it ends', async (t) => {
  const made = mount(t);
  await made.settle();
  t.same(made.did, ['hold', 'commit', 'commit', 'end']);
});

t.test(
  'a request that waited, and was done during the last commit, is committed too',
  async (t) => {
    const made = mount(t, { requestsUnderWay: 1 });
    made.onCommit = (commits) => {
      made.isSettled = commits > 3;
    };
    await made.settle();
    t.same(made.did, ['hold', 'commit', 'commit', 'commit', 'commit', 'end']);
  },
);

t.test('what nobody waits for holds nothing up', async (t) => {
  const made = mount(t, { isSettled: false });
  await made.settle();
  t.same(made.did, ['hold', 'commit', 'commit', 'end']);
});

t.test('whatever fails, the session goes on', async (t) => {
  const full = new HoldfastError('DISK_FULL', 'no room');
  const fail = (): void => {
    throw full;
  };
  const unnoted = mount(t, { onEnd: fail });
  await t.rejects(unnoted.settle(), full);
  t.same(unnoted.did, ['hold', 'commit', 'commit', 'end', 'go on']);
  const uncommitted = mount(t, { onCommit: fail });
  await t.rejects(uncommitted.settle(), full);
  t.same(uncommitted.did, ['hold', 'commit', 'go on']);
});
