// What the scripts share: where things are, how a command is run, and how the tree is built.
// Runs on a fresh clone, so nothing here may come from node_modules.
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { constants } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** The build's directory; HOLDFAST_DIST gives a private one, named dist-something. */
export const DIST = process.env.HOLDFAST_DIST ?? 'dist';

const SOURCE_DIRECTORIES = ['src', 'test', 'bench', 'chaos', 'scripts'];
const BUILD_INPUTS = ['package-lock.json', 'tsconfig.json'];
const FORWARDED_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR2'];
let stopSignal = null;

export class ScriptError extends Error {}

export function fail(message) {
  throw new ScriptError(message);
}

/** Runs a script's main function; an expected failure is one line and exit code 1. */
export async function main(run) {
  try {
    process.exitCode = await run(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof ScriptError)) throw error;
    console.error(`holdfast: ${error.message}`);
    process.exitCode = 1;
  }
}

export function tool(name) {
  return join(ROOT, 'node_modules', '.bin', name);
}

/** The exit code that a shell would report. */
function exitCode(code, signal) {
  return code ?? 128 + (constants.signals[signal] ?? 0);
}

/**
 * Runs a command with this terminal; signals pass through. With `capture`, its standard output
 * goes to that function instead; with `limitMs`, it is killed once it took that long.
 */
export function run(command, args, { capture, env, limitMs } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: ROOT,
      env: { ...process.env, ...env },
      stdio: ['inherit', capture === undefined ? 'inherit' : 'pipe', 'inherit'],
      ...(limitMs === undefined ? {} : { timeout: limitMs, killSignal: 'SIGKILL' }),
    });
    // A terminal sends Ctrl-C to the child as well, and twice may mean "at once" to it.
    const forward = (signal) => {
      if (signal !== 'SIGUSR2') stopSignal = signal;
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
    };
    for (const signal of FORWARDED_SIGNALS) process.on(signal, forward);
    child.stdout?.on('data', capture);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      for (const name of FORWARDED_SIGNALS) process.off(name, forward);
      resolve(exitCode(code, signal));
    });
  });
}

/** The signal by which somebody ended a command of `run`, and means the whole script; or null. */
export function stoppedBy() {
  return stopSignal;
}

/** Runs a command to its end and returns its exit code and everything it printed. */
export function output(command, args, env = {}) {
  const options = {
    cwd: ROOT,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  };
  const { status, signal, stdout, stderr, error } = spawnSync(command, args, options);
  if (error !== undefined) fail(`cannot run ${command}: ${error.message}`);
  return { code: exitCode(status, signal), text: `${stdout}${stderr}` };
}

export function filesUnder(directory, pattern) {
  const path = join(ROOT, directory);
  if (!existsSync(path)) return [];
  return readdirSync(path, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && pattern.test(entry.name))
    .map((entry) => relative(ROOT, join(entry.parentPath ?? entry.path, entry.name)))
    .sort();
}

export function sourceFiles() {
  return SOURCE_DIRECTORIES.flatMap((directory) => filesUnder(directory, /\.c?ts$/));
}

/** `test/x.ts` → `dist/test/x.js` */
export function compiled(source) {
  return join(DIST, source.replace(/ts$/, 'js'));
}

const STAMP = join(ROOT, DIST, '.built');

/** Whether a source was added, removed or changed since the last build without errors. */
export function buildIsFresh() {
  if (!existsSync(STAMP)) return false;
  const built = statSync(STAMP).mtimeMs;
  const sources = sourceFiles();
  if (readFileSync(STAMP, 'utf8') !== sources.join('\n')) return false;
  return [...sources, ...BUILD_INPUTS].every(
    (path) => statSync(join(ROOT, path), { throwIfNoEntry: false })?.mtimeMs < built,
  );
}

/** Compiles everything; type errors are printed, and what can be emitted is. */
export async function build() {
  const sources = sourceFiles();
  rmSync(STAMP, { force: true });
  removeOrphans(sources);
  const started = new Date();
  const code = await run(tool('tsc'), ['-p', '.', '--outDir', DIST]);
  if (code === 0) {
    linkProgram();
    writeFileSync(STAMP, sources.join('\n'));
    // A file saved while the compiler ran must count as newer than the build.
    utimesSync(STAMP, started, started);
  }
  return code;
}

/** Makes `npx holdfast` in this tree run what was just built, as in a project that installed it. */
function linkProgram() {
  const link = tool('holdfast');
  const program = join(ROOT, DIST, 'src', 'cli', 'holdfast.cjs');
  chmodSync(program, 0o755);
  rmSync(link, { force: true });
  symlinkSync(program, link);
}

export async function ensureBuilt() {
  if (buildIsFresh()) return;
  if ((await build()) !== 0) fail('the build failed; see the errors above');
}

/** Removes compiled files whose source is gone, so that nothing runs or ships a ghost. */
function removeOrphans(sources) {
  const expected = new Set(sources.map(compiled));
  let removed = 0;
  for (const path of filesUnder(DIST, /\.c?js$/)) {
    if (expected.has(path)) continue;
    rmSync(join(ROOT, path));
    rmSync(join(ROOT, `${path}.map`), { force: true });
    removed++;
  }
  // The compiler's own notes may claim that the removed files are still there.
  if (removed > 0) rmSync(join(ROOT, DIST, 'tsconfig.tsbuildinfo'), { force: true });
}
