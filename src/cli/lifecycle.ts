/**
 * The volume lifecycle of a process: the cluster of its session, and this machine, by itself or by
 * the agent whose socket is there. Used by commands, the Docker plugin and the CSI driver.
 */
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { HoldfastError } from '../core/errors.js';
import type { Incarnation } from '../core/ids.js';
import { NodeMachineCommands } from '../io/node/machine-commands.js';
import type { NodeSpace } from '../lifecycle/catalog.js';
import { shutOut } from '../lifecycle/fence.js';
import { LocalMachine } from '../lifecycle/local-machine.js';
import type { MachineVolumes } from '../lifecycle/machine.js';
import type { MountStarter } from '../lifecycle/mount-once.js';
import { startMount } from '../lifecycle/start-mount.js';
import { StoredVolumes } from '../lifecycle/volume-lifecycle.js';
import type { Environment } from './config.js';
import { mountDeps } from './machine.js';
import { absoluteMetadata } from './mount-location.js';
import { ask, type ClusterLocation, Session, type SessionOptions } from './session.js';

const ANY_DISK = '0'.repeat(32) as Incarnation;

export interface LifecycleOptions {
  /** This machine's name; default: machineName(). */
  readonly machine?: string;
  /** How long to wait for another operation on the same volume; default: not at all. */
  readonly lockWaitMs?: number;
}

export interface OpenLifecycle {
  readonly lifecycle: StoredVolumes;
  readonly session: Session;
  close(): Promise<void>;
}

/** Opens what the options name. Throws as Session.open. */
export async function openLifecycle(
  options: SessionOptions,
  more: LifecycleOptions = {},
): Promise<OpenLifecycle> {
  const session = await Session.open(options);
  return { session, lifecycle: lifecycleOf(session, more), close: () => session.close() };
}

export function lifecycleOf(session: Session, options: LifecycleOptions = {}): StoredVolumes {
  const { clock, random, store, location, address } = session;
  const { lockWaitMs = 0 } = options;
  return new StoredVolumes({
    ...{ clock, random, store, lockWaitMs },
    machine: localMachine(location, process.env, options),
    space: () => freeSpace(session),
    shutOut: async (record, timeoutMs) => {
      const directory = await session.directory();
      const { log, clients: requests } = session;
      const deps = { clock, random, store, log, requests, directory };
      return await shutOut(deps, record, { address, timeoutMs });
    },
  });
}

/** HOLDFAST_MACHINE, or the host's name. */
export function machineName(env: Environment): string {
  const named = env.HOLDFAST_MACHINE;
  return named === undefined || named === '' ? hostname() : named;
}

/** What mounts and devices this process makes by itself. */
export function localMachine(
  { metadata, secretFile }: Pick<ClusterLocation, 'metadata' | 'secretFile'>,
  env: Environment,
  options: LifecycleOptions & { readonly starter?: MountStarter } = {},
): MachineVolumes {
  const deps = mountDeps(env);
  const starter: MountStarter = options.starter ?? {
    start: (request, signal) => startMount(deps, request, { signal }),
  };
  return new LocalMachine({
    ...{ host: deps.host, clock: deps.clock, starter, lockWaitMs: options.lockWaitMs ?? 0 },
    commands: new NodeMachineCommands(),
    name: options.machine ?? machineName(env),
    blockRoot: join(dirname(deps.host.state.path('')), 'block'),
    location: {
      metadata: absoluteMetadata(metadata),
      secretFile: secretFile === null ? null : resolve(secretFile),
    },
  });
}

/** Of the nodes that answer. */
async function freeSpace(session: Session): Promise<NodeSpace[]> {
  const directory = await session.directory();
  const live = directory.nodes().filter(({ node }) => directory.isLive(node));
  const answers = await Promise.all(
    live.map(async ({ node, address, zone }) => {
      try {
        const request = { type: 'status', incarnation: ANY_DISK } as const;
        const { body } = await ask(session.clients, { node, address }, request);
        if (body?.type !== 'status') return [];
        const healthy = body.disks.filter(({ state }) => state === 'ok');
        return [{ zone, freeBytes: healthy.reduce((sum, disk) => sum + disk.freeBytes, 0) }];
      } catch (thrown) {
        if (!(thrown instanceof HoldfastError)) throw thrown;
        return [];
      }
    }),
  );
  return answers.flat();
}
