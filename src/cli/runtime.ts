/**
 * `holdfast runtime`: a copy of this very program, its packages and its Node.js in a directory of
 * the machine, one a version, so that mounts need nothing of the container that asked for them.
 *
 * INVARIANT: a version's directory is whole: filled beside, and renamed once it is on the disk.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { HoldfastError } from '../core/errors.js';
import { nodeClock } from '../io/node/clock.js';
import { NodeMachineCommands } from '../io/node/machine-commands.js';
import { StateFile } from '../lifecycle/keeper.js';
import { mountDeps } from './machine.js';
import { addExamples, printResult } from './output.js';
import { programVersion } from './version.js';

export const RUNTIME_DIRECTORY = '/var/lib/holdfast/runtime';
/** Somebody may be about to start something from what was just installed. */
const YOUNG_MS = 600_000;
const SYNC_MS = 120_000;

interface RuntimeOptions {
  readonly dir: string;
  readonly json?: boolean;
}

export function addRuntimeCommands(program: Command): void {
  const runtime = program
    .command('runtime')
    .description('copy this program to the machine, for mounts that outlive its container');
  const shared = (command: Command): Command =>
    command
      .option('--dir <directory>', 'where versions stand', RUNTIME_DIRECTORY)
      .option('--json', 'print JSON');
  const installs = shared(runtime.command('install'))
    .description('install this version, if it is not there')
    .action((options: RuntimeOptions) => install(options));
  addExamples(installs, [
    ['From a container that sees the directory', 'holdfast runtime install --dir /host/runtime'],
  ]);
  const prunes = shared(runtime.command('prune'))
    .description('remove the versions that nothing seen here uses; for the machine itself')
    .action((options: RuntimeOptions) => prune(options));
  addExamples(prunes, [['On the machine itself', 'holdfast runtime prune']]);
}

async function install(options: RuntimeOptions): Promise<void> {
  const root = resolve(options.dir);
  const installed = await installRuntime(root);
  const removed = seesUsers(root) ? pruneRuntimes(root, installed.version) : [];
  const { isNew, version, program } = installed;
  const text = isNew ? `installed ${version}: ${program}` : `${version} is there: ${program}`;
  const more = removed.length === 0 ? '' : `\nremoved ${removed.join(', ')}`;
  printResult(options.json === true, { ...installed, removed }, text + more);
}

function prune(options: RuntimeOptions): void {
  const removed = pruneRuntimes(resolve(options.dir), null);
  const text = removed.length === 0 ? 'every version is in use' : `removed ${removed.join(', ')}`;
  printResult(options.json === true, { removed }, text);
}

export interface InstalledRuntime {
  readonly version: string;
  readonly directory: string;
  /** Runs it. */
  readonly program: string;
  readonly isNew: boolean;
}

/** Rejects with UNAVAILABLE when the directory cannot be filled: nothing is left then. */
export async function installRuntime(root: string): Promise<InstalledRuntime> {
  const source = packageRoot();
  const packages = productionPackages(source);
  const version = versionOf(source, packages);
  const directory = join(root, version);
  const installed = { version, directory, program: join(directory, 'bin/holdfast') };
  if (existsSync(installed.program)) return { ...installed, isNew: false };
  const temporary = join(root, `.${version}.${randomBytes(4).toString('hex')}`);
  try {
    fill(temporary, source, packages);
    await flush(temporary);
    renameSync(temporary, directory);
    return { ...installed, isNew: true };
  } catch (thrown) {
    rmSync(temporary, { recursive: true, force: true });
    // Somebody else may have been faster.
    if (existsSync(installed.program)) return { ...installed, isNew: false };
    const message = `${directory} cannot be installed: ${(thrown as Error).message}`;
    throw new HoldfastError('UNAVAILABLE', message, { cause: thrown });
  }
}

/** The directory of package.json, three above this file as compiled. */
function packageRoot(): string {
  return realpathSync(fileURLToPath(new URL('../../../', import.meta.url)));
}

/** The tree of compiled files, such as dist/src. */
function compiledRoot(): string {
  return realpathSync(fileURLToPath(new URL('../', import.meta.url)));
}

/** Where each package that this program needs stands, and where it goes below the version. */
type Packages = ReadonlyMap<string, string>;

interface Manifest {
  readonly name?: string;
  readonly version?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

function manifestOf(directory: string): Manifest {
  return JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as Manifest;
}

/** As Node.js finds them: in node_modules of the package that asks, then of those above it. */
function productionPackages(root: string): Packages {
  const found = new Map<string, string>();
  const visit = (from: string): void => {
    const { dependencies = {}, optionalDependencies = {} } = manifestOf(from);
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
      const directory = findPackage(from, name);
      if (directory === null || found.has(directory)) continue;
      found.set(directory, placeOf(root, directory));
      visit(directory);
    }
  };
  visit(root);
  return found;
}

function findPackage(from: string, name: string): string | null {
  for (let at = from; ; at = dirname(at)) {
    const directory = join(at, 'node_modules', name);
    if (existsSync(join(directory, 'package.json'))) return directory;
    if (at === dirname(at)) return null;
  }
}

/** Those beside this package, where a package manager put them, come below it. */
function placeOf(root: string, directory: string): string {
  const inside = relative(root, directory);
  if (!inside.startsWith('..')) return inside;
  return directory.slice(directory.lastIndexOf('node_modules', directory.length));
}

/** Tells apart what differs in anything that is copied. */
function versionOf(source: string, packages: Packages): string {
  const hash = createHash('sha256').update(process.version);
  const compiled = compiledRoot();
  for (const file of filesBelow(compiled).sort()) {
    hash.update(relative(compiled, file)).update(readFileSync(file));
  }
  for (const [directory, place] of [...packages].sort()) {
    hash.update(`${place}@${manifestOf(directory).version ?? ''}`);
  }
  hash.update(readFileSync(join(source, 'package.json')));
  return `${programVersion()}-${hash.digest('hex').slice(0, 12)}`;
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return filesBelow(path);
    return path.endsWith('.map') ? [] : [path];
  });
}

function fill(target: string, source: string, packages: Packages): void {
  mkdirSync(join(target, 'bin'), { recursive: true, mode: 0o755 });
  copyFileSync(realpathSync(process.execPath), join(target, 'bin/node'));
  copyFileSync(join(source, 'package.json'), join(target, 'package.json'));
  const filter = (path: string): boolean => !path.endsWith('.map');
  cpSync(compiledRoot(), join(target, 'dist/src'), { recursive: true, dereference: true, filter });
  // What is read beside the compiled files, such as the definition of a protocol.
  for (const name of ['src', 'libexec']) {
    const from = join(source, name);
    if (!existsSync(from)) continue;
    const isData = (path: string): boolean => !path.endsWith('.ts');
    cpSync(from, join(target, name), { recursive: true, filter: isData });
  }
  for (const [directory, place] of packages) {
    // Packages inside of it are in the list themselves.
    const own = (path: string): boolean =>
      relative(directory, path).split('/')[0] !== 'node_modules';
    cpSync(directory, join(target, place), { recursive: true, dereference: true, filter: own });
  }
  writeFileSync(join(target, 'bin/holdfast'), WRAPPER, { mode: 0o755 });
}

const WRAPPER = `#!/bin/sh
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/node" "$here/../dist/src/cli/holdfast.cjs" "$@"
`;

/** A rename that survives a power cut must not be of files that do not. */
async function flush(directory: string): Promise<void> {
  const args = ['--file-system', directory];
  const { status, stderr } = await new NodeMachineCommands().run('sync', args, SYNC_MS);
  if (status !== 0) throw new Error(`it cannot be flushed: ${stderr}`);
}

/**
 * Whether what uses the versions in a directory is seen from here: it is the machine's own, by the
 * name that it has there. Whoever installs from a container, or by /proc/1/root, may see neither
 * the machine's processes nor its mounts.
 */
function seesUsers(root: string): boolean {
  if (root !== RUNTIME_DIRECTORY) return false;
  try {
    if (readlinkSync('/proc/self/ns/mnt') !== readlinkSync('/proc/1/ns/mnt')) return false;
    const table = mountDeps(process.env).host.mounts.table();
    // A part of another filesystem, as a container is given it.
    return !table.some(({ mountPoint, root: part }) => {
      return part !== '/' && mountPoint !== '/' && `${root}/`.startsWith(`${mountPoint}/`);
    });
  } catch {
    return false;
  }
}

/**
 * Removes versions that nothing uses, but `current`; returns which. Users are known by a version's
 * own name: the directory may be seen at another path here than there.
 */
export function pruneRuntimes(root: string, current: string | null): string[] {
  if (!existsSync(root)) return [];
  const used = usedPrograms();
  const now = nodeClock.wall();
  const names = readdirSync(root).filter((name) => {
    const path = join(root, name);
    if (name === current || now - statSync(path).mtimeMs < YOUNG_MS) return false;
    return !used.some((word) => word.includes(`/${name}/bin/`) || word.includes(`/${name}/dist/`));
  });
  for (const name of names) rmSync(join(root, name), { recursive: true, force: true });
  return names;
}

/**
 * Every word of the command lines that keepers would start a daemon with, and of all processes that
 * are seen here.
 */
function usedPrograms(): string[] {
  const { state } = mountDeps(process.env).host;
  const kept = state.list().flatMap((mount) => {
    return (state.read(mount, StateFile.PROGRAM) ?? '').split('\n');
  });
  const running = readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    } catch {
      return [];
    }
  });
  return [...kept, ...running, process.execPath];
}
