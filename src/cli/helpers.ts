/**
 * `holdfast helpers`: puts the helpers of mount(8) and umount(8) where these look for them, so that
 * fstab, `mount -t fuse.holdfast` and plain `umount` work. They know where this program is.
 */
import { readFileSync, rmSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { invalid } from '../core/errors.js';
import { replaceDurably } from './durable-file.js';
import { mainScript, rootOnly } from './machine.js';
import { addExamples, printResult } from './output.js';

const HELPERS = ['mount.fuse.holdfast', 'umount.fuse.holdfast'] as const;
/** mount(8) looks nowhere else. */
const DEFAULT_DIRECTORY = '/sbin';
/** The line that finds the program while a helper is not installed. */
const PROGRAM_LINE = /^holdfast\(\) \{.*$/m;

interface HelpersOptions {
  readonly directory: string;
  readonly json?: boolean;
}

export function addHelpersCommands(program: Command): void {
  const helpers = program
    .command('helpers')
    .description('install the helpers of mount(8) and umount(8), for fstab');
  const shared = (command: Command): Command =>
    command
      .option('--directory <dir>', 'where they go', DEFAULT_DIRECTORY)
      .option('--json', 'print JSON');
  const installs = shared(helpers.command('install'))
    .description('install or replace them')
    .action((options: HelpersOptions) => install(options));
  addExamples(installs, [
    ['Then this works', 'mount -t fuse.holdfast db /mnt/db -o metadata=etcd://HOST:2379'],
  ]);
  const removes = shared(helpers.command('remove'))
    .description('remove them')
    .action((options: HelpersOptions) => remove(options));
  addExamples(removes, [['From where they were installed', 'holdfast helpers remove']]);
}

function install({ directory, json }: HelpersOptions): void {
  const paths = HELPERS.map((name) => join(resolve(directory), name));
  if (!statSync(directory, { throwIfNoEntry: false })?.isDirectory()) {
    throw invalid(`${directory} is not a directory`);
  }
  const command = [process.execPath, mainScript()].map(quoted).join(' ');
  for (const [at, name] of HELPERS.entries()) {
    const source = fileURLToPath(new URL(`../../../libexec/${name}`, import.meta.url));
    const text = readFileSync(source, 'utf8').replace(
      PROGRAM_LINE,
      () => `holdfast() { exec ${command} "$@"; }`,
    );
    writeOut(paths[at] as string, text);
  }
  printResult(json === true, { installed: paths }, `installed ${paths.join(' and ')}`);
}

function writeOut(path: string, text: string): void {
  rootOnly(`${path} cannot be written`, () => replaceDurably(path, text, 0o755));
}

function remove({ directory, json }: HelpersOptions): void {
  const paths = HELPERS.map((name) => join(resolve(directory), name));
  for (const path of paths) {
    rootOnly(`${path} cannot be removed`, () => rmSync(path, { force: true }));
  }
  printResult(json === true, { removed: paths }, `removed ${paths.join(' and ')}`);
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
