// npm run check: types, format and lint, and the style tests. Prints what is wrong first and one
// line a stage last.
import { fileURLToPath } from 'node:url';
import { build, compiled, DIST, main, output, run, tool } from './lib.mjs';
import { checkNode, ensurePackages } from './setup.mjs';

export const STYLE_TESTS = ['test/style/imports.test.ts', 'test/style/tidy.test.ts'];

export async function checkFormatAndLint() {
  return run(tool('biome'), ['check', '--error-on-warnings', '--max-diagnostics=50', '.']);
}

/** Prints the failed assertions of a style test, which name file, line and breach. */
function checkStyle(source) {
  const args = ['--enable-source-maps', compiled(source)];
  const { code, text } = output(process.execPath, args, { TAP_TIMEOUT: '300' });
  if (code === 0) return 0;
  const breaches = text.split('\n').filter((line) => /^ {4}not ok /.test(line));
  const readable = breaches.map((line) => line.replace(/^ *not ok \d+ - /, '  '));
  console.log(`${source}:\n${readable.length > 0 ? readable.join('\n') : text}`);
  return code;
}

async function check() {
  checkNode();
  await ensurePackages();
  const results = [];
  const stage = async (name, action) => {
    const started = performance.now();
    const code = await action();
    results.push({ name, code, seconds: (performance.now() - started) / 1000 });
  };
  await stage(`types (tsc to ${DIST}/)`, build);
  await stage('format and lint (biome)', checkFormatAndLint);
  for (const source of STYLE_TESTS) await stage(source, () => checkStyle(source));
  const failed = results.filter((result) => result.code !== 0);
  console.log('\ncheck:');
  for (const { name, code, seconds } of results) {
    console.log(`  ${code === 0 ? 'ok    ' : 'FAILED'} ${name} (${seconds.toFixed(1)} s)`);
  }
  console.log(failed.length === 0 ? 'check passed' : `check failed: ${failed.length} stage(s)`);
  return failed.length === 0 ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(check);
