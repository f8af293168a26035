/**
 * `holdfast volume check` and `recover`, as the command line shows them. What they do is loaded
 * when it is asked for: it brings the log and the filesystem along, and every other command of
 * volumes starts in two thirds of the time without.
 */
import type { Command } from 'commander';
import { EXIT_PROBLEMS } from './errors.js';
import { addExamples } from './output.js';
import { sessionOptions } from './session.js';
import type { CheckOptions } from './volume-check.js';
import type { RecoverOptions } from './volume-recover.js';

const RECOVER = 'holdfast volume recover db';
const LOSSES = `What would be lost; exit code ${EXIT_PROBLEMS} when it is something`;

export function addIntegrityCommands(volume: Command): void {
  const check = sessionOptions(volume.command('check <name>'))
    .description('verify every structure and every page of every copy; repairs nothing')
    .option('--structures', 'without reading the pages of files')
    .option('--timeout <time>', 'how long taking the volume over may take', '60s')
    .action(async (name: string, options: CheckOptions) => {
      const { checkNamed } = await import('./volume-check.js');
      await checkNamed(name, options);
    });
  addExamples(check, [
    ['Everything; the volume must not be mounted', 'holdfast volume check db'],
    ['For scripts: exit code 0 when nothing was found', 'holdfast volume check db --json'],
  ]);
  const recover = sessionOptions(volume.command('recover <name>'))
    .description('say what of a volume is lost; with --accept-loss make it work without that')
    .option('--accept-loss', 'give up what is said to be lost, and make the rest work again')
    .option('--timeout <time>', 'how long taking the volume over may take', '60s')
    .action(async (name: string, options: RecoverOptions) => {
      const { recoverVolume } = await import('./volume-recover.js');
      await recoverVolume(name, options);
    });
  addExamples(recover, [
    [LOSSES, RECOVER],
    ['Nodes will never come back: go on without what only they had', `${RECOVER} --accept-loss`],
  ]);
}
