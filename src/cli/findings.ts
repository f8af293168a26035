/** What `holdfast doctor` looks at, one thing at a time, and what to do about what it finds. */

export interface Finding {
  /** What was looked at: stable, for scripts. */
  readonly check: string;
  /** `note`: nothing is wrong, but it is worth knowing, or could not be looked at. */
  readonly level: 'ok' | 'note' | 'problem';
  readonly message: string;
  /** What to do. */
  readonly advice?: string;
}

export const ok = (check: string, message: string): Finding => ({ check, level: 'ok', message });

export function note(check: string, message: string, advice?: string): Finding {
  return { check, level: 'note', message, ...(advice === undefined ? {} : { advice }) };
}

export function problem(check: string, message: string, advice: string): Finding {
  return { check, level: 'problem', message, advice };
}

const MARKS = { ok: '  ok ', note: '  -  ', problem: '  !  ' } as const;

/** One line each, with the advice below it. */
export function describeFindings(findings: readonly Finding[]): string {
  const wide = Math.max(...findings.map(({ check }) => check.length));
  return findings
    .map(({ check, level, message, advice }) => {
      const line = `${MARKS[level]}${check.padEnd(wide)}  ${message}`;
      return advice === undefined ? line : `${line}\n${' '.repeat(wide + 7)}→ ${advice}`;
    })
    .join('\n');
}
