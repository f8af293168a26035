/**
 * What every Disk promises to a program that lives (src/io/disk.ts). Power loss is tested on its
 * twins.
 */
import { type Test, test } from 'tap';
import type { HoldfastError } from '../../src/core/errors.js';
import type { Disk, DiskFile } from '../../src/io/disk.js';
import { type Harness, outcome } from './harness.js';

function bytes(file: DiskFile, position: number, count: number): string {
  const into = Buffer.alloc(count);
  const got = file.readSync(into, position);
  return into.toString('latin1', 0, got);
}

function code(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return (error as HoldfastError).code;
  }
  return 'no error';
}

const text = (value: string): Buffer => Buffer.from(value, 'latin1');

export function diskContract(name: string, harness: Harness<Disk>): void {
  const diskTest = (title: string, body: (t: Test, disk: Disk) => Promise<void>): void => {
    test(`${name}: ${title}`, async (t) => {
      const { subject, close } = await harness.make();
      await body(t, subject);
      await close();
    });
  };

  diskTest('what is written is read, across buffers and pages', async (t, disk) => {
    const file = disk.open('a', 'new');
    file.writeSync([text('one'), text('two')], 4094);
    t.equal(file.size(), 4100);
    t.equal(bytes(file, 4094, 6), 'onetwo');
    t.equal(bytes(file, 4092, 3), '\0\0o', 'a hole reads as zeroes');
    t.equal(bytes(file, 4098, 100), 'wo', 'short at the end');
    t.equal(bytes(file, 5000, 10), '', 'nothing behind the end');
    file.writeSync([text('X')], 4095);
    t.equal(bytes(file, 4094, 6), 'oXetwo');
  });

  diskTest('asynchronous writes and reads do the same', async (t, disk) => {
    const file = disk.open('a', 'new');
    const parts = [Buffer.alloc(10_000, 'x'), Buffer.alloc(10_000, 'y')];
    const [failed] = await outcome(harness, (done) => file.write(parts, 100, done));
    t.equal(failed, null);
    t.equal(file.size(), 20_100);
    const into = Buffer.alloc(30_000);
    const [error, count] = await outcome(
      harness,
      (done: (error: HoldfastError | null, count: number) => void) => file.read(into, 0, done),
    );
    t.equal(error, null);
    t.equal(count, 20_100);
    t.equal(into.toString('latin1', 10_099, 10_101), 'xy');
  });

  diskTest('datasync calls back for what was written', async (t, disk) => {
    const file = disk.open('a', 'new');
    file.writeSync([text('data')], 0);
    for (const alone of [true, false]) {
      const [error] = await outcome(harness, (done) => file.datasync(alone, done));
      t.equal(error, null);
    }
    t.equal(bytes(file, 0, 4), 'data');
  });

  diskTest('open follows its rule for files that are there or not', async (t, disk) => {
    t.equal(
      code(() => disk.open('a', 'never')),
      'NOT_FOUND',
    );
    const file = disk.open('a', 'maybe');
    t.equal(file.path, 'a');
    t.equal(
      code(() => disk.open('a', 'new')),
      'ALREADY_EXISTS',
    );
    file.writeSync([text('kept')], 0);
    t.equal(bytes(disk.open('a', 'maybe'), 0, 4), 'kept');
    t.equal(
      code(() => disk.open('no/such', 'new')),
      'NOT_FOUND',
      'the directory is missing',
    );
  });

  diskTest('directories list their names, sorted', async (t, disk) => {
    disk.makeDirectory('d/e');
    disk.makeDirectory('d/e');
    disk.open('d/b', 'new').close();
    disk.open('d/a', 'new').close();
    t.same(disk.list('d'), ['a', 'b', 'e/']);
    t.same(disk.list('d/e'), []);
    t.ok(disk.exists('d'));
    t.ok(disk.exists('d/a'));
    t.notOk(disk.exists('d/x'));
    t.notOk(disk.exists('x/y'));
    t.equal(
      code(() => disk.list('x')),
      'NOT_FOUND',
    );
    const [error] = await outcome(harness, (done) => disk.syncDirectory('d', done));
    t.equal(error, null);
  });

  diskTest('rename replaces its target; unlink removes', async (t, disk) => {
    disk.makeDirectory('d');
    disk.open('a', 'new').writeSync([text('new')], 0);
    disk.open('d/b', 'new').writeSync([text('old')], 0);
    disk.rename('a', 'd/b');
    t.notOk(disk.exists('a'));
    t.equal(bytes(disk.open('d/b', 'never'), 0, 10), 'new');
    t.equal(
      code(() => disk.rename('a', 'c')),
      'NOT_FOUND',
    );
    disk.unlink('d/b');
    t.same(disk.list('d'), []);
    t.equal(
      code(() => disk.unlink('d/b')),
      'NOT_FOUND',
    );
  });

  diskTest('an unlinked open file can be used until it is closed', async (t, disk) => {
    const file = disk.open('a', 'new');
    file.writeSync([text('still')], 0);
    disk.unlink('a');
    t.equal(bytes(file, 0, 5), 'still');
    disk.open('a', 'new').writeSync([text('other')], 0);
    t.equal(bytes(file, 0, 5), 'still');
    file.close();
  });

  diskTest('truncate cuts, and extends with zeroes', async (t, disk) => {
    const file = disk.open('a', 'new');
    file.writeSync([Buffer.alloc(9_000, 'x')], 0);
    file.truncateSync(4_097);
    t.equal(file.size(), 4_097);
    file.truncateSync(9_000);
    t.equal(file.size(), 9_000);
    t.equal(bytes(file, 4_096, 3), 'x\0\0', 'what was cut does not come back');
    t.equal(bytes(file, 8_999, 3), '\0');
  });

  diskTest('after close no callback runs', async (t, disk) => {
    const file = disk.open('a', 'new');
    const other = disk.open('b', 'new');
    let called = false;
    file.writeSync([text('x')], 0);
    file.datasync(false, () => {
      called = true;
    });
    file.close();
    file.close();
    other.writeSync([text('y')], 0);
    await outcome(harness, (done) => other.datasync(false, done));
    await outcome(harness, (done) => other.datasync(false, done));
    t.notOk(called);
  });

  diskTest('space says how much there is', async (t, disk) => {
    const { totalBytes, freeBytes } = disk.space();
    t.ok(totalBytes > 0);
    t.ok(freeBytes > 0 && freeBytes <= totalBytes);
  });
}
