import { test } from 'tap';
import { MIB, PAGE_BYTES } from '../../src/core/units.js';
import { Extents } from '../../src/volume/extents.js';
import { found } from '../fixtures/found.js';
import { Bed, CALLER, errnoOf, ROOT } from './harness.js';

const name = (text: string): Buffer => Buffer.from(text);

function names(bed: Bed, inode = ROOT): string[] {
  const found: string[] = [];
  bed.fs.readdir(inode, 0, (entry) => {
    found.push(entry.name.toString());
    return true;
  });
  return found.sort();
}

function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >>> 8) * 7 + seed) & 0xff;
  return bytes;
}

test('mounted read-only, a new volume shows an empty root and stays as it is', async (t) => {
  const bed = new Bed({ mount: { readOnly: true } });
  t.equal(bed.fs.getattr(ROOT).mode, 0o040755);
  t.same(names(bed), []);
  t.equal(
    errnoOf(() => bed.file('f')),
    'EROFS',
  );
  bed.commit();
  t.equal(
    bed.wait((done) => bed.fs.finish(done)),
    null,
  );
  t.same(bed.log.records, [], 'nothing was recorded');
});

test('a new volume has an empty root directory', async (t) => {
  const bed = new Bed();
  const root = bed.fs.getattr(ROOT);
  t.equal(root.mode, 0o040755);
  t.equal(root.nlink, 2);
  t.same(names(bed), []);
  t.equal(found(bed.fs, ROOT, name('..')).inode, ROOT);
  t.ok(bed.isReproduced());
});

test('what was written is read, before and after the log has it, and after a crash', async (t) => {
  const bed = new Bed();
  const inode = bed.file('a');
  const data = pattern(100_000, 3);
  t.equal(bed.write(inode, 5_000, data), null);
  const whole = Buffer.concat([Buffer.alloc(5_000), data]);
  t.ok(bed.content(inode).equals(whole));
  bed.commit();
  t.ok(bed.content(inode).equals(whole));
  t.equal(bed.fs.getattr(inode).blocks, Math.ceil(105_000 / PAGE_BYTES) * 8 - 8);
  bed.crash();
  t.ok(bed.content(found(bed.fs, ROOT, name('a')).inode).equals(whole));
  t.ok(bed.isReproduced());
});

test('small writes join in one record; a page already sent is not changed', async (t) => {
  const bed = new Bed({ ackDelayMs: null });
  const inode = bed.file('a');
  for (let i = 0; i < 100; i++) bed.write(inode, i * 10, pattern(10, i));
  t.equal(bed.owner.inFlight, 0, 'the group is open');
  bed.fs.commit(() => {});
  t.equal(bed.owner.inFlight, 1);
  const before = bed.content(inode);
  bed.write(inode, 5, 'changed');
  bed.owner.assertUnchanged();
  t.equal(bed.content(inode).toString('latin1', 5, 12), 'changed');
  bed.crash(1);
  t.ok(bed.content(inode).equals(before), 'the later write was lost as a whole');
});

test('partial writes of pages in the log keep the rest', async (t) => {
  const bed = new Bed({ mount: { cachePages: 1 } });
  const inode = bed.file('a');
  const data = pattern(5 * PAGE_BYTES, 1);
  bed.write(inode, 0, data);
  bed.commit();
  bed.write(inode, 4_000, pattern(9_000, 2));
  data.set(pattern(9_000, 2), 4_000);
  t.ok(bed.content(inode).equals(data));
  t.ok(bed.isReproduced());
  t.ok(bed.content(inode).equals(data));
});

test('a read does not overtake a write that waits for the rest of its pages', async (t) => {
  const bed = new Bed();
  const inode = bed.file('f');
  bed.write(inode, 0, Buffer.alloc(3 * PAGE_BYTES, 'old'));
  bed.commit();
  bed.crash();
  const over: string[] = [];
  const read = (what: string, offset: number, length: number): void => {
    bed.fs.read(inode, offset, length, (error, parts) => {
      t.equal(error, null);
      over.push(`${what}: ${Buffer.concat(parts).subarray(0, 3)}`);
    });
  };
  read('before', 5_001, 3);
  bed.fs.write(inode, 5_001, Buffer.from('new'), () => over.push('written'));
  read('same', 5_001, 3);
  read('beside', 4_095, 10);
  read('behind', 3 * 4_096 - 3, 3);
  bed.fs.write(inode, 9_000, Buffer.from('and'), () => over.push('written'));
  read('both', 9_000, 3);
  t.ok(bed.fs.delays(inode, () => over.push(`again behind ${over.length}`)));
  t.notOk(bed.fs.delays(ROOT, () => {}));
  bed.scheduler.runFor(100);
  t.notOk(bed.fs.delays(inode, () => {}));
  const again = over.findIndex((one) => one.startsWith('again'));
  t.ok(again > 0, 'after the write');
  over.splice(again, 1);
  t.same(over.slice().sort(), [
    'before: old',
    'behind: old',
    'beside: old',
    'both: and',
    'same: new',
    'written',
    'written',
  ]);
});

test('a write does not overtake one that waits for the rest of its pages', async (t) => {
  const bed = new Bed();
  const inode = bed.file('f');
  const data = Buffer.alloc(3 * PAGE_BYTES, 'old');
  bed.write(inode, 0, data);
  bed.commit();
  bed.crash();
  const over: string[] = [];
  const write = (what: string, offset: number, bytes: Buffer): void => {
    data.set(bytes, offset);
    bed.fs.write(inode, offset, bytes, (error) => over.push(`${what}: ${error}`));
    bytes.fill(0xee);
  };
  write('first', 4_000, Buffer.alloc(200, 'first'));
  // These need nothing of what is there.
  write('second', 4_096, Buffer.alloc(PAGE_BYTES, 'second'));
  write('third', 0, Buffer.alloc(PAGE_BYTES, 'third'));
  write('beside', 2 * PAGE_BYTES, Buffer.alloc(PAGE_BYTES, 'beside'));
  bed.scheduler.runFor(100);
  t.same(over, ['beside: null', 'first: null', 'second: null', 'third: null']);
  t.ok(bed.content(inode).equals(data));
  t.ok(bed.isReproduced());
});

test('the data of a write may be changed as soon as the call returns', async (t) => {
  const bed = new Bed({ mount: { cachePages: 1 } });
  const inode = bed.file('a');
  const whole = pattern(3 * MIB, 1);
  bed.write(inode, 0, whole);
  bed.commit();
  for (const [offset, length] of [
    [8_192, 4_096],
    [100, 9_000],
    [4_096, 2 * MIB + 7],
  ] as const) {
    const data = pattern(length, 2);
    whole.set(data, offset);
    const error = bed.wait((done) => {
      bed.fs.write(inode, offset, data, done);
      data.fill(0xee);
    });
    t.equal(error, null);
    t.ok(bed.content(inode).equals(whole), `${length} bytes at ${offset}`);
  }
});

test('large writes are split; reads run over all kinds of places', async (t) => {
  const bed = new Bed();
  const inode = bed.file('a');
  const data = pattern(3 * MIB + 123, 9);
  t.equal(bed.write(inode, 77, data), null);
  bed.fs.fallocate(inode, 4 * MIB, 10_000, 0);
  bed.commit();
  bed.write(inode, 2 * MIB, pattern(50, 4));
  const whole = Buffer.alloc(4 * MIB + 10_000);
  whole.set(data, 77);
  whole.set(pattern(50, 4), 2 * MIB);
  t.ok(bed.content(inode).equals(whole));
  t.ok(bed.read(inode, 4 * MIB - 5, 100_000).equals(whole.subarray(4 * MIB - 5)));
});

test('what was cut off or punched out reads as zeroes for ever', async (t) => {
  const bed = new Bed();
  const inode = bed.file('a');
  const data = pattern(4 * PAGE_BYTES, 1);
  bed.write(inode, 0, data);
  bed.commit();
  bed.fs.setattr(inode, { size: 5_000 });
  bed.fs.setattr(inode, { size: 16_384 });
  data.fill(0, 5_000);
  t.ok(bed.content(inode).equals(data));
  bed.fs.fallocate(inode, 100, 200, 3);
  data.fill(0, 100, 300);
  t.ok(bed.content(inode).equals(data));
  bed.write(inode, 6_000, 'x');
  data[6_000] = 0x78;
  t.ok(bed.content(inode).equals(data));
  t.ok(bed.isReproduced());
  bed.crash();
  t.ok(bed.content(inode).equals(data));
});

test('space reserved behind the end goes with a truncation, also to the same size', async (t) => {
  const bed = new Bed();
  const KEEP_SIZE = 1;
  for (const size of [0, 1, PAGE_BYTES, 5_000, MIB, MIB + 1]) {
    const inode = bed.file(`of-${size}`);
    const data = pattern(size, 3);
    if (size > 0) bed.write(inode, 0, data);
    const used = bed.fs.state.usedBytes;
    const { blocks } = bed.fs.getattr(inode);
    for (const [at, length] of [
      [0, 8 * MIB],
      [4 * MIB, 1],
    ] as const) {
      bed.fs.fallocate(inode, at, length, KEEP_SIZE);
      t.ok(bed.fs.getattr(inode).blocks > blocks);
      t.equal(bed.fs.setattr(inode, { size }).blocks, blocks, `${size}, ${length} at ${at}`);
      t.equal(bed.fs.state.usedBytes, used);
    }
    bed.fs.fallocate(inode, 0, 8 * MIB, KEEP_SIZE);
    const grown = bed.fs.setattr(inode, { size: size + 1 });
    t.ok(grown.blocks > blocks, 'a file that grows keeps what was reserved for that');
    bed.fs.setattr(inode, { size });
    t.ok(bed.content(inode).equals(data));
  }
  const before = bed.fs.history.dirtyBytes;
  const inode = bed.file('plain');
  bed.fs.setattr(inode, { size: 0 });
  t.ok(bed.fs.history.dirtyBytes - before < 200, 'no more is recorded where nothing was reserved');
  t.ok(bed.isReproduced());
  bed.crash();
  t.ok(bed.isReproduced());
});

test('zeroing a range reserves all of it, and goes over its whole pages once', async (t) => {
  const bed = new Bed();
  const ZERO_RANGE = 16;
  const { extents, inodes } = bed.fs.state;
  const reserve = extents.reserve.bind(extents);
  let again = 0;
  extents.reserve = (slot, page, count) => {
    again += count;
    return reserve(slot, page, count);
  };
  const edges = [0, 1, 4_095, 4_096, 4_097, 8_191, 8_192, 12_288, MIB - 1, MIB, 3 * MIB + 5];
  const data = pattern(4 * MIB, 7);
  for (const from of edges) {
    for (const to of edges.filter((edge) => edge > from)) {
      const inode = bed.file(`${from}-${to}`);
      bed.write(inode, 8_192, 'some data');
      bed.write(inode, MIB + 4_096, data.subarray(0, 300_000));
      const expected = Buffer.alloc(Math.max(to, MIB + 4_096 + 300_000));
      bed.content(inode).copy(expected);
      again = 0;
      bed.fs.fallocate(inode, from, to - from, ZERO_RANGE);
      t.ok(again <= 2, `${from} to ${to}: ${again} pages are looked at again`);
      const page = Math.floor(from / PAGE_BYTES);
      const count = Math.ceil(to / PAGE_BYTES) - page;
      t.equal(extents.countMapped(inodes.slotOf(inode), page, count), count);
      t.ok(bed.content(inode).equals(expected.fill(0, from, to)));
    }
  }
  t.ok(bed.isReproduced());
});

test('copied ranges share pages until one side is written', async (t) => {
  const bed = new Bed();
  const a = bed.file('a');
  const b = bed.file('b');
  const data = pattern(3 * PAGE_BYTES + 100, 5);
  bed.write(a, 0, data);
  t.equal(bed.fs.copyRange(a, 0, b, 0, 1 << 30), data.length);
  bed.write(a, 0, 'only in a');
  t.ok(bed.content(b).equals(data));
  t.ok(bed.isReproduced(), 'also when it was shared on its way to the log');
  t.ok(bed.content(b).equals(data));
  t.equal(
    errnoOf(() => bed.fs.copyRange(a, 1, b, 0, 10)),
    'EXDEV',
  );
  t.equal(
    errnoOf(() => bed.fs.copyRange(a, 0, a, 4096, 8192)),
    'EINVAL',
  );
});

test('a hole is copied at once, however large, and makes one', async (t) => {
  const bed = new Bed();
  const TIB = 1024 * 1024 * MIB;
  const a = bed.file('a');
  const b = bed.file('b');
  bed.write(a, 3 * MIB, 'near');
  bed.write(a, 8 * TIB - MIB, 'far');
  bed.fs.setattr(a, { size: 8 * TIB });
  bed.write(b, 5 * MIB, pattern(3 * MIB, 1));
  bed.write(b, 8 * TIB, pattern(3 * MIB, 2));
  let steps = 0;
  const { run } = Extents.prototype;
  Extents.prototype.run = function (...range) {
    steps += 1;
    return run.apply(this, range);
  };
  const copied = bed.fs.copyRange(a, 0, b, 2 * MIB, 8 * TIB);
  Extents.prototype.run = run;
  t.equal(copied, 8 * TIB);
  t.ok(steps < 100, `nothing is done for each MiB of it, but ${steps} steps`);
  t.equal(bed.read(b, 5 * MIB, 4).toString(), 'near');
  t.equal(bed.read(b, 8 * TIB + MIB, 3).toString(), 'far');
  t.ok(bed.read(b, 6 * MIB, MIB).equals(Buffer.alloc(MIB)));
  t.equal(bed.fs.getattr(b).blocks, (2 + MIB / PAGE_BYTES) * 8, 'and what was behind stays');
  t.ok(bed.isReproduced());
});

test('a full volume says so, and gives space back', async (t) => {
  const bed = new Bed({ sizeBytes: 1 * MIB });
  const inode = bed.file('a');
  t.match(bed.write(inode, 0, pattern(MIB, 1)), { errno: 'ENOSPC' });
  t.equal(bed.fs.getattr(inode).size, 0, 'nothing of it was written');
  t.equal(bed.write(inode, 0, pattern(1000 * 1024, 1)), null);
  t.equal(bed.write(inode, 0, pattern(1000 * 1024, 2)), null, 'overwriting takes no space');
  const { freeBytes, totalBytes } = bed.fs.statfs();
  t.equal(totalBytes - freeBytes, 1000 * 1024 + 2 * 256);
  const made = [];
  for (let i = 0; i < 1000 && made.length === i; i++) {
    if (errnoOf(() => bed.file(`f${i}`)) === null) made.push(i);
  }
  t.equal(made.length, Math.floor(freeBytes / 256));
  bed.fs.unlink(ROOT, name('a'));
  bed.fs.forget(inode, 1);
  t.equal(bed.write(found(bed.fs, ROOT, name('f0')).inode, 0, pattern(500_000, 3)), null);
  t.ok(bed.isReproduced());
});

test('an unlinked file lives until nobody holds it', async (t) => {
  const bed = new Bed();
  const inode = bed.file('a');
  bed.fs.open(inode);
  bed.write(inode, 0, 'still here');
  bed.fs.unlink(ROOT, name('a'));
  t.equal(bed.content(inode).toString(), 'still here');
  bed.fs.close(inode);
  t.equal(bed.content(inode).toString(), 'still here', 'the kernel still knows it');
  bed.fs.forget(inode, 1);
  t.equal(
    errnoOf(() => bed.fs.getattr(inode)),
    'ESTALE',
  );
  const next = bed.file('b');
  t.not(next, inode, 'its number is not used again');
  t.equal(next % 2 ** 32, inode % 2 ** 32, 'its slot is');
  bed.fs.unlink(ROOT, name('b'));
  bed.commit();
  bed.crash();
  t.equal(
    errnoOf(() => bed.fs.getattr(next)),
    'ESTALE',
    'an orphan ends with the mount',
  );
  t.ok(bed.isReproduced());
});

test('space that the kernel gives up in a moment can be had now, but not for ever', async (t) => {
  const bed = new Bed({ sizeBytes: 1 * MIB });
  const other = bed.file('other');
  const big = bed.file('big');
  const large = pattern(900_000, 1);
  bed.fs.open(big);
  t.equal(bed.write(big, 0, large), null);
  bed.fs.unlink(ROOT, name('big'));
  t.match(bed.write(other, 0, large), { errno: 'ENOSPC' }, 'it is open');
  bed.fs.close(big);
  t.equal(bed.write(other, 0, large), null, 'the kernel forgets it in a moment');
  t.match(bed.write(other, MIB, large), { errno: 'ENOSPC' }, 'that was all');
  t.equal(bed.fs.statfs().freeBytes, 0);
  bed.fs.forget(big, 1);
  t.ok(bed.fs.statfs().freeBytes > 0);
  bed.fs.unlink(ROOT, name('other'));
  const next = bed.file('next');
  t.equal(bed.write(next, 0, pattern(4_096, 1)), null);
  bed.scheduler.runFor(1_100);
  t.match(bed.write(next, 0, large), { errno: 'ENOSPC' }, 'the kernel has it in use');
  bed.fs.open(other);
  bed.fs.close(other);
  t.match(bed.write(next, 0, large), { errno: 'ENOSPC' }, 'and it counts once only');
  bed.fs.forget(other, 1);
  t.equal(bed.write(next, 0, large), null);
  t.ok(bed.isReproduced());
});

test('a mount that outlived its daemon keeps orphans until they are forgotten', async (t) => {
  const bed = new Bed({ mount: { adopted: { intents: null } } });
  const inode = bed.file('a');
  bed.write(inode, 0, 'held');
  bed.commit();
  bed.crash();
  bed.fs.unlink(ROOT, name('a'));
  t.equal(bed.content(inode).toString(), 'held');
  bed.commit();
  bed.crash();
  t.equal(bed.content(inode).toString(), 'held');
  bed.fs.forget(inode, 3);
  t.equal(
    errnoOf(() => bed.fs.getattr(inode)),
    'ESTALE',
  );
});

test('each refusal has its errno and changes nothing', async (t) => {
  const bed = new Bed();
  const { fs } = bed;
  const file = bed.file('file');
  const dir = fs.mkdir(ROOT, name('dir'), 0o755, CALLER).inode;
  const inner = fs.mkdir(dir, name('inner'), 0o755, CALLER).inode;
  fs.symlink(ROOT, name('sym'), name('target'), CALLER);
  const before = names(bed);
  const long = Buffer.alloc(256, 0x61);
  const table: [string, string, () => unknown][] = [
    ['too long', 'ENAMETOOLONG', () => fs.lookup(ROOT, long)],
    ['in a file', 'ENOTDIR', () => fs.lookup(file, name('x'))],
    ['taken', 'EEXIST', () => bed.file('file')],
    ['mkdir taken', 'EEXIST', () => fs.mkdir(ROOT, name('dir'), 0o755, CALLER)],
    ['unlink dir', 'EISDIR', () => fs.unlink(ROOT, name('dir'))],
    ['rmdir file', 'ENOTDIR', () => fs.rmdir(ROOT, name('file'))],
    ['rmdir full', 'ENOTEMPTY', () => fs.rmdir(ROOT, name('dir'))],
    ['rmdir dot', 'EINVAL', () => fs.rmdir(ROOT, name('.'))],
    ['link dir', 'EPERM', () => fs.link(dir, ROOT, name('x'))],
    ['into itself', 'EINVAL', () => fs.rename(ROOT, name('dir'), inner, name('x'), 0)],
    ['file over dir', 'EISDIR', () => fs.rename(ROOT, name('file'), ROOT, name('dir'), 0)],
    ['dir over file', 'ENOTDIR', () => fs.rename(ROOT, name('dir'), ROOT, name('file'), 0)],
    ['over full dir', 'ENOTEMPTY', () => fs.rename(dir, name('inner'), ROOT, name('dir'), 0)],
    ['noreplace', 'EEXIST', () => fs.rename(ROOT, name('file'), ROOT, name('sym'), 1)],
    ['exchange none', 'ENOENT', () => fs.rename(ROOT, name('file'), ROOT, name('x'), 2)],
    ['flags', 'EINVAL', () => fs.rename(ROOT, name('file'), ROOT, name('x'), 8)],
    ['readlink file', 'EINVAL', () => fs.readlink(file)],
    ['truncate dir', 'EISDIR', () => fs.setattr(dir, { size: 0 })],
    ['too large', 'EFBIG', () => fs.setattr(file, { size: 2 ** 45 })],
    ['seek', 'ENXIO', () => fs.seek(file, 0, 'data')],
    ['xattr', 'ENODATA', () => fs.getxattr(file, 'user.a')],
    ['xattr size', 'ENOSPC', () => fs.setxattr(file, 'user.a', Buffer.alloc(40_000), 0)],
    ['xattr replace', 'ENODATA', () => fs.setxattr(file, 'user.a', Buffer.alloc(1), 2)],
    ['collapse', 'ENOTSUP', () => fs.fallocate(file, 0, 4096, 8)],
  ];
  for (const [what, errno, call] of table) t.equal(errnoOf(call), errno, what);
  t.equal(fs.lookup(ROOT, name('nope')), null, 'missing');
  t.match(bed.write(dir, 0, 'x'), { errno: 'EISDIR' });
  t.match(bed.write(file, 2 ** 44, 'x'), { errno: 'EFBIG' });
  t.same(names(bed), before);
  t.ok(bed.isReproduced());
});

test('names, links, exchange, times, attributes and devices', async (t) => {
  const bed = new Bed();
  const { fs } = bed;
  const dir = fs.mkdir(ROOT, name('dir'), 0o2775, { uid: 5, gid: 7 }).inode;
  const sub = fs.mkdir(dir, name('sub'), 0o755, CALLER);
  const file = bed.file('file', dir);
  fs.link(file, ROOT, name('other'));
  t.equal(fs.getattr(file).nlink, 2);
  fs.rename(ROOT, name('other'), dir, name('sub'), 2);
  t.equal(found(fs, ROOT, name('other')).inode, sub.inode);
  t.equal(found(fs, sub.inode, name('..')).inode, ROOT);
  t.equal(fs.getattr(ROOT).nlink, 4);
  t.equal(fs.getattr(dir).nlink, 2);
  const time = { seconds: -5, nanoseconds: 999_999_999 };
  fs.setattr(file, { atime: time, mtime: { seconds: 2 ** 33, nanoseconds: 1 } });
  t.same(fs.getattr(file).atime, time);
  t.same(fs.getattr(file).mtime, { seconds: 2 ** 33, nanoseconds: 1 });
  fs.setattr(file, { mode: 0o6755 });
  fs.setxattr(file, 'security.capability', Buffer.from('cap'), 0);
  fs.setxattr(file, 'user.x', Buffer.from('1'), 1);
  t.equal(fs.setattr(file, { killPrivileges: true }).mode, 0o100755);
  t.same(fs.listxattr(file), ['user.x']);
  const device = fs.mknod(ROOT, name('null'), 0o020666, 0x103, CALLER);
  t.equal(device.rdev, 0x103);
  t.equal(fs.symlink(ROOT, name('l'), name('to/there'), CALLER).size, 8);
  t.equal(fs.readlink(found(fs, ROOT, name('l')).inode).toString(), 'to/there');
  const temporary = fs.tmpfile(ROOT, 0o600, CALLER).inode;
  bed.write(temporary, 0, 'named later');
  fs.link(temporary, ROOT, name('named'));
  t.ok(bed.isReproduced());
  bed.crash();
  t.equal(bed.content(temporary).toString(), 'named later');
});

test('a directory is listed in pieces while its entries are removed', async (t) => {
  const bed = new Bed();
  for (let i = 0; i < 3_000; i++) bed.file(`file-${i}`);
  let cookie = 0;
  let seen = 0;
  for (;;) {
    const batch: Buffer[] = [];
    bed.fs.readdir(ROOT, cookie, (entry) => {
      batch.push(entry.name);
      cookie = entry.cookie;
      return batch.length < 100;
    });
    if (batch.length === 0) break;
    seen += batch.length;
    for (const one of batch) bed.fs.unlink(ROOT, one);
    if (seen === 500) bed.commit();
  }
  t.equal(seen, 3_000);
  t.same(names(bed), []);
  t.ok(bed.isReproduced());
});

test('holes and data are found', async (t) => {
  const bed = new Bed();
  const inode = bed.file('a');
  bed.write(inode, 3 * MIB, 'data');
  bed.fs.fallocate(inode, 0, 8192, 1);
  t.equal(bed.fs.seek(inode, 0, 'data'), 3 * MIB);
  t.equal(bed.fs.seek(inode, 0, 'hole'), 0);
  t.equal(bed.fs.seek(inode, 3 * MIB, 'hole'), 3 * MIB + 4);
  t.equal(bed.fs.getattr(inode).blocks, 24);
});

test('a log that failed for good fails everything', async (t) => {
  const bed = new Bed({ ackDelayMs: null });
  const inode = bed.file('a');
  let answer: unknown;
  bed.fs.commit((error) => {
    answer = error;
  });
  const { HoldfastError } = await import('../../src/core/errors.js');
  bed.owner.fail(new HoldfastError('FENCED', 'a newer owner exists'));
  t.match(answer, { code: 'FENCED' });
  t.equal(
    errnoOf(() => bed.fs.getattr(inode)),
    'EIO',
  );
  t.match(bed.write(inode, 0, 'x'), { errno: 'EIO' });
  t.match(
    bed.wait((done) => bed.fs.fsync(inode, done)),
    { code: 'FENCED' },
  );
});

test('a page that cannot be read fails only who wants it', async (t) => {
  const bed = new Bed({ mount: { cachePages: 1 } });
  const inode = bed.file('a');
  const data = pattern(40 * PAGE_BYTES, 6);
  bed.write(inode, 0, data);
  bed.commit();
  bed.crash();
  const place = bed.fs.state.extents.place(inode, 20);
  const id = bed.fs.state.segments.idOf(Math.floor(place / 2 ** 22));
  bed.log.segment(id)?.pages.delete(place % 2 ** 22);
  // Read from the start, so with much read ahead; and a second reader joins the same fetch.
  let joined: Buffer | null = null;
  bed.fs.read(inode, 0, 8_000, () => {});
  bed.fs.read(inode, 4_096, 4_096, (_error, parts) => {
    joined = Buffer.concat(parts);
  });
  t.ok(bed.read(inode, 0, 10 * PAGE_BYTES).equals(data.subarray(0, 10 * PAGE_BYTES)));
  t.ok((joined as Buffer | null)?.equals(data.subarray(4_096, 8_192)));
  t.throws(() => bed.read(inode, 19 * PAGE_BYTES, 3 * PAGE_BYTES), { code: 'DATA_LOST' });
  t.ok(bed.read(inode, 21 * PAGE_BYTES, 80_000).equals(data.subarray(21 * PAGE_BYTES)));
});

test('a file has up to 65,000 links, a directory any number of subdirectories', async (t) => {
  const { fs } = new Bed();
  const file = fs.mknod(ROOT, name('f'), 0o100644, 0, CALLER).inode;
  const links = fs.mkdir(ROOT, name('links'), 0o755, CALLER).inode;
  const directories = fs.mkdir(ROOT, name('directories'), 0o755, CALLER).inode;
  for (let i = 1; i < 65_000; i++) fs.link(file, links, name(String(i)));
  t.equal(fs.getattr(file).nlink, 65_000);
  t.equal(
    errnoOf(() => fs.link(file, links, name('more'))),
    'EMLINK',
  );
  for (let i = 0; i < 65_100; i++) fs.mkdir(directories, name(String(i)), 0o755, CALLER);
  t.equal(fs.getattr(directories).nlink, 65_102);
  fs.rename(directories, name('0'), ROOT, name('moved'), 0);
  fs.rename(ROOT, name('moved'), directories, name('0'), 0);
  t.equal(fs.getattr(directories).nlink, 65_102);
});

test('times are as fine as the clock tells them', async (t) => {
  const bed = new Bed();
  bed.wait((done) => bed.process.clock.after(1.25, () => done(null)));
  const { mtime } = bed.fs.getattr(bed.file('f'));
  t.same(mtime, bed.process.clock.timeOfDay());
  t.not(mtime.nanoseconds % 1_000_000, 0);
});
