/** `holdfast cluster set`: what repair and scrub may take, and how long repair waits. */
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
  readonly scrubInterval?: string;
  readonly scrubRate?: string;
}

export function addClusterSetCommand(cluster: Command): void {
  const set = sessionOptions(cluster.command('set'))
    .description('show and change the settings of the whole cluster')
    .option('--repair-grace <time>', 'how long a node may be away before it is repaired: 10m')
    .option('--repair-rate <size>', 'bytes a second that repair, drain and balance may copy: 64MiB')
    .option('--balance <on|off>', 'whether disks are kept evenly filled')
    .option('--scrub-interval <time|off>', 'every sealed copy is verified once in so long: 30d')
    .option('--scrub-rate <size>', 'bytes a second that each disk may read for that: 16MiB')
    .action((options: SetOptions) => change(options));
  addExamples(set, [
    ['What is set', 'holdfast cluster set'],
    ['Wait half an hour for a node, then copy fast', CHANGE],
    ['Verify everything once a week', 'holdfast cluster set --scrub-interval 7d'],
  ]);
}

const CHANGE = 'holdfast cluster set --repair-grace 30m --repair-rate 200MiB';

async function change(options: SetOptions): Promise<void> {
  const { repairGrace, repairRate, balance, scrubInterval, scrubRate } = options;
  if (balance !== undefined && balance !== 'on' && balance !== 'off') {
    throw invalid(`--balance "${balance}" is neither on nor off`);
  }
  const changes: Partial<ClusterSettings> = {
    ...given('repairGraceMs', repairGrace, (text) => parseDuration(text, '--repair-grace')),
    ...given('repairBytesPerSecond', repairRate, (text) => parseSize(text, '--repair-rate')),
    ...given('balance', balance, (text) => text === 'on'),
    ...given('scrubIntervalMs', scrubInterval, scrubIntervalOf),
    ...given('scrubBytesPerSecond', scrubRate, (text) => parseSize(text, '--scrub-rate')),
  };
  if (changes.repairBytesPerSecond === 0) throw invalid('--repair-rate 0: nothing would be copied');
  if (changes.scrubBytesPerSecond === 0) throw invalid('--scrub-rate 0: nothing would be read');
  await Session.run(options, async ({ store }) => {
    const isChange = Object.keys(changes).length > 0;
    const settings = await (isChange ? changeSettings(store, changes) : readSettings(store));
    const text = [
      `repair-grace  ${formatDuration(settings.repairGraceMs)}`,
      `repair-rate   ${formatSize(settings.repairBytesPerSecond)} a second`,
      `balance       ${settings.balance ? 'on' : 'off'}`,
      `scrub         ${scrubText(settings)}`,
    ].join('\n');
    printResult(options.json === true, settings, text);
  });
}

/** An empty text, as of a variable of a script that is not set, is no setting that was left out. */
function given<Name extends keyof ClusterSettings>(
  name: Name,
  text: string | undefined,
  parse: (text: string) => ClusterSettings[Name],
): Partial<ClusterSettings> {
  return text === undefined ? {} : { [name]: parse(text) };
}

function scrubIntervalOf(text: string): number | null {
  if (text === 'off') return null;
  const ms = parseDuration(text, '--scrub-interval');
  if (ms === 0) throw invalid('--scrub-interval 0: to verify nothing on a schedule, say "off"');
  return ms;
}

/** For people: how often, how fast. */
export function scrubText(settings: ClusterSettings): string {
  const { scrubIntervalMs, scrubBytesPerSecond } = settings;
  if (scrubIntervalMs === null) return 'off';
  const rate = formatSize(scrubBytesPerSecond);
  return `every ${formatDuration(scrubIntervalMs)}, ${rate} a second on each disk`;
}
