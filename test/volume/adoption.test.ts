/** What a successor finds in special moments that random histories seldom meet. */
import { test } from 'tap';
import { present } from '../../src/core/assert.js';
import { KIB, MIB, PAGE_BYTES } from '../../src/core/units.js';
import { INTENT_REGION_BYTES } from '../../src/volume/limits.js';
import { found } from '../fixtures/found.js';
import { Bed, CALLER, errnoOf, ROOT } from './harness.js';
import { MemoryIntents } from './memory-intents.js';

/** Nothing gets into the log by itself. */
function bed(): { bed: Bed; intents: MemoryIntents } {
  const intents = new MemoryIntents();
  return { bed: new Bed({ ackDelayMs: null, intents }), intents };
}

test('a page that changed in place, again and again', async (t) => {
  const { bed: made } = bed();
  const inode = made.file('log');
  let expected = '';
  for (let i = 0; i < 300; i++) {
    const line = `line ${i}\n`;
    made.write(inode, expected.length, line);
    expected += line;
    if (i % 100 === 50) made.fs.history.intents?.flush();
  }
  made.adopt();
  t.equal(made.content(inode).toString(), expected);
  made.write(inode, 3, 'again');
  made.adopt();
  t.equal(made.content(inode).toString(), `${expected.slice(0, 3)}again${expected.slice(8)}`);
});

test('a page that the cleaner moved does not change in place', async (t) => {
  const { bed: made } = bed();
  const inode = made.file('file');
  made.write(inode, 0, Buffer.alloc(PAGE_BYTES, 1));
  made.fs.history.close();
  made.fs.history.intents?.flush();
  made.owner.acknowledge();
  const { state, history } = made.fs;
  const slot = state.inodes.slotOf(inode);
  const at = state.extents.place(slot, 0);
  history.room(1, 56);
  const place = history.takePages(1);
  history.pool.page(place).fill(1);
  const segment = present(made.log.segments[0], 'a segment').id;
  const move = { type: 'move', inode, page: 0, count: 1, segment, at: at % 2 ** 22 } as const;
  history.performWrite(move, place);
  t.equal(state.extents.place(slot, 0), place, 'it is moved');
  t.notOk(history.isOpen(place));
  made.write(inode, 10, 'changed');
  const expected = Buffer.alloc(PAGE_BYTES, 1);
  expected.write('changed', 10);
  t.ok(made.content(inode).equals(expected));
  made.adopt();
  t.ok(made.content(inode).equals(expected), 'though no intents tell of the move');
});

test('a copy that shares pages which were not yet in the log', async (t) => {
  const { bed: made } = bed();
  const inode = made.file('file');
  const copy = made.file('copy');
  const content = Buffer.alloc(2 * PAGE_BYTES, 'content');
  made.write(inode, 0, content);
  t.equal(made.fs.copyRange(inode, 0, copy, 0, content.length), content.length);
  made.adopt();
  made.fs.history.close();
  made.fs.history.intents?.flush();
  made.owner.acknowledge();
  // What stood in memory has its place in the log now, and others have the memory.
  made.write(made.file('other'), 0, Buffer.alloc(2 * PAGE_BYTES, 'other'));
  for (const one of [inode, copy]) t.ok(made.content(one).equals(content));
});

test('an unlinked file that somebody has open', async (t) => {
  const { bed: made } = bed();
  const inode = made.file('gone');
  made.fs.open(inode);
  made.write(inode, 0, 'still here');
  made.fs.unlink(ROOT, Buffer.from('gone'));
  made.adopt();
  t.equal(made.content(inode).toString(), 'still here');
  made.write(inode, 0, 'ever');
  made.fs.close(inode);
  t.equal(made.content(inode).toString(), 'everl here', 'the kernel still knows it');
  made.fs.forget(inode, 2);
  t.equal(
    errnoOf(() => made.fs.getattr(inode)),
    'ESTALE',
  );
});

test('what survived in the log is not done again, whatever part of it that was', async (t) => {
  for (let survive = 0; survive < 6; survive++) {
    const { bed: made } = bed();
    for (let i = 0; i < 5; i++) {
      made.fs.mkdir(ROOT, Buffer.from(`d${i}`), 0o755, { uid: 0, gid: 0 });
      if (i > 0) made.fs.rename(ROOT, Buffer.from(`d${i}`), ROOT, Buffer.from(`d${i - 1}`), 2);
      made.fs.history.intents?.flush();
      made.fs.history.close();
    }
    made.adopt(survive);
    t.equal(made.fs.getattr(ROOT).nlink, 7);
    const { inode } = found(made.fs, ROOT, Buffer.from('d0'));
    made.adopt();
    t.equal(found(made.fs, ROOT, Buffer.from('d0')).inode, inode);
  }
});

test('a successor without room for its own intents waits for some', async (t) => {
  const { bed: made, intents } = bed();
  const inode = made.file('log');
  made.write(inode, 0, 'answered');
  made.fs.history.intents?.flush();
  const waits = 3;
  let waited = 0;
  const left = intents.file;
  intents.room = 1; // for the header
  made.adopt(0, () => {
    t.equal(intents.file, left, 'the old ones stay');
    waited += 1;
    if (waited === waits) intents.room = 100;
  });
  t.equal(waited, waits);
  t.equal(made.content(inode).toString(), 'answered');
  made.adopt();
  t.equal(made.content(inode).toString(), 'answered');
});

test('more changes without data than one batch of intents takes', async (t) => {
  const { bed: made, intents } = bed();
  const { inode } = made.fs.mkdir(ROOT, Buffer.from('d'), 0o755, CALLER);
  for (let i = 0; i < 600; i++) {
    made.fs.setxattr(inode, 'user.a', Buffer.alloc(16 * KIB, i), 0);
    // As after each request, whose reply is the last that is staged of it.
    made.fs.history.intents?.result({ low: i, high: 0 }, Buffer.from('reply'));
    made.fs.history.intents?.flush();
  }
  t.ok((intents.file?.length ?? 0) > INTENT_REGION_BYTES);
  for (let again = 0; again < 2; again++) {
    made.adopt();
    t.same(made.fs.getxattr(inode, 'user.a'), Buffer.alloc(16 * KIB, 599));
  }
});

test('a part of the intents that cannot be read ends it, instead of leaving it out', async (t) => {
  const { bed: made, intents } = bed();
  for (let i = 0; i < 3; i++) {
    made.fs.setattr(ROOT, { mode: 0o700 + i });
    made.fs.history.intents?.flush();
  }
  const found = present(intents.read(), 'intents');
  t.equal(found.batches.length, 4, 'one of the format, one of each change');
  const [first, , third, fourth] = found.batches;
  const batches = [first, third, fourth].map((batch) => present(batch, 'a batch'));
  intents.read = () => ({ ...found, batches });
  t.throws(() => made.adopt(), { code: 'INCONSISTENT' });
});

test('an end by FORGET, which has no reply, is in the intents at once', async (t) => {
  const { bed: made } = bed();
  const { state, history } = made.fs;
  const intents = present(history.intents, 'an intent log');
  const soon = (): void => made.scheduler.runFor(1);
  for (const size of [4096, 3_000 * MIB]) {
    const inode = made.file('gone');
    if (size > MIB) for (let at = 0; at < size; at += MIB) made.fs.fallocate(inode, at, 4096, 0);
    else made.fs.fallocate(inode, 0, size, 0);
    made.fs.unlink(ROOT, Buffer.from('gone'));
    intents.flush();
    t.ok(state.usedPages > 0);
    made.fs.forget(inode, 1);
    t.ok(intents.staged);
    soon();
    t.notOk(intents.staged, 'so nothing of it is lost with the process');
    t.equal(state.usedPages, 0, 'also of a file that ends in many turns');
  }
  made.adopt();
  t.equal(made.fs.state.usedPages, 0);
  t.equal(made.fs.state.orphans.size, 0);
});
