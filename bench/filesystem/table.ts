/** What the file system benchmark says: as a table for people, as values for programs. */
import { columns, median, short } from '../stats.js';
import { type Outcome, ratioTo } from './run.js';
import type { TargetName } from './target.js';

const SUBJECT = 'holdfast';

interface Verdict {
  readonly peer: TargetName;
  readonly wanted: number;
  readonly ratio: number | null;
  readonly met: boolean;
}

/** Null when there is no mark, or its peer did not run. */
function verdict(outcome: Outcome, targets: readonly TargetName[]): Verdict | null {
  const { mark } = outcome.workload;
  if (mark === undefined || !targets.includes(mark.peer) || !targets.includes(SUBJECT)) return null;
  const ratio = ratioTo(mark.peer, outcome);
  return { ...mark, wanted: mark.times, ratio, met: ratio !== null && ratio >= mark.times };
}

function figure(outcome: Outcome, target: TargetName): number | null {
  const figures = outcome.figures[target];
  return figures === undefined || figures.length === 0 ? null : median(figures);
}

function multiple(ratio: number | null): string {
  return ratio === null ? '-' : `${short(ratio)}x`;
}

export function filesystemTable(
  outcomes: readonly Outcome[],
  targets: readonly TargetName[],
): string {
  const peers = targets.includes(SUBJECT) ? targets.filter((name) => name !== SUBJECT) : [];
  const heading = ['', 'unit', ...targets, ...peers.map((name) => `to ${name}`), 'mark', ''];
  const verdicts = outcomes.map((outcome) => verdict(outcome, targets));
  const rows = outcomes.map((outcome, index) => {
    const said = verdicts[index];
    return [
      outcome.workload.title,
      outcome.workload.unit,
      ...targets.map((name) => {
        if (outcome.figures[name] === undefined) return '';
        const value = figure(outcome, name);
        return value === null ? 'failed' : short(value);
      }),
      ...peers.map((name) =>
        outcome.figures[name] === undefined ? '' : multiple(ratioTo(name, outcome)),
      ),
      said ? `${said.wanted}x ${said.peer}` : '',
      said ? (said.met ? 'met' : 'MISSED') : '',
    ];
  });
  const marked = verdicts.filter((one) => one !== null);
  const met = marked.filter((one) => one.met).length;
  const summary = marked.length === 0 ? '' : `\n\n${met} of ${marked.length} marks met`;
  return `${columns([heading, ...rows])}${summary}`;
}

export function filesystemJson(
  outcomes: readonly Outcome[],
  targets: readonly TargetName[],
): unknown {
  return outcomes.map((outcome) => {
    const { name, title, unit, lessIsBetter = false } = outcome.workload;
    const mark = verdict(outcome, targets);
    return { name, title, unit, lessIsBetter, figures: outcome.figures, mark };
  });
}
