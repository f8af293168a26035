/**
 * What goes wrong. An interruption heals while the applications go on: all that they may notice is
 * a pause. A crash ends them, as it would end them on a real machine, and is followed by a start
 * and by the checks.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Chooser } from './recorded/random.js';
import type { System } from './system.js';

/** Longer than the read lease of 2 s: what slept has lost it. */
const PAUSE_MS = [500, 6_000] as const;
const DOWN_MS = [0, 3_000] as const;
const AFTERWARDS_MS = 500;

export interface Interruption {
  readonly name: string;
  /** Resolves once it has healed. */
  strike(system: System, choose: Chooser): Promise<void>;
}

export interface Crash {
  readonly name: string;
  /** Whatever was answered must be there afterwards, flushed or not. */
  readonly losesNothing?: boolean;
  strike(system: System): Promise<void>;
  /** Resolves when the volume is mounted again. */
  recover(system: System): Promise<void>;
}

export const INTERRUPTIONS: readonly Interruption[] = [
  {
    name: 'node killed',
    async strike(system, choose) {
      const node = aNode(system, choose);
      await node.kill();
      await sleep(choose.between(...DOWN_MS));
      await node.start();
    },
  },
  {
    name: 'node paused',
    async strike(system, choose) {
      const { process } = aNode(system, choose);
      process?.signal('SIGSTOP');
      await sleep(choose.between(...PAUSE_MS));
      process?.signal('SIGCONT');
    },
  },
  {
    name: 'mount daemon paused',
    async strike(system, choose) {
      process.kill(system.daemonPid, 'SIGSTOP');
      await sleep(choose.between(...PAUSE_MS));
      process.kill(system.daemonPid, 'SIGCONT');
    },
  },
  {
    name: 'mount daemon killed',
    strike: (system) => system.killDaemon(),
  },
  {
    name: 'etcd killed',
    async strike(system, choose) {
      const [member] = system.cluster.etcd.members;
      await member?.kill();
      await sleep(choose.between(...DOWN_MS));
      member?.start();
      await member?.ready();
    },
  },
];

export const CRASHES = {
  daemon: {
    name: 'mount daemon killed',
    losesNothing: true,
    // Applications go on, and are ended later, in the middle of what they do.
    strike: async (system) => {
      await system.killDaemon();
      await sleep(AFTERWARDS_MS);
    },
    recover: () => Promise.resolve(),
  },
  mount: {
    name: 'mount daemon and keeper killed',
    strike: (system) => system.killMount(),
    recover: (system) => system.mount(),
  },
  all: {
    name: 'everything killed',
    strike: (system) => system.killAll(),
    recover: (system) => system.startAll(),
  },
  power: {
    name: 'power cut',
    strike: (system) => system.cutPower(),
    recover: (system) => system.startFromCut(),
  },
} as const satisfies Readonly<Record<string, Crash>>;

function aNode(system: System, choose: Chooser): System['cluster']['nodes'][number] {
  const node = choose.of(system.cluster.nodes);
  if (node === undefined) throw new Error('there are nodes');
  return node;
}
