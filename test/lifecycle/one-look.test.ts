/** Looks that are shared: never one that began before it was asked for. */
import { test } from 'tap';
import { OneLook } from '../../src/lifecycle/one-look.js';

test('who asks while somebody looks has the next look, with all others who do', async (t) => {
  const ends: ((error?: Error) => void)[] = [];
  const looks = new OneLook(
    () =>
      new Promise<number>((resolve, reject) => {
        const at = ends.length;
        ends.push((error) => (error === undefined ? resolve(at) : reject(error)));
      }),
  );
  const first = looks.run();
  const later = [looks.run(), looks.run(), looks.run()];
  t.equal(ends.length, 1);
  ends[0]?.(new Error('it failed'));
  await t.rejects(first, /it failed/);
  await t.resolves(Promise.resolve());
  t.equal(ends.length, 2, 'one for all of them, also after one that failed');
  const last = looks.run();
  ends[1]?.();
  t.same(await Promise.all(later), [1, 1, 1]);
  t.equal(ends.length, 3);
  ends[2]?.();
  t.equal(await last, 2);
  const alone = looks.run();
  t.equal(ends.length, 4, 'at once when nobody looks');
  ends[3]?.();
  t.equal(await alone, 3);
});
