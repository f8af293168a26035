/** Disks behind one door: one that cannot be opened is neither gone nor in the way of others. */
import { test } from 'tap';
import { StorageNode } from '../../src/block/storage-node.js';
import type { Reply, Request } from '../../src/block/wire/messages.js';
import type { Incarnation } from '../../src/core/ids.js';
import { epoch } from '../../src/core/units.js';
import type { SimInode } from '../fixtures/sim-disk-file.js';
import { NODE, Rig, seg, VOLUME } from './store-rig.js';

interface Pair {
  readonly node: StorageNode;
  readonly good: Incarnation;
  readonly bad: Incarnation;
  readonly failures: readonly string[];
}

/** A node of two disks, the second of which was spoilt before it was opened. */
function pair(spoil: (file: SimInode, path: string) => void): Pair {
  const [first, second] = [new Rig({ seed: 'one' }), new Rig({ seed: 'two' })];
  const ids = [first, second].map((rig) => rig.format().open().crash(false) && rig.incarnation);
  second.disk.forEachFile((path, file) => spoil(file, path));
  const stores = [first.store, second.store];
  const { clock } = first.process;
  const node = new StorageNode({ node: NODE, zone: 'a', version: '1', stores, clock });
  let failures: string[] | null = null;
  node.open((found) => {
    failures = found.map(({ error }) => error.code);
  });
  while (failures === null) {
    const ran = [first, second].map(({ scheduler }) => scheduler.step());
    if (!ran.includes(true)) throw new Error('the node does not open');
  }
  return { node, good: ids[0] as Incarnation, bad: ids[1] as Incarnation, failures };
}

function ask(node: StorageNode, request: object): Reply {
  const replies: Reply[] = [];
  const on = { segment: seg(1), volume: VOLUME, epoch: epoch(3), released: false };
  node.handle({ ...on, ...request } as unknown as Request, (reply) => replies.push(reply));
  const [reply] = replies;
  if (reply === undefined) throw new Error('no answer in this turn');
  return reply;
}

const stranger = 'ab'.repeat(16) as Incarnation;

test('a disk that does not open but says which it is answers DISK in its name', async (t) => {
  const { node, good, bad, failures } = pair((file, path) => {
    if (path.startsWith('index-')) file.bad.add(0);
  });
  t.same(failures, ['DISK_FAILED']);
  for (const type of ['ping', 'fence', 'create', 'read']) {
    t.match(ask(node, { type, incarnation: bad }), { status: 'DISK', incarnation: bad }, type);
  }
  t.match(ask(node, { type: 'ping', incarnation: stranger }), { status: 'INCARNATION' });
  t.match(ask(node, { type: 'ping', incarnation: good }), { status: 'UNKNOWN', incarnation: good });
  const { body } = ask(node, { type: 'status', incarnation: stranger });
  const disks = body?.type === 'status' ? body.disks : [];
  const shown = new Map(disks.map((disk) => [disk.incarnation, disk]));
  t.match(shown.get(good), { state: 'ok' });
  t.match(shown.get(bad), { state: 'failed', freeBytes: 0 });
});

test('while a disk does not say which it is, no life is declared over', async (t) => {
  const { node, good, bad, failures } = pair((file, path) => {
    if (path === 'superblock') for (const page of [0, 1]) file.bad.add(page);
  });
  t.same(failures, ['DISK_FAILED']);
  t.match(ask(node, { type: 'ping', incarnation: bad }), { status: 'DISK', incarnation: bad });
  t.match(ask(node, { type: 'ping', incarnation: good }), { status: 'UNKNOWN', incarnation: good });
});
