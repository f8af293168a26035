/**
 * Random searches for a sequence that fails, for as long as there is time. What is found is shrunk
 * and printed with the seed that finds it again:
 *
 *   HOLDFAST_SEED=n   begins with this seed      HOLDFAST_SECONDS=n   goes on for so long
 */
import fc from 'fast-check';
import { t as file, type Test } from 'tap';
import { cannotRun } from './posix-target.js';

const { HOLDFAST_SEED, HOLDFAST_SECONDS = '8' } = process.env;
const seconds = Number(HOLDFAST_SECONDS);
/** Sequences of one seed: so a failure is found again soon. */
const SEQUENCES = 20;
const SHRINK_MS = 60_000;

/** What tap has to know of such a test. */
export const search = { skip: cannotRun(), timeout: (seconds + 180) * 1000 };
file.setTimeout(2 * search.timeout);

export async function searchFor<T>(
  t: Test,
  sequences: fc.Arbitrary<T>,
  run: (sequence: T) => Promise<void>,
): Promise<void> {
  // Only one sequence runs at a time: an interrupted search leaves one that has to end first.
  let current: Promise<unknown> = Promise.resolve();
  const property = fc.asyncProperty(sequences, (sequence) => {
    const running = current.then(() => run(sequence));
    current = running.catch(() => {});
    return running;
  });
  const deadline = Date.now() + seconds * 1000;
  const first = Number(HOLDFAST_SEED ?? Date.now() % 2 ** 31);
  const parameters = { numRuns: SEQUENCES, interruptAfterTimeLimit: SHRINK_MS };
  let seed = first;
  let failure = '';
  for (; failure === '' && (seed === first || Date.now() < deadline); seed++) {
    const result = await fc.check(property, { ...parameters, seed });
    if (result.failed) failure = `${fc.defaultReportMessage(result)}\n${result.errorInstance}`;
  }
  await current;
  t.equal(failure, '', `no difference with seeds ${first} to ${seed - 1}`);
}
