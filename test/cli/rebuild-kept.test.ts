/** What a rebuild leaves in the store: volumes that the nodes do not know of are not dropped. */
import { test } from 'tap';
import type { FoundNode } from '../../src/cli/inventory.js';
import { besideRebuilt, keptOf } from '../../src/cli/rebuild-kept.js';
import type { VolumeId } from '../../src/core/ids.js';
import { epoch, offset } from '../../src/core/units.js';
import { initCluster } from '../../src/metadata/cluster.js';
import { volumeKey } from '../../src/metadata/keys.js';
import type { RebuildInventory } from '../../src/metadata/rebuild-types.js';
import { Volumes } from '../../src/metadata/volumes.js';
import { segmentId, THREE } from '../metadata/samples.js';
import { SimStores } from '../metadata/sim-store.js';

/** Nodes that have a segment of the volume. */
function nodesWith(volume: VolumeId): FoundNode[] {
  return THREE.map(({ node, incarnation }) => {
    const entry = {
      segment: segmentId('77'),
      volume,
      createEpoch: epoch(1),
      maxEpoch: epoch(1),
      length: offset(4096),
      state: 'open',
      crc: 7,
      suspectFrom: null,
    } as const;
    const inventories: RebuildInventory[] = [{ node, incarnation, entries: [entry] }];
    return { inventories } as unknown as FoundNode;
  });
}

test('a volume of which no node has anything stays as the store has it', async (t) => {
  const world = new SimStores();
  const { store, process } = world.connect();
  await world.wait(initCluster(store, process.clock, world.random));
  const volumes = new Volumes(store, process.clock, world.random);
  const size = { kind: 'filesystem', sizeBytes: 1 << 30, replicas: 3 } as const;
  const written = await world.wait(volumes.create({ ...size, name: 'written' }));
  const unused = await world.wait(volumes.create({ ...size, name: 'unused' }));
  const nodes = nodesWith(written.record.volume);
  const kept = await world.wait(keptOf(store, nodes, { without: [] }));
  t.same(kept.records, [unused.record]);
  t.match(kept.notes, [/^unused: no node has anything of it; kept/]);
  const told = { without: [written.record.volume] };
  const both = await world.wait(keptOf(store, nodes, told));
  t.same(both.records, [written.record, unused.record]);
  t.equal(both.notes.length, 1);

  const named = { ...written.record, name: 'unused' };
  t.same(besideRebuilt([written.record], kept.records), [written.record, unused.record]);
  const [, moved] = besideRebuilt([named], kept.records);
  t.match(moved?.trash, { keptUntil: null, purging: false }, 'of one name only one is in use');

  const key = volumeKey(unused.record.volume);
  world.server.transact([], [{ type: 'put', key, value: '{"name":"unused"' }]);
  t.equal(await world.codeOf(keptOf(store, nodes, { without: [] })), 'MALFORMED');
  const left = await world.wait(keptOf(store, nodes, { without: [], acceptLoss: true }));
  t.same(left.records, []);
  t.match(left.notes, [`of volume ${unused.record.volume}, and its record`]);
});
