/**
 * What the tests of POSIX run on, by HOLDFAST_TARGET: a volume on a log in memory (default), a
 * volume of a real cluster (`cluster`), or any directory (`dir:PATH`), such as one of ext4, which
 * tells whether a test asks for what POSIX and Linux say.
 */
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { System } from '../../chaos/system.js';
import { run } from '../fixtures/processes.js';
import { type Answer, type Call, cannotCall, Syscalls } from '../fixtures/syscalls.js';
import { cannotMount, Mounted, type VolumeStats } from '../fuse/mounted.js';

const SIZE_BYTES = 16 * 2 ** 30;

export interface Target {
  readonly directory: string;
  /** Ours: else what the test asks is asked of somebody else's filesystem. */
  readonly isVolume: boolean;
  /** Unmounts and mounts again. Nobody may be using it. */
  remount(): Promise<void>;
  /** The daemon dies, and the volume is mounted again. */
  crash(): Promise<void>;
  /** Of the volume on a log in memory; else null. */
  stats(): Promise<VolumeStats | null>;
  end(): Promise<void>;
}

const { HOLDFAST_TARGET = '' } = process.env;
const DIRECTORY = 'dir:';

/** Why there can be no target here, or false. */
export function cannotRun(): string | false {
  return cannotCall() || (!HOLDFAST_TARGET.startsWith(DIRECTORY) && cannotMount());
}

export async function startTarget(): Promise<Target> {
  if (HOLDFAST_TARGET.startsWith(DIRECTORY)) return plainDirectory(HOLDFAST_TARGET.slice(4));
  if (HOLDFAST_TARGET === 'cluster') return cluster();
  const mounted = await Mounted.start('--volume');
  return {
    directory: mounted.directory,
    isVolume: true,
    remount: () => mounted.remount(),
    crash: () => mounted.crash(),
    stats: () => mounted.stats<VolumeStats>(),
    end: () => mounted.end(),
  };
}

function plainDirectory(parent: string): Target {
  const directory = mkdtempSync(join(parent, 'posix-'));
  return {
    directory,
    isVolume: false,
    remount: () => Promise.resolve(),
    crash: () => Promise.resolve(),
    stats: () => Promise.resolve(null),
    // rm(1) goes down directory by directory, however long the paths.
    end: async () => void (await run('rm', '-rf', directory)),
  };
}

async function cluster(): Promise<Target> {
  const system = await System.start({ sizeBytes: SIZE_BYTES });
  return {
    directory: system.mountPoint,
    isVolume: true,
    remount: async () => {
      await system.unmount();
      await system.mount();
    },
    crash: async () => {
      await system.killMount();
      await system.mount();
    },
    stats: () => Promise.resolve(null),
    end: () => system.close(),
  };
}

/** A call, and what it must come to. */
export interface Step {
  readonly call: Call;
  readonly errno?: string;
  /** Compared with the value by t.match. */
  readonly value?: unknown;
}

export function does(...call: Call): Step {
  return { call };
}

export function fails(errno: string, ...call: Call): Step {
  return { call, errno };
}

export function gives(value: unknown, ...call: Call): Step {
  return { call, value };
}

/** Runs scenarios, each in a new directory of its own that everybody may write to. */
export class Scenarios {
  readonly #target: Target;
  readonly #syscalls = new Syscalls();
  #made = 0;

  private constructor(target: Target) {
    this.#target = target;
  }

  static async start(t: Test): Promise<Scenarios> {
    const target = await startTarget();
    const scenarios = new Scenarios(target);
    t.teardown(async () => {
      await scenarios.#syscalls.end();
      await target.end();
    });
    await scenarios.#syscalls.run([['chmod', target.directory, 0o755]]);
    return scenarios;
  }

  get isVolume(): boolean {
    return this.#target.isVolume;
  }

  get directory(): string {
    return this.#target.directory;
  }

  remount(): Promise<void> {
    return this.#target.remount();
  }

  crash(): Promise<void> {
    return this.#target.crash();
  }

  /** One call's value, outside of scenarios. Rejects when it fails. */
  value(...call: Call): Promise<unknown> {
    return this.#syscalls.value(...call);
  }

  /** One scenario: each step that did not come to what it must is a failed assertion. */
  async test(t: Test, name: string, steps: readonly Step[]): Promise<void> {
    const directory = `${this.#target.directory}/s${++this.#made}`;
    const before: Call[] = [
      ['release'],
      ['mkdir', directory],
      ['chmod', directory, 0o777],
      ['chdir', directory],
    ];
    const calls = steps.map(({ call }) => call);
    const answers = await this.#syscalls.run([...before, ...calls, ['release']]);
    let wrong = 0;
    for (const [index, step] of steps.entries()) {
      const answer = answers[index + before.length] as Answer;
      if (isAsExpected(step, answer)) continue;
      wrong++;
      const diagnosis = { step: index + 1, found: answer, wanted: step.errno ?? step.value };
      t.fail(`${name}: ${JSON.stringify(step.call)}`, diagnosis);
    }
    if (wrong === 0) t.pass(name);
  }
}

function isAsExpected(step: Step, answer: Answer): boolean {
  if (step.errno !== undefined) return 'e' in answer && answer.e === step.errno;
  if (!('v' in answer)) return false;
  return step.value === undefined || matches(answer.v, step.value);
}

/** Objects match if what is wanted of them does; everything else if it is the same. */
function matches(found: unknown, wanted: unknown): boolean {
  if (wanted instanceof RegExp) return wanted.test(String(found));
  if (typeof wanted !== 'object' || wanted === null || Array.isArray(wanted)) {
    return JSON.stringify(found) === JSON.stringify(wanted);
  }
  if (typeof found !== 'object' || found === null) return false;
  return Object.entries(wanted).every(([key, value]) =>
    matches((found as Record<string, unknown>)[key], value),
  );
}
