/** `holdfast volume fence`: shuts a volume's owner out, so that the volume can move. */
import type { Command } from 'commander';
import { parseSeconds } from '../core/durations.js';
import type { FenceOutcome } from '../lifecycle/volume-types.js';
import { lifecycleOf } from './lifecycle.js';
import { checkSession } from './node-secret.js';
import { addExamples, printResult } from './output.js';
import { Session, type SessionOptions, sessionOptions } from './session.js';

interface FenceOptions extends SessionOptions {
  readonly force?: boolean;
  readonly timeout: string;
}

export function addFenceCommand(volume: Command): void {
  const fence = sessionOptions(volume.command('fence <name>'))
    .description('shut out who has a volume: it can neither write nor read any more')
    .option('--force', 'also one that is alive and well; it loses what it has not committed')
    .option('--timeout <time>', 'how long the nodes may take', '30s')
    .action((name: string, options: FenceOptions) => fenceVolume(name, options));
  addExamples(fence, [
    ['After a machine was lost', 'holdfast volume fence db'],
    ['Although its mount answers', 'holdfast volume fence db --force'],
  ]);
}

async function fenceVolume(name: string, options: FenceOptions): Promise<void> {
  const timeoutMs = parseSeconds(options.timeout, '--timeout');
  await Session.run(options, async (session) => {
    const { record } = await session.volumeNamed(name);
    await checkSession(session);
    const lifecycle = lifecycleOf(session);
    const outcome = await lifecycle.fence(record.volume, {
      force: options.force === true,
      timeoutMs,
    });
    printResult(options.json === true, outcome, describe(outcome));
  });
}

function describe({ name, former, mounted, epoch }: FenceOutcome): string {
  if (former === null) return `volume ${name} has no owner: there is nobody to shut out`;
  const where = mounted === null ? '' : `, which had it at ${mounted.directory},`;
  return `${former}${where} is shut out of volume ${name}, whose epoch is ${epoch} now`;
}
