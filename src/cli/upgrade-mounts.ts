/** `holdfast upgrade-mounts`: running mounts go on with the installed version. */
import type { Command } from 'commander';
import { invalid } from '../core/errors.js';
import { type Upgraded, upgradeMount } from '../lifecycle/hand-over.js';
import { plainFault } from '../lifecycle/keeper.js';
import type { MountStatus } from '../lifecycle/mount-types.js';
import { findMount, listMounts, type MountsDeps } from '../lifecycle/mounts.js';
import { EXIT_PROBLEMS } from './errors.js';
import { mountDeps } from './machine.js';
import { addExamples, printResult } from './output.js';

interface UpgradeOptions {
  readonly all?: boolean;
  readonly json?: boolean;
}

export function addUpgradeMountsCommand(program: Command): void {
  const command = program
    .command('upgrade-mounts [directory]')
    .description('replace the daemons of mounts by this version; their users see a pause')
    .option('--all', 'all mounts of this machine, one after the other')
    .option('--json', 'print JSON')
    .action((directory: string | undefined, options: UpgradeOptions) =>
      upgradeMounts(directory, options),
    );
  addExamples(command, [
    ['After an upgrade of this program', 'holdfast upgrade-mounts --all'],
    ['One mount first', 'holdfast upgrade-mounts /mnt/db'],
  ]);
}

async function upgradeMounts(
  directory: string | undefined,
  options: UpgradeOptions,
): Promise<void> {
  const deps = mountDeps(process.env);
  const done: Upgraded[] = [];
  for (const status of await wanted(deps, directory, options.all === true)) {
    done.push(await upgradeMount(deps, status));
  }
  const plain = done.map(({ fault, ...one }) => {
    return { ...one, fault: fault === null ? null : plainFault(fault) };
  });
  const text = done.length === 0 ? 'nothing is mounted' : done.map(line).join('\n');
  printResult(options.json === true, plain, text);
  if (done.some(({ fault }) => fault !== null)) process.exitCode = EXIT_PROBLEMS;
}

async function wanted(
  deps: MountsDeps,
  directory: string | undefined,
  all: boolean,
): Promise<MountStatus[]> {
  if (all === (directory !== undefined)) {
    throw invalid('which mounts are meant?', 'Name a directory, or give --all.');
  }
  if (directory !== undefined) return [await findMount(deps, directory)];
  return (await listMounts(deps)).filter(({ state }) => state !== 'dead');
}

function line({ volume, directory, from, to, tookMs, fault }: Upgraded): string {
  const what = `${volume} at ${directory}`;
  if (fault === null) return `${what}: ${from} -> ${to}, ${(tookMs / 1000).toFixed(1)} s`;
  const hint = fault.hint === undefined ? '' : ` ${fault.hint}`;
  return `${what}: still ${from}: ${fault.message}.${hint}`;
}
