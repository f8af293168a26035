/** The simulator's words to people: coverage, violations and the summary. */
import type { Coverage } from './coverage.js';
import { describeFault } from './nemesis.js';
import type { SeedResult } from './run-seed.js';
import type { Summary } from './runner.js';
import { type Shrunk, tail } from './shrink.js';

const TRANSCRIPT_LINES = 60;
/** What 2000 seeds must have seen at least; fewer seeds, proportionally fewer. */
const FAULT_FLOOR = 0.5;
const TAKEOVER_FLOOR = 0.25;
/** What only some seeds can have: damage that their segments bear, at a rare moment. */
const RARE_FLOORS: Readonly<Record<string, number>> = {
  'node.wipe-after-copy': 0.05,
  'admin.drain': 0.1,
  'admin.remove': 0.1,
};
const NEW_INCARNATION_FLOOR = 0.1;

/** Every kind of fault that must fire. */
export const FAULTS = [
  'admin.drain',
  'admin.remove',
  'all.power',
  'disk.bad-sector',
  'disk.failed',
  'disk.flush-error',
  'disk.full',
  'disk.read-error',
  'disk.read-only',
  'disk.reads-fail',
  'disk.rot',
  'disk.slow',
  'disk.stall',
  'metadata.applied-late',
  'metadata.applied-reply-lost',
  'metadata.cut-host',
  'metadata.failed-not-applied',
  'metadata.move',
  'metadata.outage',
  'metadata.read-fails',
  'metadata.slow',
  'metadata.unreachable',
  'net.cut-owner',
  'net.cut-owner-one-way',
  'net.delay',
  'net.drop',
  'net.duplicate',
  'net.half-open-one',
  'net.held-by-cut',
  'net.isolate',
  'net.isolate-one-way',
  'net.reorder',
  'net.reset',
  'node.kill',
  'node.lose-index',
  'node.pause',
  'node.power',
  'node.wipe',
  'node.wipe-after-copy',
  'owner.compete',
  'owner.isolate',
  'owner.kill',
  'owner.pause',
  'owner.power',
  'owner.release',
] as const;

export function missingCoverage(coverage: Coverage, seeds: number): string[] {
  const missing: string[] = [];
  for (const kind of FAULTS) {
    const fired = coverage.get(`fault.${kind}`);
    if (fired < seeds * (RARE_FLOORS[kind] ?? FAULT_FLOOR))
      missing.push(`fault ${kind} fired ${fired} times`);
  }
  const takeovers = coverage.get('takeovers');
  if (takeovers < seeds * TAKEOVER_FLOOR) missing.push(`${takeovers} takeovers`);
  const lives = coverage.get('new-incarnation');
  if (lives < seeds * NEW_INCARNATION_FLOOR) missing.push(`${lives} new incarnations`);
  return missing;
}

export function coverageTable(coverage: Coverage): string {
  const lines: string[] = [];
  const section = (title: string, prefix: string): void => {
    const rows = coverage.under(prefix);
    if (rows.length === 0) return;
    lines.push('', title);
    for (const [name, count] of rows) {
      lines.push(`  ${name.slice(prefix.length).padEnd(36)} ${String(count).padStart(10)}`);
    }
  };
  section('Faults fired', 'fault.');
  section('Owner states reached', 'owner-state.');
  section('Owners stopped by', 'owner-stopped.');
  section('Replies of nodes', 'reply.');
  section('Requests that failed', 'request-error.');
  section('Appends that failed', 'append-error.');
  section('Reads', 'read.');
  section('Lease checks', 'lease.');
  section('Replays', 'replay.');
  section('Releases', 'release.');
  section('Disks that did not open', 'disk-open.');
  lines.push('', 'Other');
  for (const name of ['takeovers', 'acks', 'seals', 'new-incarnation', 'append-backpressure']) {
    lines.push(`  ${name.padEnd(36)} ${String(coverage.get(name)).padStart(10)}`);
  }
  return lines.join('\n');
}

export function violationReport(result: SeedResult, shrunk: Shrunk | null): string {
  const { violation, seed } = result;
  const lines = [
    '',
    `VIOLATION in seed ${seed}: invariant ${violation?.invariant}`,
    `  ${violation?.message.split('\n').join('\n  ')}`,
  ];
  if (shrunk !== null) {
    const small = shrunk.result;
    lines.push(
      `  shrunk in ${shrunk.runs} runs, ` +
        `from ${result.faults.length} to ${small.faults.length} faults:`,
      ...small.faults.map((fault) => `    ${describeFault(fault)}`),
      ...tail(small.transcript, TRANSCRIPT_LINES).map((line) => `  ${line}`),
    );
  }
  lines.push(`  replay: npm run sim -- --seed ${seed} --verbose`);
  return lines.join('\n');
}

export function summaryLine(summary: Summary): string {
  const seconds = (Date.now() - summary.startedAt) / 1000;
  const rate = summary.seeds / seconds;
  const perEvent = summary.events === 0 ? 0 : (summary.cpuMs * 1e3) / summary.events;
  return (
    `${summary.seeds} seeds, ${summary.events} events, ` +
    `${(summary.virtualMs / 3_600_000).toFixed(1)} simulated hours in ${seconds.toFixed(1)} s: ` +
    `${rate.toFixed(1)} seeds/s, ${perEvent.toFixed(1)} µs CPU an event; ` +
    `${summary.violations.length} violations`
  );
}
