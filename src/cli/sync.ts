/** `holdfast sync`: what sync(2) cannot do for a FUSE mount. */
import type { Command } from 'commander';
import { parseSeconds } from '../core/durations.js';
import { syncMount } from '../lifecycle/mounts.js';
import { mountDeps } from './machine.js';
import { addExamples, printResult } from './output.js';

interface SyncOptions {
  readonly timeout: string;
  readonly json?: boolean;
}

export function addSyncCommand(program: Command): void {
  const command = program
    .command('sync <directory>')
    .description('wait until all changes of a mount are on stable storage')
    .option('--timeout <time>', 'how long that may take', '60s')
    .option('--json', 'print JSON')
    .action(async (directory: string, options: SyncOptions) => {
      const timeoutMs = parseSeconds(options.timeout, '--timeout');
      const { mount, volume, ...status } = await syncMount(mountDeps(process.env), directory, {
        timeoutMs,
      });
      const value = { mount, volume, directory: status.directory };
      printResult(options.json === true, value, `${volume} is committed`);
    });
  addExamples(command, [['After untarring something large', 'holdfast sync /mnt/db']]);
}
