/** `holdfast umount`: commits, unmounts, and waits until the volume is released. */
import type { Command } from 'commander';
import { stopMount } from '../lifecycle/mounts.js';
import { mountDeps } from './machine.js';
import { addExamples, printResult } from './output.js';
import { wholeNumber } from './volume.js';

interface UmountOptions {
  readonly lazy?: boolean;
  readonly timeout: string;
  readonly json?: boolean;
}

export function addUmountCommand(program: Command): void {
  const command = program
    .command('umount <directory>')
    .description('commit, unmount and release a volume')
    .option('--lazy', 'take it out of the tree at once; it ends with its last user')
    .option('--timeout <seconds>', 'how long the commit may take', '60')
    .option('--json', 'print JSON')
    .action((directory: string, options: UmountOptions) => umount(directory, options));
  addExamples(command, [
    ['When nobody uses it', 'holdfast umount /mnt/db'],
    ['Although somebody does', 'holdfast umount --lazy /mnt/db'],
  ]);
}

async function umount(directory: string, options: UmountOptions): Promise<void> {
  const timeoutMs = wholeNumber(options.timeout, '--timeout') * 1000;
  const lazy = options.lazy === true;
  const status = await stopMount(mountDeps(process.env), directory, { lazy, timeoutMs });
  const { volume, directory: where } = status;
  const text =
    status.state === 'dead'
      ? `cleared what a dead mount of ${volume} left at ${where}`
      : `${volume} is no longer mounted at ${where}`;
  printResult(options.json === true, { mount: status.mount, volume, directory: where }, text);
}
