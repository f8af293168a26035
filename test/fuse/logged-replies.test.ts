/** Replies behind a real intent log whose file or history fails. */
import { test } from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import type { OwnerId, VolumeId } from '../../src/core/ids.js';
import { LoggedReplies } from '../../src/fuse/logged-replies.js';
import { IntentLog } from '../../src/volume/intent-log.js';
import { MemoryIntents } from '../volume/memory-intents.js';

class Bench {
  readonly intents = new MemoryIntents();
  readonly sent: number[] = [];
  readonly turns: (() => void)[] = [];
  readonly log: IntentLog;
  readonly replies: LoggedReplies;

  constructor() {
    const volume = '000102030405060708090a0b0c0d0e0f' as VolumeId;
    const owner = '101112131415161718191a1b1c1d1e1f' as OwnerId;
    this.log = new IntentLog({
      file: this.intents.create(),
      identity: { volume, owner, epoch: 7, mount: 'feed' },
      endOfTurn: (run) => this.turns.push(run),
    });
    this.log.establish();
    this.replies = new LoggedReplies(this.log, ({ unique }) => this.sent.push(unique.low));
  }

  turn(): void {
    for (const run of this.turns.splice(0)) run();
  }

  /** A request that changed something is answered at once. */
  change(lsn: number, request: number): void {
    this.log.operation(lsn, { type: 'free', inode: request });
    this.answer(request);
  }

  answer(request: number): void {
    const head = Buffer.alloc(16, request);
    const unique = { low: request, high: 0 };
    this.replies.give({ unique, head, length: 16, parts: [], heldBytes: 0 }, true);
  }
}

test('a write is answered at the commit that the replies before it wait for', async (t) => {
  const bench = new Bench();
  bench.intents.error = new HoldfastError('DISK_FULL', 'no room in memory');
  bench.change(1, 10);
  bench.turn();
  t.same(bench.sent, [], 'without the file it waits for the log');
  bench.log.committed(1);
  bench.answer(11);
  t.same(bench.sent, [], 'not before those that were given before it');
  bench.turn();
  t.same(bench.sent, [10, 11]);
});

test('when the log fails, writes that waited for it are answered after the others', async (t) => {
  const bench = new Bench();
  bench.intents.error = new HoldfastError('DISK_FULL', 'no room in memory');
  bench.change(1, 10);
  bench.turn();
  bench.log.abandon();
  bench.answer(11);
  bench.turn();
  t.same(bench.sent, [10, 11]);
});
