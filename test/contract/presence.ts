/** What presence does over every metadata store. */
import type { Test } from 'tap';
import type { OwnerId, VolumeId } from '../../src/core/ids.js';
import { epoch } from '../../src/core/units.js';
import type { Clock } from '../../src/io/clock.js';
import { silentLog } from '../../src/io/log.js';
import type { PresenceRecord } from '../../src/metadata/model.js';
import { findPresence, listPresences, Presence } from '../../src/metadata/presence.js';
import type { MetadataStore } from '../../src/metadata/store.js';
import { realClock, until } from '../metadata/real-parts.js';
import { id } from '../metadata/samples.js';
import type { StoreHarness } from './metadata-store.js';

export function presenceOf(volume: string, owner: string, at: number): PresenceRecord {
  return {
    schema: 1,
    volume: id<VolumeId>(volume),
    epoch: epoch(at),
    owner: id<OwnerId>(owner),
    host: 'machine-a',
    pid: 4711,
    mountPoint: '/srv/my data',
    since: '2026-01-01T00:00:00.000Z',
  };
}

/** A clock whose process can die: no callback comes any more. */
class MortalClock implements Clock {
  dead = false;
  readonly monotonic = realClock.monotonic;
  readonly wall = realClock.wall;
  readonly timeOfDay = realClock.timeOfDay;
  readonly soon = realClock.soon;
  readonly after: Clock['after'] = (ms, callback) =>
    realClock.after(ms, () => {
      if (!this.dead) callback();
    });
}

export async function presenceContract(t: Test, harness: StoreHarness): Promise<void> {
  const store = await harness.open();
  t.teardown(() => store.close());
  const begin = (record: PresenceRecord, clock: Clock = realClock, at: MetadataStore = store) => {
    const presence = new Presence({ store: at, clock, log: silentLog, record, ttlSeconds: 2 });
    presence.start();
    return presence;
  };
  const first = presenceOf('a', '1', 1);
  const second = presenceOf('a', '2', 2);
  t.equal(await findPresence(store, first.volume), null);

  const old = begin(first);
  await until('it is published', () => old.published);
  t.same(await findPresence(store, first.volume), first);

  const next = begin(second);
  await until('the newer epoch is published', () => next.published);
  t.same(await findPresence(store, first.volume), second, 'in the place of the older one');
  await until('the older one knows', () => !old.published);
  t.same(await findPresence(store, first.volume), second, 'which does not come back');
  await old.stop();
  t.same(await findPresence(store, first.volume), second, 'nor takes the newer one along');

  const clock = new MortalClock();
  const other = begin(presenceOf('b', '3', 5), clock);
  await until('the other volume is published', () => other.published);
  t.same(
    (await listPresences(store)).map(({ owner }) => owner),
    [second.owner, presenceOf('b', '3', 5).owner],
  );
  clock.dead = true;
  const isGone = async (): Promise<boolean> =>
    (await findPresence(store, presenceOf('b', '3', 5).volume)) === null;
  await until('the key of the dead one is gone', isGone);
  t.same(await findPresence(store, first.volume), second, 'the living one stays');
  await next.stop();
  t.equal(await findPresence(store, first.volume), null, 'an orderly end says so at once');
}
