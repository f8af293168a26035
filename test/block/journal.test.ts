/** The journal's order of things, with a file whose flushes end when the test says so. */
import t from 'tap';
import { Journal } from '../../src/block/journal.js';
import { EntryType } from '../../src/block/journal-format.js';
import type { JournalEntry } from '../../src/block/replica-state.js';
import type { Incarnation, SegmentId } from '../../src/core/ids.js';
import { JOURNAL_MIN_BYTES } from '../../src/core/limits.js';
import type { DiskFile } from '../../src/io/disk.js';
import { SimProcess, SimScheduler } from '../fixtures/sim-clock.js';

/** A journal, what was written of it, and the end of the flush under way. */
class Rig {
  readonly written: string[] = [];
  readonly extra: JournalEntry[] = [];
  /** Of each flush: whether it might hold up the event loop. */
  readonly inPlace: boolean[] = [];
  readonly #flushes: (() => void)[] = [];
  readonly journal = new Journal({
    file: {
      writeSync: () => {},
      datasync: (alone: boolean, done: (error: null) => void) => {
        this.inPlace.push(alone);
        this.#flushes.push(() => done(null));
      },
    } as unknown as DiskFile,
    clock: new SimProcess(new SimScheduler()).clock,
    incarnation: '1'.repeat(32) as Incarnation,
    journalBytes: JOURNAL_MIN_BYTES,
    lapBytes: Number.POSITIVE_INFINITY,
    lap: 1,
    sequence: 1,
    onLap: () => {},
    extra: () => this.extra.splice(0),
    onSettled: () => {},
    onFailure: (error) => {
      throw error;
    },
  });

  entry(name: string): JournalEntry {
    return {
      segment: '2'.repeat(32) as SegmentId,
      entryType: EntryType.length,
      parts: [Buffer.from(name)],
      bytes: name.length,
      written: () => this.written.push(name),
    };
  }

  flushed(): boolean {
    const flush = this.#flushes.shift();
    flush?.();
    return flush !== undefined;
  }
}

t.test('an entry that may wait joins the next group, and makes none', async (t) => {
  const rig = new Rig();
  rig.extra.push(rig.entry('length'));
  t.notOk(rig.flushed());
  rig.journal.submit(rig.entry('append'));
  t.ok(rig.flushed());
  t.same(rig.written, ['append', 'length']);
});

t.test('one that has waited long enough is written although a group was under way', async (t) => {
  const rig = new Rig();
  rig.journal.submit(rig.entry('append'));
  rig.extra.push(rig.entry('length'));
  rig.journal.submitExtra();
  t.ok(rig.flushed());
  t.same(rig.written, ['append']);
  t.ok(rig.flushed(), 'a group of its own follows');
  t.same(rig.written, ['append', 'length']);
  rig.journal.submitExtra();
  t.notOk(rig.flushed(), 'nothing waits: no group');
  t.ok(rig.journal.idle);
});

t.test('small groups are flushed in place, and after a large one first a small one', async (t) => {
  const rig = new Rig();
  rig.journal.submit(rig.entry('first'));
  // What comes while a flush is under way is the next group.
  for (const count of [3, 4, 1, 1]) {
    for (let i = 0; i < count; i++) rig.journal.submit(rig.entry('more'));
    t.ok(rig.flushed());
  }
  t.same(rig.inPlace, [true, true, false, false, true]);
});
