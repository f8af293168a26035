/**
 * Mounts whose processes belong to nobody's container: the launcher of each, and with it its keeper
 * and daemon, runs in a scope of its own. With systemd that is a transient service; else a cgroup
 * of its own where these can be made; else at least a session of its own. The launcher is this
 * program with a request in a file, and leaves its result in another: whoever started it may die.
 */
import { HoldfastError } from '../core/errors.js';
import type { Clock } from '../io/clock.js';
import type { CommandOutput, MachineCommands } from '../io/machine-commands.js';
import type { Random } from '../io/random.js';
import { resultOf } from './agent-protocol.js';
import type { MountStarter } from './mount-once.js';
import type { MountRequest, MountStatus } from './mount-types.js';
import { StartTurns } from './start-turns.js';

export type Scope =
  | { readonly type: 'systemd'; readonly memoryMaxBytes: number }
  /** `root` is a directory of cgroup v2 below which groups can be made. */
  | { readonly type: 'cgroup'; readonly root: string; readonly memoryMaxBytes: number }
  | { readonly type: 'session' };

/** Files that a launcher reads and leaves. */
export interface LaunchFiles {
  /** Where a request stands; its result will stand beside it, at `result`. */
  write(id: string, request: string): { readonly request: string; readonly result: string };
  /** Null: there is none yet. */
  readResult(id: string): string | null;
  remove(id: string): void;
}

export interface LaunchDeps {
  readonly commands: MachineCommands;
  readonly clock: Clock;
  readonly random: Random;
  readonly files: LaunchFiles;
  /** The command line that runs this program. */
  readonly program: readonly string[];
  /** What daemons need of the environment. */
  readonly environment: Readonly<Record<string, string>>;
  readonly scope: Scope;
}

/** The hidden command that starts one mount. */
export const LAUNCH_COMMAND = 'mount-start';
const ID_BYTES = 6;
/** Longer than a takeover may take. */
const START_LIMIT_MS = 300_000;
/** An orderly end: the last commit, the release. */
const STOP_SECONDS = 120;
/** Just above what the kernel never kills. */
const OOM_SCORE_ADJUST = -900;

export class LaunchedMounts implements MountStarter {
  readonly #deps: LaunchDeps;
  readonly #turns: StartTurns;

  constructor(deps: LaunchDeps) {
    this.#deps = deps;
    this.#turns = new StartTurns(deps.clock);
  }

  start(request: MountRequest): Promise<MountStatus> {
    return this.#turns.run(() => this.#start(request));
  }

  async #start(request: MountRequest): Promise<MountStatus> {
    const { files, random, commands } = this.#deps;
    const id = Buffer.from(random.bytes(ID_BYTES)).toString('hex');
    const paths = files.write(id, JSON.stringify(request));
    try {
      const [command = '', ...args] = this.#commandLine(id, request, [paths.request, paths.result]);
      const output = await commands.run(command, args, START_LIMIT_MS);
      const result = files.readResult(id);
      if (result === null) throw noResult(request, output);
      return resultOf(result) as MountStatus;
    } finally {
      files.remove(id);
    }
  }

  #commandLine(id: string, { volume }: MountRequest, paths: readonly string[]): string[] {
    const { scope, program, environment } = this.#deps;
    const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
    const launch = ['env', ...variables, ...program, LAUNCH_COMMAND, ...paths];
    switch (scope.type) {
      case 'systemd':
        return ['systemd-run', ...unitOf(id, volume, scope.memoryMaxBytes), '--', ...launch];
      case 'cgroup':
        return ['/bin/sh', '-c', CGROUP_SCRIPT, 'holdfast-mount', scope.root, `mount-${id}`]
          .concat(String(scope.memoryMaxBytes))
          .concat(launch);
      default:
        return ['setsid', '--wait', ...launch];
    }
  }
}

/**
 * A service that is up once the launcher has ended well, and as long as the keeper runs. `collect`:
 * one that failed leaves nothing either.
 */
function unitOf(id: string, volume: string, memoryMaxBytes: number): string[] {
  const properties = {
    Type: 'forking',
    Slice: 'holdfast.slice',
    // At shutdown it ends before what it needs (the network, a node and etcd here), and after what
    // uses it.
    After: 'network-online.target remote-fs-pre.target holdfast-node.service etcd.service',
    Before: 'docker.service containerd.service kubelet.service',
    // The keeper passes the signal on, and the daemon bears it twice.
    KillMode: 'control-group',
    TimeoutStartSec: String(START_LIMIT_MS / 1000),
    TimeoutStopSec: String(STOP_SECONDS),
    MemoryMax: String(memoryMaxBytes),
    OOMScoreAdjust: String(OOM_SCORE_ADJUST),
    OOMPolicy: 'continue',
    StandardInput: 'null',
    StandardOutput: 'null',
  };
  return [
    ...['--quiet', '--collect', `--unit=holdfast-mount-${id}`],
    `--description=Holdfast volume ${volume}`,
    ...Object.entries(properties).map(([name, value]) => `--property=${name}=${value}`),
  ];
}

/**
 * $1 the root, $2 the group's name, $3 bytes of memory; then the launcher's command line. Groups
 * whose processes have ended are removed by whoever comes next.
 */
const CGROUP_SCRIPT = `
root=$1 group=$1/$2 memory=$3 tries=0
shift 3
quietly() { { echo "$1" > "$2"; } 2>/dev/null; }
mkdir -p -- "$root" && quietly +memory "$root/cgroup.subtree_control"
rmdir -- "$root"/mount-* 2>/dev/null
until mkdir -p -- "$group" && quietly 0 "$group/cgroup.procs"; do
  tries=$((tries + 1))
  [ "$tries" -lt 5 ] || { echo "no process can enter $group" >&2; exit 1; }
done
quietly "$memory" "$group/memory.max"
exec setsid --wait "$@"
`;

function noResult({ volume, directory }: MountRequest, output: CommandOutput): HoldfastError {
  const said = output.stderr.replace(/\s+/g, ' ');
  const how = said === '' ? `it ended with ${output.status}` : said;
  const message = `"${volume}" could not be mounted at ${directory}: ${how}`;
  return new HoldfastError('UNAVAILABLE', message, { retryable: output.status === null });
}
