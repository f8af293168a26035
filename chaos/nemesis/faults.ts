/**
 * What the nemesis can do, by name. Each fault strikes, lasts as long as the nemesis wants, and
 * heals; what an application may notice of it is a pause. No fault damages more than one copy of
 * anything: those that destroy bytes (`destroys`) strike only while every segment has all its
 * copies, alone.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cut, Machine } from '../machines/network.js';
import { mountOf, type StorageMachine, type Volume } from '../machines/world.js';
import { kill } from '../mount.js';
import { rot, wipe } from './damage.js';
import type { Fault, Struck } from './fault.js';
import type { Field } from './field.js';

const PERCENT_LOST = [5, 20] as const;
const DELAY_MS = [10, 40] as const;
/** So little is left on a full disk. */
const FREE_MIB = 4;
const MIXES = { mixes: true } as const;
const done = (): Promise<void> => Promise.resolve();

const aNode = (field: Field): StorageMachine => field.one(field.world.storage);
const aVolume = (field: Field): Volume => field.one(field.world.volumes);

/** SIGSTOP, and SIGCONT. */
function paused(what: string, pid: number | undefined): Struck {
  const alive = pid ?? 0;
  if (alive <= 0) return { what: `${what} (gone)`, heal: done };
  kill(alive, 'SIGSTOP');
  return { what, heal: async () => kill(alive, 'SIGCONT') };
}

/** Something done to a machine's network. */
async function disturbed(
  machine: Machine,
  how: (machine: Machine) => Promise<void>,
): Promise<Struck> {
  await how(machine);
  return { what: machine.name, heal: () => machine.heal() };
}

function onNetwork(
  on: 'node' | 'owner',
  how: (machine: Machine, field: Field) => Promise<void>,
): Fault {
  const strike = (field: Field): Promise<Struck> => {
    const machine = on === 'node' ? aNode(field).machine : aVolume(field).client.machine;
    return disturbed(machine, () => how(machine, field));
  };
  return { on, mixes: true, strike };
}

const cut =
  (how: Cut) =>
  (machine: Machine): Promise<void> =>
    machine.cut(how);
const lossy = (machine: Machine, { choose }: Field): Promise<void> =>
  machine.lose(choose.between(...PERCENT_LOST));
const late = (machine: Machine, { choose }: Field): Promise<void> =>
  machine.delay(choose.between(...DELAY_MS));

/** SIGKILL of several nodes at once; they are started again. */
async function killNodes(field: Field, count: number): Promise<Struck> {
  const first = field.choose.below(field.world.storage.length);
  const { storage } = field.world;
  const these = storage.filter((_, at) => (at - first + storage.length) % storage.length < count);
  await Promise.all(these.map(({ node }) => node.kill()));
  const heal = async (): Promise<void> => {
    await Promise.all(these.map(({ node }) => node.start()));
  };
  return { what: these.map(({ machine }) => machine.name).join(', '), heal };
}

async function killMembers(field: Field, count: number): Promise<Struck> {
  const { etcd } = field.world;
  const first = field.choose.below(etcd.length);
  const these = etcd.filter((_, at) => (at - first + etcd.length) % etcd.length < count);
  await Promise.all(these.map((member) => member.kill()));
  const heal = async (): Promise<void> => {
    for (const member of these) member.start();
    await Promise.all(these.map((member) => member.ready()));
  };
  return { what: these.map(({ machine }) => machine.name).join(', '), heal };
}

/** A cable between one machine that mounts and one that stores. */
async function cutPair(field: Field): Promise<Struck> {
  const { machine } = aVolume(field).client;
  const other = aNode(field).machine;
  const how = field.one<Cut>(['both', 'deaf', 'mute']);
  await machine.cut(how, [other]);
  return { what: `${machine.name} and ${other.name}, ${how}`, heal: () => machine.heal() };
}

async function killDaemon(field: Field): Promise<Struck> {
  const volume = aVolume(field);
  // Where etcd is gone meanwhile, its successor waits for that.
  const adopted = mountOf(volume.client, volume.name).killDaemon();
  return { what: `${volume.name} on ${volume.client.machine.name}`, heal: adopted };
}

/** Its owner is cut off or stands still; then it comes back, and has nothing any more. */
async function takeOver(field: Field, how: 'cut off' | 'paused'): Promise<Struck> {
  const volume = aVolume(field);
  const { client } = volume;
  const { machine } = client;
  const { heal } =
    how === 'paused'
      ? paused('', mountOf(client, volume.name).daemonPid)
      : await disturbed(machine, () => machine.cut('both'));
  // Any longer than a read lease is long enough for it to be wrong about what it has.
  await sleep(field.choose.between(0, 3_000));
  const { arrive } = await field.takeOver(volume);
  return {
    what: `${volume.name} from ${machine.name}`,
    heal: async () => {
      await heal();
      await arrive();
    },
  };
}

/** Keeper and daemon end at once, as with their machine; another one takes the volume over. */
async function machineDied(field: Field): Promise<Struck> {
  const volume = aVolume(field);
  const mount = mountOf(volume.client, volume.name);
  const what = `${volume.name} from ${volume.client.machine.name}`;
  field.leave(volume);
  await mount.kill();
  const { arrive } = await field.takeOver(volume);
  await arrive();
  return { what, heal: done };
}

async function moved(field: Field): Promise<Struck> {
  const volume = aVolume(field);
  const from = volume.client.machine.name;
  await field.moveOrderly(volume);
  return { what: `${volume.name} from ${from}`, heal: done };
}

async function fullDisk(field: Field): Promise<Struck> {
  const { disk, machine } = aNode(field);
  await disk.fill(FREE_MIB);
  return { what: machine.name, heal: async () => disk.drain() };
}

export const FAULTS = {
  'node killed': { on: 'node', ...MIXES, strike: (field) => killNodes(field, 1) },
  'two nodes killed': { on: 'node', strike: (field) => killNodes(field, 2) },
  'node paused': {
    on: 'node',
    ...MIXES,
    strike: async (field) => {
      const { machine, node } = aNode(field);
      return paused(machine.name, node.process?.pid);
    },
  },
  'node cut off': onNetwork('node', cut('both')),
  'node deaf': onNetwork('node', cut('deaf')),
  'node mute': onNetwork('node', cut('mute')),
  'node loses packets': onNetwork('node', lossy),
  'node delayed': onNetwork('node', late),
  'disk full': { on: 'node', ...MIXES, strike: fullDisk },
  'bytes rotted': { on: 'node', destroys: true, strike: rot },
  'disk wiped': { on: 'node', destroys: true, strike: wipe },
  'etcd member killed': { on: 'etcd', ...MIXES, strike: (field) => killMembers(field, 1) },
  'etcd killed': { on: 'etcd', ...MIXES, strike: (field) => killMembers(field, 3) },
  'etcd member paused': {
    on: 'etcd',
    ...MIXES,
    strike: async (field) => {
      const member = field.one(field.world.etcd);
      return paused(member.machine.name, member.process?.pid);
    },
  },
  'etcd member cut off': {
    on: 'etcd',
    ...MIXES,
    strike: (field) => disturbed(field.one(field.world.etcd).machine, cut('both')),
  },
  'daemon killed': { on: 'owner', ...MIXES, strike: killDaemon },
  'daemon paused': {
    on: 'owner',
    ...MIXES,
    strike: async (field) => {
      const volume = aVolume(field);
      return paused(volume.name, mountOf(volume.client, volume.name).daemonPid);
    },
  },
  'machine cut off': onNetwork('owner', cut('both')),
  'machine deaf': onNetwork('owner', cut('deaf')),
  'machine mute': onNetwork('owner', cut('mute')),
  'machine loses packets': onNetwork('owner', lossy),
  'machine delayed': onNetwork('owner', late),
  'machine and node parted': { on: 'owner', ...MIXES, strike: cutPair },
  'volume moved': { on: 'volume', strike: moved },
  'taken over while cut off': { on: 'volume', strike: (field) => takeOver(field, 'cut off') },
  'taken over while paused': { on: 'volume', strike: (field) => takeOver(field, 'paused') },
  'machine died': { on: 'volume', strike: machineDied },
} as const satisfies Readonly<Record<string, Fault>>;

export type FaultName = keyof typeof FAULTS;
export const FAULT_NAMES = Object.keys(FAULTS) as readonly FaultName[];
