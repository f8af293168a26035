/** `holdfast volume set`: changes what can be changed of a volume at any time. */
import type { Command } from 'commander';
import { invalid } from '../core/errors.js';
import { COMMIT_INTERVAL_DEFAULT_MS } from '../core/limits.js';
import type { VolumeInfo } from '../lifecycle/volume-types.js';
import { lifecycleOf } from './lifecycle.js';
import { commitIntervalOf, wholeNumber } from './numbers.js';
import { addExamples, printResult } from './output.js';
import { Session, type SessionOptions, sessionOptions } from './session.js';
import { collect, parseLabels } from './text.js';

interface SetOptions extends SessionOptions {
  readonly ack?: string;
  readonly commitInterval?: string;
  readonly label?: readonly string[];
  readonly removeLabel?: readonly string[];
}

export function addSetCommand(volume: Command): void {
  const set = sessionOptions(volume.command('set <name>'))
    .description(
      'change labels, how often a volume commits, and how many copies an fsync waits for',
    )
    .option('--ack <count>', 'copies that an fsync waits for, from the next mount on')
    .option('--commit-interval <time>', 'changes without fsync are committed this often')
    .option('--label <key=value>', 'may be given several times', collect)
    .option('--remove-label <key>', 'may be given several times', collect)
    .action((name: string, options: SetOptions) => setVolume(name, options));
  addExamples(set, [
    ['All three copies at every fsync', 'holdfast volume set db --ack 3'],
    ['Lose at most a second', 'holdfast volume set db --commit-interval 1'],
    ['For "volume ls --label"', 'holdfast volume set db --label team=web --remove-label owner'],
  ]);
}

async function setVolume(name: string, options: SetOptions): Promise<void> {
  const { ack, commitInterval } = options;
  const settings = {
    ...commitIntervalOf(commitInterval),
    ...(ack === undefined ? {} : { ackQuorum: wholeNumber(ack, '--ack') }),
  };
  const labels: Record<string, string | null> = {
    ...Object.fromEntries((options.removeLabel ?? []).map((key) => [key, null])),
    ...parseLabels(options.label ?? []),
  };
  if (Object.keys({ ...settings, ...labels }).length === 0) {
    throw invalid('what is to be changed?', 'See "holdfast volume set --help".');
  }
  await Session.run(options, async (session) => {
    const { record } = await session.volumeNamed(name);
    const info = await lifecycleOf(session).modify(record.volume, { ...settings, labels });
    printResult(options.json === true, info, describe(info));
  });
}

function describe(info: VolumeInfo): string {
  const { name, ackQuorum, nextAckQuorum, commitIntervalMs, labels } = info;
  const next = nextAckQuorum === null ? '' : ` (${nextAckQuorum} from the next mount on)`;
  const every = (commitIntervalMs ?? COMMIT_INTERVAL_DEFAULT_MS) / 1000;
  const all = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  const labelled = all.length === 0 ? '' : `, labels ${all.join(' ')}`;
  return `volume ${name}: fsync waits for ${ackQuorum}${next}, commits every ${every} s${labelled}`;
}
