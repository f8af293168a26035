/** Moves of replicas: what each step writes, what it refuses, and what nodes are told meanwhile. */
import { test } from 'tap';
import type { NodeId } from '../../src/core/ids.js';
import { epoch, lsn, offset, revision } from '../../src/core/units.js';
import { silentLog } from '../../src/io/log.js';
import { MetadataConfirmations } from '../../src/metadata/confirmations.js';
import { leaderKey } from '../../src/metadata/keys.js';
import type { Replica, VolumeRecord } from '../../src/metadata/model.js';
import {
  clearNodeWishes,
  isRemoved,
  readNodeWishes,
  removeNode,
  startDrain,
  startMaintenance,
} from '../../src/metadata/node-states.js';
import { listMoves, ReplicaMoves, readMove } from '../../src/metadata/replica-moves.js';
import { changeOf, readVolume, type VersionedVolume } from '../../src/metadata/stored-volume.js';
import {
  claimEpoch,
  deleteSealed,
  roll,
  sealAtTakeover,
  setRoot,
} from '../../src/metadata/volume-record.js';
import { putVolume } from '../fixtures/volume-record.js';
import { at, blank, fresh, id, owner, replicas, segmentId, THREE, VOLUME } from './samples.js';
import { SimStores } from './sim-store.js';

const ONE = epoch(1);
const SEGMENT = segmentId('1');
const [FOUR, FIVE] = replicas('4', '5') as [Replica, Replica];
const [A, B, C] = THREE as [Replica, Replica, Replica];

/** Two sealed segments and an open one, of which the first may be deleted. */
function written(): VolumeRecord {
  const claimed = claimEpoch(blank, { owner: owner('a'), planned: [fresh('1'), fresh('2')] });
  const promote = [segmentId('1'), segmentId('2')];
  const serving = sealAtTakeover(claimed, { epoch: ONE, ends: [], promote, plan: [fresh('3')] });
  const third = { epoch: ONE, sealed: at('1', 4, 9), promote: segmentId('3'), plan: [] };
  const fourth = { epoch: ONE, sealed: at('2', 4, 12), promote: null, plan: [] };
  const rolled = roll(roll(serving, third), fourth);
  const root = { segment: segmentId('2'), offset: offset(0), lsn: lsn(10) };
  return setRoot(rolled, { epoch: ONE, root });
}

function moving() {
  const world = new SimStores();
  const { store, process } = world.connect();
  putVolume(world.server, written());
  const confirmations = new MetadataConfirmations(store, silentLog);
  let leads = true;
  const moves = new ReplicaMoves(store, () => (leads ? [] : null));
  const ask = (start: (done: (answer: string) => void) => void): Promise<string> =>
    world.wait(
      new Promise((resolve) => {
        start((answer) => {
          resolve(answer);
          world.scheduler.notePromise();
        });
      }),
    );
  const { end, crc } = at('1', 4, 9);
  return {
    ...{ world, store, moves, clock: process.clock },
    volume: async () => (await world.wait(readVolume(store, VOLUME))) as VersionedVolume,
    move: () => world.wait(readMove(store, VOLUME, SEGMENT)),
    listed: async () => {
      const found = await world.wait(readVolume(store, VOLUME));
      return found?.record.sealed.find(({ segment }) => segment === SEGMENT)?.replicas;
    },
    copyable: ({ incarnation }: Replica) =>
      ask((done) => {
        confirmations.copyable({ volume: VOLUME, segment: SEGMENT, incarnation, end, crc }, done);
      }),
    droppable: ({ incarnation }: Replica, volume = VOLUME) =>
      ask((done) => confirmations.droppable(volume, SEGMENT, incarnation, done)),
    sealed: () => ask((done) => confirmations.sealed(VOLUME, SEGMENT, end, crc, done)),
    resign: () => {
      leads = false;
    },
  };
}

test('a move names the new disk, then the list does, then the old one is let go', async (t) => {
  const bed = moving();
  const { world, moves } = bed;
  t.equal(await bed.copyable(A), 'confirmed', 'a listed one may be completed');
  t.equal(await bed.copyable(FOUR), 'refused', 'nobody has named it');
  t.equal(await bed.droppable(A), 'refused');
  t.equal(await bed.droppable(FOUR), 'confirmed', 'what it may have counts for nothing');
  const begun = moves.begin(await bed.volume(), await bed.move(), FOUR, null);
  t.equal(await world.wait(begun), 'done');
  t.equal(await bed.copyable(FOUR), 'confirmed');
  t.equal(await bed.droppable(FOUR), 'refused', 'a copy is being made there');
  t.same(await bed.listed(), THREE, 'and does not count yet');
  const finished = moves.finish(await bed.volume(), await bed.move(), A);
  t.equal(await world.wait(finished), 'done');
  t.same(await bed.listed(), [B, C, FOUR]);
  t.match(await bed.move(), { filling: null, leaving: [A] });
  t.equal(await bed.droppable(A), 'confirmed');
  t.equal(await bed.copyable(A), 'refused');
  t.equal(await world.wait(moves.forget(await bed.move(), A)), 'done');
  t.same(await world.wait(listMoves(bed.store)), [], 'nothing is left of it');
});

test('a copy that nothing names is noted, and the note outlives the segment', async (t) => {
  const bed = moving();
  const { world, moves } = bed;
  const noted = async (on: Replica) =>
    world.wait(moves.note(await bed.volume(), await bed.move(), on));
  t.equal(await noted(A), 'changed', 'the list names it');
  t.equal(await noted(FOUR), 'done');
  t.equal(await noted(FOUR), 'changed', 'again');
  t.match(await bed.move(), { filling: null, leaving: [FOUR] });
  const before = await bed.volume();
  putVolume(world.server, deleteSealed(before.record, { epoch: ONE, segments: [SEGMENT] }));
  t.equal(await bed.droppable(FOUR), 'confirmed');
  t.equal(await noted(FIVE), 'changed', 'it is for a DELETE');
});

test('what was changed meanwhile is not overwritten, and only who leads changes it', async (t) => {
  const bed = moving();
  const { world, moves } = bed;
  const [volume, move] = [await bed.volume(), await bed.move()];
  t.equal(await world.wait(moves.begin(volume, move, FOUR, null)), 'done');
  t.equal(await world.wait(moves.begin(volume, move, FOUR, null)), 'changed', 'again');
  const begun = await bed.move();
  t.equal(await world.wait(moves.abandon(begun)), 'done');
  t.match(await bed.move(), { filling: null, leaving: [FOUR] });
  t.equal(await bed.droppable(FOUR), 'confirmed');
  t.equal(await world.wait(moves.finish(await bed.volume(), begun, A)), 'changed');
  t.same(await bed.listed(), THREE);
  bed.resign();
  t.equal(
    await world.wait(moves.begin(await bed.volume(), await bed.move(), FOUR, null)),
    'changed',
  );
});

test('a move of what was given up meanwhile is not begun, and its disk not noted', async (t) => {
  const bed = moving();
  const { world, moves } = bed;
  const [volume, move] = [await bed.volume(), await bed.move()];
  putVolume(world.server, deleteSealed(volume.record, { epoch: ONE, segments: [SEGMENT] }));
  t.equal(await world.wait(moves.begin(volume, move, FOUR, null)), 'changed');
  t.equal(await world.wait(moves.note(volume, move, FIVE)), 'changed');
  t.same(await world.wait(listMoves(bed.store)), []);
});

test('who led once changes nothing, although it has not heard yet that it does not', async (t) => {
  const bed = moving();
  const { world, store } = bed;
  const former = { key: leaderKey('controller'), modRevision: revision(7) };
  const moves = new ReplicaMoves(store, () => [former]);
  const [volume, move] = [await bed.volume(), await bed.move()];
  t.equal(await world.wait(moves.begin(volume, move, FOUR, null)), 'changed');
  t.same(await world.wait(listMoves(store)), []);
});

test('what is given up is not sealed, and what nobody knows of is not dropped', async (t) => {
  const bed = moving();
  t.equal(await bed.sealed(), 'confirmed');
  const before = await bed.volume();
  const after = deleteSealed(before.record, { epoch: ONE, segments: [SEGMENT] });
  const { compare, operations } = changeOf(before, after);
  t.ok((await bed.world.wait(bed.store.transact(compare, operations))).committed);
  t.equal(await bed.sealed(), 'refused', 'its chunk has it still');
  t.equal(await bed.droppable(FOUR), 'refused', 'no move says that it has a copy');
  t.equal(
    await bed.droppable(FOUR, id('77')),
    'refused',
    'a volume that is missing is no evidence',
  );
});

test('a copy on a node that was removed meanwhile does not join the list', async (t) => {
  const bed = moving();
  const { world, moves, store, clock } = bed;
  await world.wait(moves.begin(await bed.volume(), await bed.move(), FOUR, null));
  await world.wait(removeNode(store, clock, FOUR.node));
  const finished = moves.finish(await bed.volume(), await bed.move(), A);
  t.equal(await world.wait(finished), 'changed');
  t.same(await bed.listed(), THREE);
  t.equal(await bed.droppable(A), 'refused', 'what it would have taken the place of stays');
});

test('a segment that is deleted while it is copied leaves a copy to be dropped', async (t) => {
  const bed = moving();
  const { world, moves } = bed;
  await world.wait(moves.begin(await bed.volume(), await bed.move(), FOUR, null));
  const begun = await bed.move();
  const before = await bed.volume();
  const given = deleteSealed(before.record, { epoch: ONE, segments: [SEGMENT] });
  putVolume(world.server, given);
  t.equal(await bed.copyable(FOUR), 'refused');
  t.equal(await bed.droppable(FOUR), 'confirmed', 'the move says that it may have one');
  t.equal(await bed.droppable(B), 'refused', 'that one is for a DELETE');
  t.equal(await world.wait(moves.finish(before, begun, A)), 'changed', 'it does not come back');
  t.equal(await world.wait(moves.finish(await bed.volume(), begun, A)), 'changed');
  t.equal(await world.wait(moves.forget(begun, FOUR)), 'done');
  t.equal(await bed.droppable(FOUR), 'refused', 'ignorance is no evidence');
});

test('nodes are drained, waited for, and removed for good', async (t) => {
  const { world, store, clock } = moving();
  const node = id<NodeId>('1');
  const wish = async () => (await world.wait(readNodeWishes(store))).get(node);
  await world.wait(startDrain(store, clock, node));
  t.type((await wish())?.drain?.since, 'string');
  await world.wait(startMaintenance(store, clock, node, 60_000));
  t.type((await wish())?.maintenance?.until, 'string');
  await world.pass(90_000);
  t.equal((await wish())?.maintenance, undefined, 'it ends by itself');
  await world.wait(clearNodeWishes(store, node));
  t.equal(await wish(), undefined);
  await world.wait(startDrain(store, clock, node));
  await world.wait(removeNode(store, clock, node));
  t.equal(await world.wait(isRemoved(store, node)), true);
  t.same(Object.keys((await wish()) ?? {}), ['removed']);
  t.equal(await world.codeOf(startDrain(store, clock, node)), 'CONFLICT');
});
