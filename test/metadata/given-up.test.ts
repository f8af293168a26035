/** The note of what was given up: written, read, removed, and read as older programs wrote it. */
import { test } from 'tap';
import { type GivenUp, readGivenUp, writeGivenUp } from '../../src/metadata/given-up.js';
import { givenUpKey } from '../../src/metadata/keys.js';
import { segmentId, VOLUME } from './samples.js';
import { SimStores } from './sim-store.js';

const AT = '2026-01-01T00:00:00.000Z';
const NOTE: GivenUp = {
  at: AT,
  segments: [{ segment: segmentId('a'), pages: [{ page: 3, count: 2 }] }],
  losses: ['a page'],
  end: ['what follows'],
};

test('a note is replaced, and goes', async (t) => {
  const world = new SimStores();
  const { store } = world.connect();
  t.equal(await world.wait(readGivenUp(store, VOLUME)), null);
  for (const note of [NOTE, { ...NOTE, segments: [] }, null]) {
    await world.wait(writeGivenUp(store, VOLUME, note));
    t.same(await world.wait(readGivenUp(store, VOLUME)), note);
  }
});

test('notes of before, which give up whole segments, and of later', async (t) => {
  const world = new SimStores();
  const { store } = world.connect();
  const stored = async (value: object): Promise<GivenUp | null> => {
    const put = { type: 'put', key: givenUpKey(VOLUME), value: JSON.stringify(value) } as const;
    world.server.transact([], [put]);
    return await world.wait(readGivenUp(store, VOLUME));
  };
  const former = { schema: 1, at: AT, segments: [segmentId('a')], losses: ['a page'] };
  const pages = [{ page: 0, count: Number.MAX_SAFE_INTEGER }];
  const segments = [{ segment: segmentId('a'), pages }];
  t.same(await stored(former), { at: AT, segments, losses: ['a page'], end: [] });
  await t.rejects(stored({ ...former, schema: 3 }), { code: 'VERSION' });
  await t.rejects(stored({ ...former, schema: 2 }), { code: 'MALFORMED' });
});
