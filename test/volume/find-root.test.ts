/** The newest checkpoint, found in a log alone, as a rebuild of lost metadata does. */
import { test } from 'tap';
import { present } from '../../src/core/assert.js';
import type { SegmentId } from '../../src/core/ids.js';
import { offset, PAGE_BYTES } from '../../src/core/units.js';
import type { OpenSegment } from '../../src/metadata/model.js';
import type { LogSpan } from '../../src/replication/log-scan.js';
import { SegmentReader } from '../../src/replication/reader.js';
import { findRoot, type RootSearch } from '../../src/volume/find-root.js';
import { SimProcess } from '../fixtures/sim-clock.js';
import { FakeRequests } from '../replication/owner-nodes.js';
import { type OwnerWorld, VOLUME } from '../replication/owner-world.js';
import { mountOwned, type OwnedVolume, volumeWorld } from './owned-volume.js';

/** A volume with some checkpoints in its log, the last of them newer than all else. */
async function checkpointed(rounds = 4): Promise<OwnedVolume> {
  const volume = await mountOwned(volumeWorld());
  const inode = volume.file('database');
  for (let round = 1; round <= rounds; round++) {
    await volume.fill(inode, 40, round);
    await volume.checkpoint();
    await volume.world.pass(500);
  }
  return volume;
}

type Placed = Pick<OpenSegment, 'segment' | 'createEpoch' | 'replicas'>;

function spanOf(placed: Placed, end: number, committed = end): LogSpan {
  const { segment, createEpoch, replicas } = placed;
  const range = { from: offset(0), end: offset(end), prevCrc: 0, endCrc: null };
  const place = { volume: VOLUME, segment, createEpoch, replicas };
  return { ...place, ...range, committed: offset(committed) };
}

/** What the metadata said of the log, and how long the copies of the open segments are. */
function spansOf(world: OwnerWorld): LogSpan[] {
  const { sealed, open } = world.record;
  return [
    ...sealed.map((one) => spanOf(one, one.end)),
    ...open.map((one) => spanOf(one, world.node(0).length(one.segment))),
  ].filter(({ end }) => end > 0);
}

async function search(world: OwnerWorld, spans: readonly LogSpan[]): Promise<RootSearch> {
  const process = new SimProcess(world.scheduler, 'searcher');
  const requests = new FakeRequests(world.nodes, world.scheduler, (call) => process.run(call));
  const parts = { clock: process.clock, requests, directory: world.directory() };
  const reader = new SegmentReader(parts);
  let found: RootSearch | null = null;
  void findRoot(reader, spans).then((result) => {
    found = result;
  });
  await world.until(() => found !== null);
  return present<RootSearch>(found, 'the search has ended');
}

/** Where the record says that the newest checkpoint is. */
function rootOf(world: OwnerWorld) {
  const { segment, offset: at, lsn } = present(world.record.root, 'a checkpoint was written');
  return { segment, page: at / PAGE_BYTES, lsn };
}

test('it is the one that the metadata pointed to, and names what it needs', async (t) => {
  const { world } = await checkpointed();
  const { found, unreadable } = await search(world, spansOf(world));
  t.same(found?.root, rootOf(world));
  t.same(unreadable, []);
  const here = new Set<SegmentId>(spansOf(world).map(({ segment }) => segment));
  t.ok((found?.images ?? []).every((segment) => here.has(segment)));
  t.ok(found?.images.includes(rootOf(world).segment));
});

test('a checkpoint that may not be committed does not count', async (t) => {
  const { world } = await checkpointed();
  const root = rootOf(world);
  const spans = spansOf(world);
  const last = spans.findIndex(({ segment }) => segment === root.segment);
  const before = spans.slice(0, last);
  const at = present(spans[last], 'its segment');
  const end = (root.page + 1) * PAGE_BYTES;
  const cut = spanOf(at, end);
  t.same((await search(world, [...before, cut])).found?.root, root, 'all of it is committed');
  const unsure = spanOf(at, end, 0);
  const older = await search(world, [...before, unsure]);
  t.not(older.found?.root.lsn, root.lsn, 'nothing says that a quorum has it');
  t.ok((older.found?.root.lsn ?? 0) < root.lsn);
});

test('a manifest that does not verify is told of, and an older one found', async (t) => {
  const { world } = await checkpointed();
  const root = rootOf(world);
  const first = await search(world, spansOf(world));
  for (const node of world.nodes) {
    const { bytes } = present(node.segments.get(root.segment), 'a copy');
    // The top page's checksum of the manifest.
    const at = root.page * PAGE_BYTES + 10;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
  }
  const { found, unreadable } = await search(world, spansOf(world));
  t.match(unreadable[0], /the checkpoint at page \d+ of segment .* its manifest does not verify/);
  t.ok((found?.root.lsn ?? 0) < (first.found?.root.lsn ?? 0));
});

test('a log without a checkpoint, and one whose newest part cannot be read', async (t) => {
  const volume = await mountOwned(volumeWorld());
  await volume.fill(volume.file('database'), 40, 1);
  t.same(await search(volume.world, spansOf(volume.world)), { found: null, unreadable: [] });
  const { world } = await checkpointed();
  const spans = spansOf(world);
  const newest = present(spans.at(-1), 'a segment');
  for (const node of world.nodes) {
    const copy = present(node.segments.get(newest.segment), 'a copy');
    copy.bytes.fill(0, PAGE_BYTES);
  }
  const { unreadable } = await search(world, spans);
  t.equal(unreadable.length, 1);
  t.match(unreadable[0], newest.segment);
});
