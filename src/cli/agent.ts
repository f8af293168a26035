/**
 * `holdfast agent`: mounts volumes on behalf of drivers that live in containers, in the mount
 * namespace and cgroups of the machine, so that the mounts outlive the drivers and the agent.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { z } from 'zod';
import { invalid } from '../core/errors.js';
import { parseSize } from '../core/sizes.js';
import { GIB } from '../core/units.js';
import { nodeClock } from '../io/node/clock.js';
import { NodeMachineCommands } from '../io/node/machine-commands.js';
import { servePosts } from '../io/node/post-socket.js';
import { nodeRandom } from '../io/node/random.js';
import { Agent } from '../lifecycle/agent.js';
import { LaunchedMounts, type Scope } from '../lifecycle/launched-mounts.js';
import { AgentFiles } from './agent-files.js';
import { type Environment, parsed, resolveSettings } from './config.js';
import { aborted, untilInterrupted } from './interrupt.js';
import { AGENT_SOCKET, localMachine } from './lifecycle.js';
import { mountDeps, rootOnly } from './machine.js';
import { addExamples, printResult } from './output.js';
import { writableGroup } from './scopes.js';
import { programVersion } from './version.js';

const SCOPES = ['auto', 'systemd', 'cgroup', 'session'] as const;
const DEFAULT_MEMORY = '2GiB';
/** A program that uses an agent's socket may wait for this long for another operation. */
const LOCK_WAIT_MS = 20_000;
/** Calls under way at SIGTERM. */
const LAST_CALLS_MS = 20_000;
/** sd_booted(3). */
const SYSTEMD_MARK = '/run/systemd/system';

const schema = z.object({
  socket: z.string().startsWith('/', 'must be an absolute path').default(AGENT_SOCKET),
  scope: z.enum(SCOPES).default('auto'),
  memoryMax: parsed((text) => parseSize(text, 'memoryMax')).prefault(DEFAULT_MEMORY),
});

export interface AgentOptions {
  readonly socket?: string;
  readonly scope?: string;
  readonly memoryMax?: string;
  readonly config?: string;
  readonly json?: boolean;
}

export function addAgentCommand(program: Command): void {
  const agent = program
    .command('agent')
    .description('mount volumes for drivers that live in containers; runs on the machine itself')
    .option('--socket <file>', `where drivers find it (default: ${AGENT_SOCKET})`)
    .option('--scope <kind>', `what mounts run in: ${SCOPES.join(', ')} (default: auto)`)
    .option('--memory-max <size>', `of each mount's processes (default: ${DEFAULT_MEMORY})`)
    .option('--config <file>', 'JSON with these settings')
    .option('--json', 'print JSON')
    .action((options: AgentOptions) => serve(options));
  addExamples(agent, [
    ['As a service of the machine', 'holdfast agent'],
    ['Without systemd, in cgroups that can be made', 'holdfast agent --scope cgroup'],
  ]);
}

async function serve(options: AgentOptions): Promise<void> {
  const sources = { command: 'agent', flags: { ...options }, env: process.env };
  const { socket, scope: wanted, memoryMax } = resolveSettings(schema, sources);
  if (memoryMax < GIB / 4) throw invalid(`--memory-max: ${memoryMax} bytes`, 'At least 256MiB.');
  const scope = chooseScope(wanted, memoryMax);
  const { host } = mountDeps(process.env);
  const directory = join(dirname(host.state.path('')), 'agent');
  const files = rootOnly(`${directory} cannot be used`, () => new AgentFiles(directory));
  const starter = new LaunchedMounts({
    ...{ clock: nodeClock, random: nodeRandom, files, program: host.program, scope },
    commands: new NodeMachineCommands(),
    environment: launcherEnvironment(process.env),
  });
  const agent = new Agent({
    machine: localMachine(null, process.env, { starter, lockWaitMs: LOCK_WAIT_MS }),
    settle: (location) => files.settle(location),
    about: () => ({ version: programVersion(), pid: process.pid, scope: scope.type }),
  });
  const interrupted = untilInterrupted();
  const service = await servePosts(socket, async (path, body) => {
    return { ...(await agent.answer(path, body)), contentType: 'application/json' };
  });
  const text = `mounting for drivers that ask at ${socket}; each mount in a ${nameOf(scope)}`;
  printResult(options.json === true, { event: 'ready', socket, scope: scope.type }, text);
  await aborted(interrupted.signal);
  await Promise.race([
    service.close(),
    new Promise<void>((resolve) => nodeClock.after(LAST_CALLS_MS, resolve)),
  ]);
  // Mounts are served by processes of their own, and starts go on in theirs.
  process.exit(0);
}

function chooseScope(wanted: (typeof SCOPES)[number], memoryMaxBytes: number): Scope {
  const isBooted = existsSync(SYSTEMD_MARK);
  if (wanted === 'systemd' || (wanted === 'auto' && isBooted)) {
    if (isBooted) return { type: 'systemd', memoryMaxBytes };
    throw invalid('systemd does not run this machine', 'Choose another --scope.');
  }
  const root = wanted === 'session' ? null : writableGroup();
  if (root !== null) return { type: 'cgroup', root, memoryMaxBytes };
  if (wanted !== 'cgroup') return { type: 'session' };
  throw invalid('no group of cgroup v2 can be made here', 'Choose another --scope.');
}

function nameOf(scope: Scope): string {
  switch (scope.type) {
    case 'systemd':
      return 'service of systemd';
    case 'cgroup':
      return `cgroup below ${scope.root}`;
    default:
      return 'session of its own; it ends with the cgroup of this agent';
  }
}

function launcherEnvironment(env: Environment): Record<string, string> {
  const names = ['HOLDFAST_RUN_DIR', 'HOLDFAST_LOCAL_READS', 'HOLDFAST_LOW_LATENCY'];
  return Object.fromEntries(names.map((name) => [name, env[name] ?? '']).filter(([, v]) => v));
}
