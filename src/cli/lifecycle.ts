/**
 * The volume lifecycle of a process: the cluster of its session, and this machine, by itself or by
 * the agent whose socket is there. Used by commands, the Docker plugin and the CSI driver.
 */
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { NODE_STATUS } from '../block/wire/messages.js';
import { HoldfastError } from '../core/errors.js';
import { NodeMachineCommands } from '../io/node/machine-commands.js';
import { postTo } from '../io/node/post-client.js';
import { AgentMachine } from '../lifecycle/agent-client.js';
import { pathOf } from '../lifecycle/agent-protocol.js';
import type { NodeTold } from '../lifecycle/catalog.js';
import { shutOut } from '../lifecycle/fence.js';
import { LocalMachine } from '../lifecycle/local-machine.js';
import type { MachineVolumes } from '../lifecycle/machine.js';
import type { MountStarter } from '../lifecycle/mount-once.js';
import { startMount } from '../lifecycle/start-mount.js';
import { StoredVolumes } from '../lifecycle/volume-lifecycle.js';
import type { MountLocation } from '../lifecycle/volume-types.js';
import { portableLocation } from './agent-files.js';
import type { Environment } from './config.js';
import { mountDeps } from './machine.js';
import { absoluteMetadata } from './mount-location.js';
import { ask, type ClusterLocation, Session, type SessionOptions } from './session.js';

export const AGENT_SOCKET = '/run/holdfast/agent.sock';
/** Mounting may wait for another machine, and for a takeover. */
const AGENT_CALL_MS = 300_000;

export interface LifecycleOptions {
  /** This machine's name; default: machineName(). */
  readonly machine?: string;
  /** How long to wait for another operation on the same volume; default: not at all. */
  readonly lockWaitMs?: number;
  /**
   * The socket of an agent that mounts for this process; `auto`: the usual one, if it is there by
   * now. Default: this process mounts by itself.
   */
  readonly agent?: string;
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
  machine?: MachineVolumes,
): Promise<OpenLifecycle> {
  const session = await Session.open(options);
  const lifecycle = lifecycleOf(session, more, machine);
  return { session, lifecycle, close: () => session.close() };
}

export function lifecycleOf(
  session: Session,
  options: LifecycleOptions = {},
  machine = machineOf(session.location, process.env, options),
): StoredVolumes {
  const { clock, random, store, address } = session;
  const { lockWaitMs = 0 } = options;
  return new StoredVolumes({
    ...{ clock, random, store, lockWaitMs, machine },
    ask: () => askNodes(session),
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

/** This machine: by its agent or by this process, as the options say. */
export function machineOf(
  location: Pick<ClusterLocation, 'metadata' | 'secretFile'>,
  env: Environment,
  options: LifecycleOptions = {},
): MachineVolumes {
  const { agent } = options;
  const socket = agent === 'auto' ? (existsSync(AGENT_SOCKET) ? AGENT_SOCKET : null) : agent;
  if (socket == null) return localMachine(location, env, options);
  return new AgentMachine({
    name: options.machine ?? machineName(env),
    location: () => portableLocation(absoluteLocation(location), env),
    call: async (call, body) => (await postTo(socket, pathOf(call), body, AGENT_CALL_MS)).body,
  });
}

/** What mounts and devices this process makes by itself; without a location, as requests say. */
export function localMachine(
  location: Pick<ClusterLocation, 'metadata' | 'secretFile'> | null,
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
    location: location === null ? null : absoluteLocation(location),
  });
}

function absoluteLocation({
  metadata,
  secretFile,
}: Pick<ClusterLocation, 'metadata' | 'secretFile'>): MountLocation {
  return {
    metadata: absoluteMetadata(metadata),
    secretFile: secretFile === null ? null : resolve(secretFile),
  };
}

/** What the nodes that answer tell. */
export async function askNodes(session: Session): Promise<NodeTold[]> {
  const directory = await session.directory();
  const live = directory.nodes().filter(({ node }) => directory.isLive(node));
  const answers = await Promise.all(
    live.map(async ({ node, address, zone }) => {
      try {
        const { body } = await ask(session.clients, { node, address }, NODE_STATUS);
        if (body?.type !== 'status') return [];
        const healthy = body.disks.filter(({ state }) => state === 'ok');
        const freeBytes = healthy.reduce((sum, disk) => sum + disk.freeBytes, 0);
        return [{ zone, freeBytes, wallMs: body.wallMs }];
      } catch (thrown) {
        if (!(thrown instanceof HoldfastError)) throw thrown;
        return [];
      }
    }),
  );
  return answers.flat();
}
