/** What expires in the trash, and that no clock alone decides it. */
import t from 'tap';
import type { NodeRequests } from '../../src/block/wire/requests.js';
import { HoldfastError } from '../../src/core/errors.js';
import type { Incarnation, NodeId, VolumeId } from '../../src/core/ids.js';
import { epoch, offset } from '../../src/core/units.js';
import { encodeNode } from '../../src/metadata/encoding.js';
import { nodeKey, volumeKey } from '../../src/metadata/keys.js';
import type { MemoryStore } from '../../src/metadata/memory.js';
import { METADATA_SCHEMA } from '../../src/metadata/model.js';
import { VolumeTrash } from '../../src/metadata/trash.js';
import { Volumes } from '../../src/metadata/volumes.js';
import { Controller } from '../../src/replication/controller.js';
import { id } from '../metadata/samples.js';
import { RecordedLog, SimStores } from '../metadata/sim-store.js';

const HOUR = 3_600_000;
const NODES = ['1', '2', '3'].map((n) => id<NodeId>(n));

/** What happens between the look into the trash and the purge. */
type Meanwhile = (trash: VolumeTrash, volume: VolumeId, store: MemoryStore) => void;

/**
 * Nodes, three at most, whose clocks run ahead by so many milliseconds; null does not answer.
 * Resolves to whether the volume is purged once its time was over.
 */
async function expiring(
  clocks: readonly (number | null)[],
  meanwhile: Meanwhile = () => {},
): Promise<boolean> {
  const world = new SimStores();
  const { store, process } = world.connect();
  const { clock } = process;
  for (const node of NODES.slice(0, clocks.length)) {
    const record = { schema: METADATA_SCHEMA, node, address: node, zone: '', version: '1' };
    const value = encodeNode({ ...record, disks: [] });
    world.server.transact([], [{ type: 'put', key: nodeKey(node), value }]);
  }
  const requests: NodeRequests = {
    send: ({ node }, _request, _timeoutMs, done) => {
      const ahead = clocks[NODES.indexOf(node)];
      const incarnation = id<Incarnation>('d');
      if (node === NODES[0]) meanwhile(trash, volume, store);
      clock.after(1, () => {
        if (ahead == null) {
          done(new HoldfastError('UNAVAILABLE', 'down'), null);
          return;
        }
        const wallMs = clock.wall() + ahead;
        done(null, {
          ...{ status: 'OK', incarnation, durableLength: offset(0), maxEpoch: epoch(0) },
          body: { type: 'status', node, zone: '', version: '1', disks: [], wallMs },
        });
      });
    },
    queuedBytes: () => 0,
    close: () => {},
  };
  const volumes = new Volumes(store, clock, world.random);
  const trash = new VolumeTrash(store, clock, volumes);
  const wanted = { name: 'db', kind: 'filesystem', sizeBytes: 1 << 30, replicas: 3 } as const;
  const { volume } = (await world.wait(volumes.create(wanted))).record;
  await world.wait(trash.remove(volume, { keepMs: HOUR, force: false }));
  const log = new RecordedLog();
  const node = NODES[0] as NodeId;
  const options = { store, clock, random: world.random, log, requests, node };
  const expiry = new Controller(options);
  expiry.start();
  await world.pass(HOUR - 60_000);
  t.not(world.server.peek(volumeKey(volume)), null, 'nothing is purged before its time');
  await world.pass(120_000);
  const isGone = world.server.peek(volumeKey(volume)) === null;
  await world.wait(expiry.stop());
  return isGone;
}

t.test('what nobody restored in time is purged, once all clocks agree', async (t) => {
  t.equal(await expiring([0, 0, 0]), true);
  t.equal(await expiring([0, HOUR, null]), true, 'two of three are enough');
});

t.test('one clock that is behind keeps it', async (t) => {
  t.equal(await expiring([0, 0, -HOUR]), false);
});

t.test('our clock alone decides nothing', async (t) => {
  t.equal(await expiring([0, null, null]), false);
  t.equal(await expiring([0, null]), false, 'half of the nodes are not most of them');
});

t.test('what was restored and removed again meanwhile has its time before it', async (t) => {
  let again: Promise<unknown> | null = null;
  const meanwhile: Meanwhile = (trash, volume) => {
    again ??= trash.restore(volume, 'db').then(() => {
      return trash.remove(volume, { keepMs: 100 * HOUR, force: false });
    });
  };
  t.equal(await expiring([0, 0, 0], meanwhile), false);
  t.not(again, null);
  await again;
});

t.test('who does not lead any more when the store is back goes on as before', async (t) => {
  let cuts = 0;
  const meanwhile: Meanwhile = (_trash, _volume, store) => {
    if (++cuts > 1) return;
    store.setReachable(false);
    store.server.clock.after(40_000, () => store.setReachable(true));
  };
  t.equal(await expiring([0, 0, 0], meanwhile), true);
  t.ok(cuts > 1, 'it looked again');
});
