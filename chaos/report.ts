/** What happened, for people: a line when it happens, and one page at the end. */
import type { Application } from './applications/application.js';

/** One fault. Times in ms; `at` since the start. */
export interface Happened {
  readonly at: number;
  readonly fault: string;
  /** The longest that each application waited; empty after a crash, which ends them. */
  readonly waits: ReadonlyMap<string, number>;
  /** Until the volume was mounted again; null for an interruption. */
  readonly backMs: number | null;
}

export function timelineLine({ at, fault, waits, backMs }: Happened): string {
  const waited = [...waits].map(([name, ms]) => `${name} waited ${seconds(ms)}`).join(', ');
  const back = backMs === null ? waited : `mounted again after ${seconds(backMs)}, checks passed`;
  return `  ${clock(at)}  ${fault.padEnd(20)} ${back}`;
}

export interface Summary {
  readonly seed: number;
  readonly rounds: number;
  readonly elapsedMs: number;
  readonly happened: readonly Happened[];
  readonly applications: readonly Application[];
  /** Before a crash of the volume's history, never more than this was lost. */
  readonly longestLostMs: number;
  readonly faults: readonly string[];
}

const LONGEST_SHOWN = 10;

export function summaryPage(summary: Summary): string {
  const { seed, rounds, elapsedMs, happened, applications, faults, longestLostMs } = summary;
  const longest = [...happened].sort((a, b) => worst(b) - worst(a)).slice(0, LONGEST_SHOWN);
  return [
    `chaos: seed ${seed}, ${rounds} rounds, ${happened.length} faults in ${clock(elapsedMs)}`,
    '',
    'What worked on the volume, and was checked after each crash:',
    ...applications.map((one) => `  ${one.name.padEnd(10)} ${one.summary()}`),
    `  The oldest operation that a crash undid was called ${seconds(longestLostMs)} before it.`,
    '',
    'Fault                 times  longest wait of an application    mounted again (longest)',
    ...kindLines(happened),
    '',
    'The longest pauses:',
    ...longest.map(timelineLine),
    '',
    ...(faults.length === 0 ? ['Every check passed.'] : ['FAILED:', ...faults]),
  ].join('\n');
}

function worst({ waits, backMs }: Happened): number {
  return Math.max(backMs ?? 0, ...waits.values());
}

function kindLines(happened: readonly Happened[]): string[] {
  const kinds = [...new Set(happened.map(({ fault }) => fault))].sort();
  return kinds.map((kind) => {
    const these = happened.filter(({ fault }) => fault === kind);
    const names = [...new Set(these.flatMap(({ waits }) => [...waits.keys()]))];
    const longest = (name: string): number =>
      Math.max(...these.map(({ waits }) => waits.get(name) ?? 0));
    const waited = names.map((name) => `${name} ${seconds(longest(name))}`).join(', ');
    const back = these.map(({ backMs }) => backMs ?? 0);
    const again = these.some(({ backMs }) => backMs !== null) ? seconds(Math.max(...back)) : '';
    return `${kind.padEnd(20)} ${String(these.length).padStart(6)}  ${waited.padEnd(34)}${again}`;
  });
}

export function seconds(ms: number): string {
  return ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** Minutes and seconds. */
export function clock(ms: number): string {
  const whole = Math.floor(ms / 1000);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}
