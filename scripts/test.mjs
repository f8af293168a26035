// npm test [-- path-filter …]: setup, build, check, the tests, the simulator. The last line is
// "N passed, N failed", with ", N skipped" where any were. Only assertions count, not the groups
// that they are in; a group that fails by itself (a crash, a time-out, a broken plan) is one more
// failure, and build, lint and simulator are one each.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { checkFormatAndLint } from './check.mjs';
import { ensureGoTools } from './go-tools.mjs';
import { build, compiled, filesUnder, main, ROOT, run, ScriptError, stoppedBy } from './lib.mjs';
import { checkNode, ensurePackages, ensureTestPackages, missingTestPackages } from './setup.mjs';

const SIMULATOR = 'test/sim/main.ts';
const SIMULATOR_RUNS = [['--seeds', '100']];
/** These start daemons and mostly wait for them: three at a time, after the others. */
const SYSTEMS = /^test\/(e2e|crash)\//;
/**
 * These load or fill the disk, measure how long something takes, or unmount what a test beside them
 * may have copied into a namespace of its own: one at a time, at the end.
 */
const ALONE = /^test\/(crash\/|e2e\/(sigkill|size|space)\.)/;
const NO_TESTS = 'no tests found'; // the parser's word for a file that printed nothing
/** How long a file may take that does not set a time-out of its own. */
const TIMEOUT_SECONDS = 300;
/** When a file is killed that did not even notice its time-out; the longest asks for an hour. */
const LIMIT_MS = 75 * 60_000;

const totals = { passed: 0, failed: 0, skipped: 0 };
const failures = [];

function record(name, ok) {
  if (ok) totals.passed++;
  else {
    totals.failed++;
    failures.push(name);
  }
}

async function stage(name, action) {
  console.log(`\n== ${name}`);
  const started = performance.now();
  await action();
  console.log(`== ${name}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

/** A stage that is one pass or one failure, by the exit code that its action returns. */
function checked(name, action) {
  return stage(name, async () => {
    const code = await action();
    record(name, code === 0);
    if (code !== 0) console.log(`FAILED ${name}: exit code ${code}`);
  });
}

function printFailure(names, result) {
  const diagnosis = { ...(result.diag ?? {}) };
  for (const noise of ['source', 'externalID', 'stdio', 'command', 'args', 'cwd']) {
    delete diagnosis[noise];
  }
  console.log(`FAILED ${[...names, result.name].join(' > ')}`);
  if (result.tapError) console.log(`       ${result.tapError}`);
  for (const [key, value] of Object.entries(diagnosis)) {
    const text = typeof value === 'string' ? value.trimEnd() : JSON.stringify(value);
    console.log(`       ${key}: ${text.replaceAll('\n', '\n         ')}`);
  }
}

/** Counts the assertions below a parser; returns the running counts of that subtree. */
function count(parser, names) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  let child; // the counts of the subtest that the next test point closes
  const add = (kind) => {
    counts[kind]++;
    totals[kind]++;
  };
  const failed = (result) => {
    add('failed');
    failures.push([...names, result.name].join(' > '));
    printFailure(names, result);
  };
  parser.on('child', (nested) => {
    child = count(nested, [...names, nested.name].filter(Boolean));
  });
  parser.on('assert', (result) => {
    const closes = result.closingTestPoint ? child : undefined;
    child = undefined;
    const inside = closes ?? { passed: 0, failed: 0, skipped: 0 };
    for (const kind of Object.keys(inside)) counts[kind] += inside[kind];
    const tested = inside.passed + inside.failed + inside.skipped > 0;
    if (result.skip || result.todo) {
      if (!tested) {
        add('skipped');
        const what = [...names, result.name].join(' > ');
        console.log(`skipped ${what}: ${result.skip || result.todo}`);
      }
    } else if (!result.ok) {
      if (inside.failed === 0) failed(result);
    } else if (closes === undefined) add('passed');
  });
  parser.on('bailout', (reason) => {
    if (parser.parent === null) failed({ name: `bail out: ${reason}` });
  });
  return counts;
}

/**
 * Runs one file as a program of its own. Not by "tap run": that has every process below it tell
 * which modules it loads, also those that a test starts, and so makes each start take three times
 * as long.
 */
async function runFile(source, Parser) {
  const name = compiled(source);
  const parser = new Parser();
  const counts = count(parser, [name]);
  const complete = new Promise((resolve) => parser.on('complete', resolve));
  const started = performance.now();
  const code = await run(process.execPath, ['--enable-source-maps', name], {
    capture: (chunk) => parser.write(chunk),
    env: { TAP_TIMEOUT: String(TIMEOUT_SECONDS) },
    limitMs: LIMIT_MS,
  });
  parser.end();
  const { ok, plan, failures: broken } = await complete;
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const reason = plan.skipReason === NO_TESTS ? '' : plan.skipReason;
  if (plan.skipAll && reason && code === 0) {
    totals.skipped++;
    console.log(`skipped ${name}: ${reason}`);
    return;
  }
  if ((!ok || code !== 0 || plan.skipAll) && counts.failed === 0) {
    const reasons = broken.map(({ tapError }) => tapError).filter(Boolean);
    if (plan.skipAll) reasons.push('it has no tests, and does not say why');
    record(name, false);
    counts.failed++;
    console.log(`FAILED ${[`${name}: exit code ${code}`, ...reasons].join('; ')}`);
  }
  const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : '';
  const word = counts.failed === 0 ? 'ok    ' : 'FAILED';
  console.log(`${word} ${name} (${counts.passed} passed${skipped}, ${seconds} s)`);
}

async function runFiles(sources, jobs) {
  const { Parser } = await import('tap-parser');
  const waiting = [...sources];
  const work = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      if (stoppedBy() !== null) return;
      await runFile(next, Parser);
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
}

async function runTests(filters) {
  const matches = (path) => filters.length === 0 || filters.some((text) => path.includes(text));
  const sources = filesUnder('test', /\.test\.ts$/).filter(matches);
  const alone = sources.filter((path) => ALONE.test(path));
  const systems = sources.filter((path) => SYSTEMS.test(path) && !ALONE.test(path));
  const units = sources.filter((path) => !SYSTEMS.test(path));
  if (units.length > 0) await stage('tests', () => runFiles(units, 3));
  if (systems.length > 0) await stage('tests of whole systems', () => runFiles(systems, 3));
  if (alone.length > 0) await stage('tests of space and of time', () => runFiles(alone, 1));
  if (sources.length === 0) record('no test file matches', false);
}

async function simulate() {
  if (!existsSync(join(ROOT, SIMULATOR))) return;
  for (const args of SIMULATOR_RUNS) {
    const command = ['--enable-source-maps', compiled(SIMULATOR), ...args];
    await checked(`simulator ${args.join(' ')}`, () => run(process.execPath, command));
  }
}

async function everything(filters) {
  const whole = filters.length === 0;
  await stage('setup', async () => {
    checkNode();
    if (whole) {
      ensureTestPackages();
      ensureGoTools();
    } else if (missingTestPackages().length > 0) {
      console.log(`not installed, some tests may need them: ${missingTestPackages().join(' ')}`);
    }
    await ensurePackages();
  });
  await checked('build and types', build);
  if (whole) await checked('format and lint', checkFormatAndLint);
  await runTests(filters);
  if (whole && stoppedBy() === null) await simulate();
  if (stoppedBy() !== null) record(`stopped by ${stoppedBy()}`, false);
}

await main(async (filters) => {
  try {
    await everything(filters);
  } catch (error) {
    console.error(error instanceof ScriptError ? `holdfast: ${error.message}` : error);
    record('npm test itself', false);
  }
  if (totals.passed + totals.failed === 0) record('no test ran', false);
  if (failures.length > 0) console.log(`\nfailed:\n${failures.map((f) => `  ${f}`).join('\n')}`);
  const skipped = totals.skipped > 0 ? `, ${totals.skipped} skipped` : '';
  console.log(`\n${totals.passed} passed, ${totals.failed} failed${skipped}`);
  return totals.failed === 0 ? 0 : 1;
});
