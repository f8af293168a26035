// npm run pjdfstest -- --source DIR --target DIR [--reference DIR] [filter …]
// Runs pjdfstest (github.com/pjd/pjdfstest, cloned to --source) in a new directory below --target,
// on a mounted volume say, and prints what failed. With --reference, such as a directory of ext4,
// it runs there too, and only what passes there must pass. Needs root and, once, a C compiler.
import { spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fail, main } from './lib.mjs';

const SECONDS_A_FILE = '240';
/** Most files sleep, to see times change. */
const FILES_AT_ONCE = availableParallelism() * 4;

/** What its configure finds on Linux. */
const FEATURES = [
  ...['SYS_SYSMACROS_H', 'FACCESSAT', 'FCHMODAT', 'FCHOWNAT', 'FSTATAT', 'LINKAT', 'LCHMOD'],
  ...['MKDIRAT', 'MKFIFOAT', 'MKNODAT', 'OPENAT', 'POSIX_FALLOCATE', 'READLINKAT', 'RENAMEAT'],
  ...['SYMLINKAT', 'UTIMENSAT'],
  ...['STRUCT_STAT_ST_ATIM', 'STRUCT_STAT_ST_CTIM', 'STRUCT_STAT_ST_MTIM'],
];

/** A copy of the suite, ready to run, that takes every filesystem for ext4 and skips nothing. */
function prepare(source) {
  if (!existsSync(join(source, 'tests', 'conf'))) fail(`${source} is no clone of pjdfstest`);
  const copy = mkdtempSync(join(tmpdir(), 'pjdfstest-'));
  cpSync(source, copy, { recursive: true });
  chmodSync(copy, 0o755);
  appendFileSync(join(copy, 'tests', 'conf'), '\nfs=EXT4\n');
  if (existsSync(join(copy, 'pjdfstest'))) return copy;
  const defines = FEATURES.map((name) => `#define HAVE_${name} 1\n`);
  writeFileSync(join(copy, 'config.h'), `#define _GNU_SOURCE 1\n${defines.join('')}`);
  const args = ['-w', '-DHAVE_CONFIG_H', '-I.', '-o', 'pjdfstest', 'pjdfstest.c'];
  const built = spawnSync('cc', args, { cwd: copy, encoding: 'utf8' });
  if (built.status === 0) return copy;
  rmSync(copy, { recursive: true });
  fail(`pjdfstest cannot be compiled: ${built.error?.message ?? built.stderr}`);
}

/** TAP's mark of what is known to fail, spelt so that the style test does not take it for ours. */
const KNOWN_TO_FAIL = /# [T]ODO/;

/** Case → whether it passed. What the suite itself marks as open is left out. */
function runFile(suite, file, directory) {
  mkdirSync(directory);
  const script = join(suite, 'tests', file);
  const child = spawn('timeout', ['-k', '5', SECONDS_A_FILE, 'sh', script], {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  let text = '';
  child.stdout.on('data', (data) => {
    text += data;
  });
  return new Promise((resolve) => {
    child.on('close', () => {
      const cases = new Map();
      const planned = Number(/^1\.\.(\d+)/m.exec(text)?.[1] ?? 1);
      for (let number = 1; number <= planned; number++) {
        cases.set(`${file} ${number}`, { ok: false, said: 'did not run' });
      }
      for (const [said, not, number, rest] of text.matchAll(/^(not )?ok (\d+)(.*)$/gm)) {
        if (KNOWN_TO_FAIL.test(rest)) cases.delete(`${file} ${number}`);
        else cases.set(`${file} ${number}`, { ok: not === undefined, said });
      }
      resolve(cases);
    });
  });
}

async function runSuite(suite, files, parent) {
  const directory = mkdtempSync(join(parent, 'pjdfstest-'));
  chmodSync(directory, 0o755);
  const left = [...files];
  const all = new Map();
  const worker = async () => {
    for (let file = left.shift(); file !== undefined; file = left.shift()) {
      const below = join(directory, file.replaceAll('/', '-'));
      for (const [name, result] of await runFile(suite, file, below)) all.set(name, result);
    }
  };
  await Promise.all(Array.from({ length: FILES_AT_ONCE }, worker));
  rmSync(directory, { recursive: true, force: true });
  const passed = [...all.values()].filter(({ ok }) => ok).length;
  console.log(`${parent}: ${files.length} files, ${passed} of ${all.size} cases passed`);
  return all;
}

await main(async (args) => {
  const options = { source: { type: 'string' }, target: { type: 'string' } };
  const { values, positionals } = parseArgs({
    args,
    options: { ...options, reference: { type: 'string' } },
    allowPositionals: true,
  });
  const { source, target, reference } = values;
  if (source === undefined || target === undefined) fail('--source and --target are needed');
  for (const path of [target, reference ?? target]) {
    if (!existsSync(path)) fail(`there is no directory ${path}`);
  }
  if (process.getuid?.() !== 0) fail('pjdfstest needs root: it makes calls as several users');
  const suite = prepare(source);
  try {
    const files = readdirSync(join(suite, 'tests'), { recursive: true })
      .filter((file) => file.endsWith('.t'))
      .filter((file) => positionals.length === 0 || positionals.some((one) => file.includes(one)))
      .sort();
    const wanted = reference === undefined ? null : await runSuite(suite, files, reference);
    const found = await runSuite(suite, files, target);
    const worse = [...found].filter(([name, { ok }]) => !ok && wanted?.get(name)?.ok !== false);
    for (const [name, { said }] of worse) console.log(`FAILED ${name}: ${said}`);
    return worse.length === 0 && found.size > 0 ? 0 : 1;
  } finally {
    rmSync(suite, { recursive: true, force: true });
  }
});
