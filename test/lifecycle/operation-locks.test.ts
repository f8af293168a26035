/** One operation at a time on a volume, and none for ever. */
import { test } from 'tap';
import { OperationLocks } from '../../src/lifecycle/operation-locks.js';
import { after, ticking } from './ticking.js';

test('operations on one key follow one another, on others they do not wait', async (t) => {
  const { world, clock } = ticking();
  const locks = new OperationLocks(clock, { waitMs: 1_000, limitMs: 60_000 });
  const said: string[] = [];
  const slow = (name: string, ms: number) => async (): Promise<string> => {
    said.push(`${name} begins`);
    await after(clock, ms);
    said.push(`${name} ends`);
    return name;
  };
  const all = Promise.all([
    locks.run('a', 'a', slow('first', 500)),
    locks.run('a', 'a', slow('second', 10)),
    locks.run('b', 'b', slow('other', 10)),
  ]);
  t.same(await world.wait(all), ['first', 'second', 'other']);
  t.same(said, [
    ...['first begins', 'other begins', 'other ends', 'first ends'],
    ...['second begins', 'second ends'],
  ]);
});

test('who waits too long is told to try again, and is not in the way', async (t) => {
  const { world, clock } = ticking();
  const locks = new OperationLocks(clock, { waitMs: 100, limitMs: 60_000 });
  const first = locks.run('a', 'volume "a"', () => {
    return after(clock, 1_000).then(() => 1);
  });
  const second = locks.run('a', 'volume "a"', () => Promise.resolve(2));
  t.match(await world.wait(second.catch((thrown) => thrown)), {
    ...{ code: 'BUSY', retryable: true },
    message: 'another operation on volume "a" is under way',
  });
  t.equal(await world.codeOf(locks.run('a', 'a', () => Promise.resolve(3))), 'BUSY');
  t.equal(await world.wait(first), 1);
  t.equal(await world.wait(locks.run('a', 'a', () => Promise.resolve(4))), 4);
});

test('a lock is let go when its time is over, though its holder hangs', async (t) => {
  const { world, clock } = ticking();
  const locks = new OperationLocks(clock, { waitMs: 0, limitMs: 5_000 });
  let aborted = false;
  const hangs = locks.run('a', 'a', (signal) => {
    signal.addEventListener('abort', () => {
      aborted = true;
    });
    return new Promise<void>(() => {});
  });
  t.match(await world.wait(hangs.catch((thrown) => thrown)), { code: 'TIMEOUT', retryable: true });
  t.ok(aborted);
  t.equal(await world.wait(locks.run('a', 'a', () => Promise.resolve('next'))), 'next');
});

test('a failure lets go as well', async (t) => {
  const { world, clock } = ticking();
  const locks = new OperationLocks(clock, { waitMs: 0, limitMs: 5_000 });
  await t.rejects(world.wait(locks.run('a', 'a', () => Promise.reject(new Error('no')))), /no/);
  t.equal(await world.wait(locks.run('a', 'a', () => Promise.resolve(1))), 1);
});
