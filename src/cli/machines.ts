/** `holdfast machines`: where volumes can be mounted, as the drivers there have registered. */
import type { Command } from 'commander';
import { HoldfastError } from '../core/errors.js';
import type { Attachment, MachineRecord } from '../lifecycle/volume-types.js';
import { everyVolume } from '../lifecycle/volumes.js';
import { lifecycleOf } from './lifecycle.js';
import { addExamples, printResult } from './output.js';
import { Session, type SessionOptions, sessionOptions } from './session.js';
import { table } from './text.js';

export function addMachinesCommands(program: Command): void {
  const machines = program
    .command('machines')
    .description('list the machines that drivers have registered, and forget lost ones');
  const ls = sessionOptions(machines.command('ls'))
    .description('list them, with the volumes that are attached to each')
    .action((options: SessionOptions) => list(options));
  addExamples(ls, [['For scripts', 'holdfast machines ls --json']]);
  const rm = sessionOptions(machines.command('rm <machine>'))
    .description('forget a machine that will not come back')
    .action((machine: string, options: SessionOptions) => forget(machine, options));
  addExamples(rm, [['After its volumes were detached', 'holdfast machines rm worker-3']]);
}

interface Listed extends MachineRecord {
  readonly volumes: readonly string[];
}

async function list(options: SessionOptions): Promise<void> {
  await Session.run(options, async (session) => {
    const lifecycle = lifecycleOf(session);
    const [machines, volumes] = await Promise.all([lifecycle.machines(), everyVolume(lifecycle)]);
    const isAt = (attachments: readonly Attachment[], machine: string): boolean =>
      attachments.some((one) => one.machine === machine);
    const all = machines.map((record): Listed => {
      const attached = volumes.filter(({ attachments }) => isAt(attachments, record.machine));
      return { ...record, volumes: attached.map(({ name }) => name).sort() };
    });
    const rows = all.map(({ machine, zone, registeredAt, volumes: names }) => {
      return [machine, zone ?? '-', registeredAt, names.join(' ') || '-'];
    });
    printResult(options.json === true, all, table(['MACHINE', 'ZONE', 'SINCE', 'VOLUMES'], rows));
  });
}

async function forget(machine: string, options: SessionOptions): Promise<void> {
  await Session.run(options, async (session) => {
    const lifecycle = lifecycleOf(session);
    // Drivers may call it again; who types a name wants to know that it is not the right one.
    if ((await lifecycle.machines()).every((one) => one.machine !== machine)) {
      const hint = 'See "holdfast machines ls".';
      throw new HoldfastError('NOT_FOUND', `there is no machine "${machine}"`, { hint });
    }
    await lifecycle.forgetMachine(machine);
    printResult(options.json === true, { machine }, `machine ${machine} is forgotten`);
  });
}
