// npm start, npm run sim|chaos|bench|build: brings setup and build up to date, then runs the
// program with the arguments that are left. Signals reach it, and its exit code is kept.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
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
  const options = ['--enable-source-maps'];
  if (name === 'bench') {
    // A log's owner lives in the benchmark's own process: it is to be what a mount daemon is.
    const { DAEMON_NODE_OPTIONS } = await import(
      pathToFileURL(compiled('src/cli/machine.ts')).href
    );
    options.push(...DAEMON_NODE_OPTIONS);
  }
  return run(process.execPath, [...options, compiled(program.source), ...program.args, ...rest]);
});
