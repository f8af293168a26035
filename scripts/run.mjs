// npm start, npm run sim|chaos|bench|build: brings setup and build up to date, then runs the
// program with the arguments that are left. Signals reach it, and its exit code is kept.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { build, compiled, ensureBuilt, fail, main, ROOT, run } from './lib.mjs';
import { checkNode, ensurePackages } from './setup.mjs';

const PROGRAMS = {
  start: { source: 'src/cli/main.ts', args: ['up'] },
  sim: { source: 'test/sim/main.ts', args: [] },
  chaos: { source: 'chaos/main.ts', args: [] },
  bench: { source: 'bench/main.ts', args: [] },
};

await main(async ([name, ...rest]) => {
  checkNode();
  await ensurePackages();
  if (name === 'build') return build();
  const program = PROGRAMS[name];
  if (program === undefined) {
    fail(`usage: node scripts/run.mjs build|${Object.keys(PROGRAMS).join('|')} [arguments]`);
  }
  if (!existsSync(join(ROOT, program.source))) fail(`there is no ${program.source} yet`);
  await ensureBuilt();
  const script = compiled(program.source);
  return run(process.execPath, ['--enable-source-maps', script, ...program.args, ...rest]);
});
