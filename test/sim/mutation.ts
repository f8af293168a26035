/**
 * Shows that the simulator sees known bugs: each mutant is one change to the compiled product, made
 * in a copy, and must be caught by some seed of the same profile that the unchanged product passes.
 */
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Edit, MUTANTS, type Mutant } from './mutants.js';
import { runSeeds } from './runner.js';

/** The directory of compiled code that this file runs from: dist. */
const DIST = fileURLToPath(new URL('../..', import.meta.url));
const SEEDS_PER_MUTANT = 2_000;
const DEADLINE_MS = 1_200_000;

interface Outcome {
  readonly mutant: Mutant;
  readonly caughtAfter: number | null;
  readonly seconds: number;
  readonly how: string;
}

function projectRoot(): string {
  let at = DIST;
  while (!existsSync(join(at, 'package.json'))) at = dirname(at);
  return at;
}

/** A copy of the compiled code with the mutant's change in it. */
function mutate(mutant: Mutant): string {
  const root = mkdtempSync(join(tmpdir(), 'holdfast-mutant-'));
  cpSync(join(DIST, 'src'), join(root, 'dist/src'), { recursive: true });
  cpSync(join(DIST, 'test/sim'), join(root, 'dist/test/sim'), { recursive: true });
  cpSync(join(DIST, 'test/fixtures'), join(root, 'dist/test/fixtures'), { recursive: true });
  cpSync(join(projectRoot(), 'package.json'), join(root, 'package.json'));
  symlinkSync(join(projectRoot(), 'node_modules'), join(root, 'node_modules'));
  for (const edit of mutant.edits) {
    const path = join(root, 'dist/src', edit.file);
    writeFileSync(path, edited(mutant.name, edit, readFileSync(path, 'utf8')));
  }
  return root;
}

/** The source with one change of the mutant; throws unless its text occurs exactly once. */
export function edited(name: string, edit: Edit, source: string): string {
  const parts = source.split(edit.find);
  if (parts.length !== 2) {
    const times = parts.length - 1;
    throw new Error(`mutant "${name}": its text occurs ${times} times in ${edit.file}`);
  }
  return parts.join(edit.replace);
}

/** What is wrong with the mutants' texts in this build: none may have lost its place. */
export function misplaced(): string[] {
  const problems: string[] = [];
  for (const { name, edits } of MUTANTS) {
    for (const edit of edits) {
      try {
        edited(name, edit, readFileSync(join(DIST, 'src', edit.file), 'utf8'));
      } catch (error) {
        problems.push((error as Error).message);
      }
    }
  }
  return problems;
}

async function hunt(mutant: Mutant): Promise<Outcome> {
  const started = Date.now();
  const root = mutate(mutant);
  let tried = 0;
  try {
    while (tried < SEEDS_PER_MUTANT && Date.now() - started < DEADLINE_MS) {
      const first = tried + 1;
      const summary = await runSeeds({
        seeds: Array.from({ length: SEEDS_PER_MUTANT - tried }, (_, i) => String(first + i)),
        workers: 1,
        maxViolations: 1,
        deadlineMs: DEADLINE_MS - (Date.now() - started),
        workerPath: join(root, 'dist/test/sim/worker.js'),
      });
      tried += summary.seeds;
      const found = summary.violations[0];
      if (found === undefined) break;
      if (await failsUnchanged(found.seed)) continue;
      const { invariant, message } = found.violation ?? { invariant: 0, message: '' };
      const how = `invariant ${invariant}: ${message.split('\n')[0]}`;
      return { mutant, caughtAfter: tried, seconds: (Date.now() - started) / 1000, how };
    }
    const how = `${tried} seeds passed`;
    return { mutant, caughtAfter: null, seconds: (Date.now() - started) / 1000, how };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** What the unchanged product breaks as well shows nothing about the mutant. */
async function failsUnchanged(seed: string): Promise<boolean> {
  const summary = await runSeeds({ seeds: [seed], workers: 1, maxViolations: 1 });
  return summary.violations.length > 0;
}

/** Runs all mutants, two at a time; true when every one was caught. */
export async function runMutants(only: string | null): Promise<boolean> {
  const chosen = MUTANTS.filter((mutant) => only === null || mutant.name.includes(only));
  const problems = misplaced();
  for (const problem of problems) console.log(problem);
  if (problems.length > 0) return false;
  const queue = [...chosen];
  const outcomes: Outcome[] = [];
  const lane = async (): Promise<void> => {
    for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
      const outcome = await hunt(mutant);
      outcomes.push(outcome);
      const after =
        outcome.caughtAfter === null ? 'NOT CAUGHT' : `caught after ${outcome.caughtAfter} seeds`;
      console.log(
        `${mutant.name.padEnd(44)} ${after.padEnd(24)} ` +
          `${outcome.seconds.toFixed(1).padStart(6)} s  ${outcome.how}`,
      );
    }
  };
  await Promise.all([lane(), lane()]);
  const missed = outcomes.filter((outcome) => outcome.caughtAfter === null);
  console.log(`${outcomes.length - missed.length} of ${outcomes.length} mutants caught`);
  return missed.length === 0 && outcomes.length > 0;
}
