/** When a mount says that its users wait for nodes, and when its last commit was. */
import t from 'tap';
import { MountWatch } from '../../src/lifecycle/mount-watch.js';
import { after, ticking } from './ticking.js';

t.test('waiting is told after two seconds without anything granted', async (t) => {
  const { world, clock } = ticking();
  const owner: { awaited: number | null } = { awaited: null };
  const history = { isSettled: false, logged: { recordBytes: 0, bytes: 0 } };
  let isOver = false;
  const watch = new MountWatch(clock, owner, { history }, () => isOver);
  await world.wait(after(clock, 5_000));
  t.same(watch.status(), { lastCommit: null, waitingSince: null }, 'nobody waits');
  owner.awaited = 1;
  const began = clock.wall();
  await world.wait(after(clock, 1_900));
  t.equal(watch.status().waitingSince, null, 'not for long');
  await world.wait(after(clock, 1_000));
  const since = Date.parse(watch.status().waitingSince ?? '');
  t.ok(since >= began && since <= began + 500, `since ${since - began} ms after it began`);
  await world.wait(after(clock, 60_000));
  t.equal(Date.parse(watch.status().waitingSince ?? ''), since, 'for as long as nothing comes');
  owner.awaited = 2;
  t.equal(watch.status().waitingSince, null, 'something was granted');
  for (let i = 3; i < 20; i++) {
    owner.awaited = i;
    await world.wait(after(clock, 1_000));
    t.equal(watch.status().waitingSince, null, 'a volume that is busy does not wait');
  }
  isOver = true;
});

t.test('a commit is news when everything is durable that was not before', async (t) => {
  const { world, clock } = ticking();
  const history = { isSettled: true, logged: { recordBytes: 9, bytes: 4096 } };
  let isOver = false;
  const watch = new MountWatch(clock, { awaited: null }, { history }, () => isOver);
  const first = watch.status().lastCommit;
  await world.wait(after(clock, 2_000));
  t.equal(watch.status().lastCommit, first, 'nothing was logged since');
  history.logged.bytes += 4096;
  history.isSettled = false;
  await world.wait(after(clock, 2_000));
  t.equal(watch.status().lastCommit, first, 'it is under way');
  history.isSettled = true;
  await world.wait(after(clock, 2_000));
  t.ok((watch.status().lastCommit ?? '') > (first ?? ''), 'it is durable');
  isOver = true;
});
