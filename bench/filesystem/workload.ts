/** A workload: what is done on every target alike, and what is measured of it. */
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Aborted, type RunOptions, run } from './command.js';
import type { Target, TargetName } from './target.js';

const CLEAN_UP_MS = 20_000;
/** Loads run for so long before they are measured: programs that just began are slower. */
export const WARM_UP_SECONDS = 3;

/** What holdfast has to reach: a multiple of what a peer does. */
export interface Mark {
  readonly peer: TargetName;
  readonly times: number;
}

export function timesGluster(times: number): Mark {
  return { peer: 'glusterfs', times };
}

export interface Workload {
  /** For `--only`. */
  readonly name: string;
  readonly title: string;
  readonly unit: string;
  readonly mark?: Mark;
  /** The figure is a time, not a rate. */
  readonly lessIsBetter?: boolean;
  /** Programs that have to be installed, with the Debian packages that have them. */
  readonly needs: readonly Program[];
  /** Makes what the workload finds, unless an earlier workload of the round has left it. */
  readonly prepare?: (place: Place) => Promise<void>;
  /** A bare mount has what it takes. */
  readonly onBare?: boolean;
  /** Nothing is in any cache when it starts. */
  readonly cold?: boolean;
  /** The figure, in `unit`. */
  readonly run: (place: Place) => Promise<number>;
}

export interface Program {
  readonly name: string;
  readonly package: string;
}

export interface PlaceOptions {
  readonly target: Target;
  readonly round: number;
  /** A directory on a local disk, for what is no part of the measurement. */
  readonly scratch: string;
  /** Times and sizes are multiplied by this. */
  readonly scale: number;
  readonly signal: AbortSignal;
}

/** One round of one target: where its workloads leave things for each other. */
export class Place {
  readonly target: Target;
  readonly directory: string;
  readonly scratch: string;
  readonly scale: number;
  readonly #signal: AbortSignal;
  readonly #made = new Map<string, Promise<void>>();

  constructor({ target, round, scratch, scale, signal }: PlaceOptions) {
    this.target = target;
    this.directory = join(target.directory, `round-${round}`);
    this.scratch = join(scratch, `${target.name}-${round}`);
    this.scale = scale;
    this.#signal = signal;
  }

  async start(): Promise<void> {
    mkdirSync(this.scratch);
    chmodSync(this.scratch, 0o755);
    await this.run(['mkdir', this.directory]);
  }

  /** Throws when the target is not there (any more): fio would make the directories it misses. */
  async check(): Promise<void> {
    await this.run(['test', '-d', this.directory]).catch((thrown) => {
      throw thrown instanceof Aborted ? thrown : new Error(`${this.target.name} is not mounted`);
    });
  }

  /** So many seconds at this scale: whole ones, as fio and pgbench take them. */
  seconds(unscaled: number): number {
    return Math.max(1, Math.round(unscaled * this.scale));
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** Runs a program where the target can be seen; its standard output. */
  run(argv: readonly string[], options: RunOptions = {}): Promise<string> {
    return run([...this.target.prefix, ...argv], { signal: this.#signal, ...options });
  }

  /** Runs a program whatever its outcome, even when the run was told to end. */
  async cleanUp(argv: readonly string[]): Promise<void> {
    await run([...this.target.prefix, ...argv], { timeLimitMs: CLEAN_UP_MS }).catch(() => {});
  }

  /** How long a program takes, in seconds. */
  async time(argv: readonly string[]): Promise<number> {
    const start = performance.now();
    await this.run(argv);
    return (performance.now() - start) / 1000;
  }

  /** Does `make` the first time that this round asks for `what`. */
  once(what: string, make: () => Promise<void>): Promise<void> {
    const made = this.#made.get(what) ?? make();
    this.#made.set(what, made);
    return made;
  }

  /** Says that `what` is gone, or (`made`) that it is there. */
  mark(what: string, made: boolean): void {
    if (made) this.#made.set(what, Promise.resolve());
    else this.#made.delete(what);
  }
}
