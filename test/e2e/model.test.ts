/**
 * Random system calls on a mount and on a local directory at once: each must come to the same
 * value or errno, and the trees must be the same, also after remounts and crashes. On the volume in
 * memory checkpoints and cleaning happen all the time meanwhile.
 */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { run } from '../fixtures/processes.js';
import { type Answer, type Call, Syscalls } from '../fixtures/syscalls.js';
import { search, searchFor } from './model-search.js';
import { type Part, partsOf, sequences } from './model-steps.js';
import { startTarget, type Target } from './posix-target.js';

const MAX_STEPS = 80;

/** A directory, and a process that makes calls in it. */
interface Side {
  readonly syscalls: Syscalls;
  readonly directory: string;
}

class Comparison {
  #target: Target | null = null;
  #mounted: Syscalls | null = null;
  readonly #local: Side;
  #runs = 0;
  calls = 0;
  succeeded = 0;

  constructor() {
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-model-'));
    this.#local = { syscalls: new Syscalls(), directory };
  }

  async #sides(): Promise<{ target: Target; sides: Side[] }> {
    this.#target ??= await startTarget();
    this.#mounted ??= new Syscalls();
    const mounted = { syscalls: this.#mounted, directory: this.#target.directory };
    return { target: this.#target, sides: [mounted, this.#local] };
  }

  /** Runs one sequence in new directories; rejects at the first difference. */
  async sequence(parts: readonly Part[]): Promise<void> {
    const { target, sides } = await this.#sides();
    const name = `run${++this.#runs}`;
    try {
      await both(sides, ({ directory }) => [['mkdir', `${directory}/${name}`]]);
      for (const { before, calls } of parts) {
        await this.#between(before, target, sides);
        await this.#part(sides, name, calls);
      }
      await both(sides, ({ directory }) => [['remove', `${directory}/${name}`]]);
    } catch (error) {
      // What is left of the mount may be broken: the next, shorter sequence gets a new one.
      await this.#giveUp();
      throw error;
    }
  }

  async #between(before: Part['before'], target: Target, sides: readonly Side[]): Promise<void> {
    if (before === null) return;
    if (before === 'crash') {
      const directory = target.directory;
      await both(sides.slice(0, 1), () => [
        ['open', 'root', directory, 'O_RDONLY'],
        ['fsync', 'root'],
        ['release'],
      ]);
    }
    await (before === 'crash' ? target.crash() : target.remount());
  }

  async #part(sides: readonly Side[], name: string, calls: readonly Call[]): Promise<void> {
    const enter = ({ directory }: Side): Call[] => [['chdir', `${directory}/${name}`]];
    const all: Call[] = [...calls, ['tree'], ['release']];
    const answers = await both(sides, (side) => [...enter(side), ...all], 1);
    this.calls += answers.length;
    this.succeeded += answers.filter((answer) => 'v' in answer).length;
  }

  async #giveUp(): Promise<void> {
    await this.#mounted?.end();
    await this.#target?.end();
    await this.#local.syscalls.run([['release']]);
    this.#mounted = null;
    this.#target = null;
  }

  /** After all is removed nothing may be left of it. */
  async end(): Promise<unknown> {
    const { target } = await this.#sides();
    await target.remount();
    const stats = await target.stats();
    await this.#giveUp();
    await this.#local.syscalls.end();
    await run('rm', '-rf', this.#local.directory);
    return stats;
  }
}

/** Makes calls on all sides and compares the answers from number `from` on. */
async function both(
  sides: readonly Side[],
  callsOf: (side: Side) => readonly Call[],
  from = 0,
): Promise<Answer[]> {
  const calls = sides.map(callsOf);
  const answers = await Promise.all(
    sides.map((side, index) => side.syscalls.run(calls[index] as Call[])),
  );
  const [mounted = [], local = mounted] = answers as [Answer[], Answer[]?];
  for (const [index, answer] of mounted.entries()) {
    const [found, wanted] = [JSON.stringify(answer), JSON.stringify(local[index])];
    if (index < from || found === wanted) continue;
    const said = calls[0]?.slice(0, index + 1).map((call) => JSON.stringify(call));
    throw new Error(`found ${found}\nwanted ${wanted}\nat ${said?.join('\n   ')}`);
  }
  return mounted;
}

test('a mount does what a local directory does', search, async (t) => {
  const comparison = new Comparison();
  await searchFor(t, sequences(MAX_STEPS), (steps) => comparison.sequence(partsOf(steps)));
  const { calls, succeeded } = comparison;
  t.comment(`${calls} calls, of which ${succeeded} succeeded`);
  const stats = await comparison.end();
  if (stats !== null) t.match(stats, { inodes: 1, orphans: 0, usedBytes: 256, failure: null });
});
