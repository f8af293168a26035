/** `holdfast cluster set`: what repair of the whole cluster may take, and how long it waits. */
import type { Command } from 'commander';
import { formatDuration, parseDuration } from '../core/durations.js';
import { invalid } from '../core/errors.js';
import { formatSize, parseSize } from '../core/sizes.js';
import { type ClusterSettings, changeSettings, readSettings } from '../metadata/settings.js';
import { addExamples, printResult } from './output.js';
import { Session, type SessionOptions, sessionOptions } from './session.js';

interface SetOptions extends SessionOptions {
  readonly repairGrace?: string;
  readonly repairRate?: string;
  readonly balance?: string;
}

export function addClusterSetCommand(cluster: Command): void {
  const set = sessionOptions(cluster.command('set'))
    .description('show and change the settings of the whole cluster')
    .option('--repair-grace <time>', 'how long a node may be away before it is repaired: 10m')
    .option('--repair-rate <size>', 'bytes a second that repair, drain and balance may copy: 64MiB')
    .option('--balance <on|off>', 'whether disks are kept evenly filled')
    .action((options: SetOptions) => change(options));
  addExamples(set, [
    ['What is set', 'holdfast cluster set'],
    ['Wait half an hour for a node, then copy fast', CHANGE],
  ]);
}

const CHANGE = 'holdfast cluster set --repair-grace 30m --repair-rate 200MiB';

async function change(options: SetOptions): Promise<void> {
  const { repairGrace, repairRate, balance } = options;
  if (balance !== undefined && balance !== 'on' && balance !== 'off') {
    throw invalid(`--balance "${balance}" is neither on nor off`);
  }
  const changes: Partial<ClusterSettings> = {
    ...(repairGrace && { repairGraceMs: parseDuration(repairGrace, '--repair-grace') }),
    ...(repairRate && { repairBytesPerSecond: parseSize(repairRate, '--repair-rate') }),
    ...(balance && { balance: balance === 'on' }),
  };
  if (changes.repairBytesPerSecond === 0) throw invalid('--repair-rate 0: nothing would be copied');
  await Session.run(options, async ({ store }) => {
    const isChange = Object.keys(changes).length > 0;
    const settings = await (isChange ? changeSettings(store, changes) : readSettings(store));
    const text = [
      `repair-grace  ${formatDuration(settings.repairGraceMs)}`,
      `repair-rate   ${formatSize(settings.repairBytesPerSecond)} a second`,
      `balance       ${settings.balance ? 'on' : 'off'}`,
    ].join('\n');
    printResult(options.json === true, settings, text);
  });
}
