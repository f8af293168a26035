/** What the nemesis did and found, for people: a line when it happens, and one page at the end. */
import type { Application } from '../applications/application.js';
import { clock, seconds } from '../report.js';
import type { Ended } from './end.js';

/** One fault, or two at once. Times in ms; `at` since the start. */
export interface Happened {
  readonly at: number;
  readonly fault: string;
  /** What it struck. */
  readonly what: string;
  /** Until it had healed. */
  readonly lastedMs: number;
  /** The longest that each application waited, until all of them went on. */
  readonly waits: ReadonlyMap<string, number>;
}

export interface Summary {
  readonly seed: number;
  readonly elapsedMs: number;
  readonly happened: readonly Happened[];
  readonly applications: readonly Application[];
  /** Null when the run did not get there. */
  readonly ended: Ended | null;
  /** The most bytes a second that repair was seen to copy. */
  readonly repairRate: number;
  /** Sentences; empty when every check passed. */
  readonly faults: readonly string[];
}

export function happenedLine({ at, fault, what, lastedMs, waits }: Happened): string {
  const waited = [...waits].map(([name, ms]) => `${name} ${seconds(ms)}`).join(', ');
  return `  ${clock(at)}  ${fault} (${what}) for ${seconds(lastedMs)}; waited: ${waited}`;
}

const LONGEST_SHOWN = 8;
const MIB = 1024 * 1024;

export function summaryPage(summary: Summary): string {
  const { seed, elapsedMs, happened, applications, ended, repairRate, faults } = summary;
  const longest = [...happened].sort((a, b) => worst(b) - worst(a)).slice(0, LONGEST_SHOWN);
  return [
    `chaos: seed ${seed}, ${happened.length} times trouble in ${clock(elapsedMs)}`,
    '',
    'What worked on the volumes meanwhile, and was checked:',
    ...applications.map((one) => `  ${one.name.padEnd(10)} ${one.summary()}`),
    '',
    ...kindLines(happened),
    '',
    'The longest pauses:',
    ...longest.map(happenedLine),
    '',
    ...(repairRate === 0 ? [] : [`Repair copied up to ${mib(repairRate)}/s.`]),
    ...endLines(ended),
    ...(faults.length === 0 ? ['Every check passed.'] : ['FAILED:', ...faults]),
  ].join('\n');
}

function mib(bytes: number): string {
  return `${Math.round(bytes / MIB)} MiB`;
}

function worst({ waits }: Happened): number {
  return Math.max(0, ...waits.values());
}

/** Of faults that struck alone, the longest that each application waited; the rest as one line. */
function kindLines(happened: readonly Happened[]): string[] {
  const names = [...new Set(happened.flatMap(({ waits }) => [...waits.keys()]))];
  const kindOf = ({ fault }: Happened): string => (fault.includes(' + ') ? 'two at once' : fault);
  const kinds = [...new Set(happened.map(kindOf))].sort();
  const row = (kind: string, times: string, cells: readonly string[]): string =>
    `${kind.padEnd(24)} ${times.padStart(5)}  ${cells.map((one) => one.padStart(9)).join(' ')}`;
  return [
    row('longest wait of:', 'times', names),
    ...kinds.map((kind) => {
      const these = happened.filter((one) => kindOf(one) === kind);
      const longest = (name: string): number =>
        Math.max(...these.map(({ waits }) => waits.get(name) ?? 0));
      return row(kind, `${these.length}`, names.map(longest).map(seconds));
    }),
  ];
}

function endLines(ended: Ended | null): string[] {
  if (ended === null) return [];
  const { wholeMs, copies, verifiedBytes, descriptors, residentBytes } = ended;
  return [
    `At the end every segment had all its copies after ${seconds(wholeMs)}.`,
    `Verified: ${copies} sealed copies, ${mib(verifiedBytes)}.`,
    `No daemon had more than ${descriptors} descriptors and ${mib(residentBytes)} of memory.`,
    '',
  ];
}
