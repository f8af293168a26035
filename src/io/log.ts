/** The seam to the log for operators: pino in io/node/log.ts, silent or recorded in tests. */

/** Plain facts for the operator: levels as in pino. The message is one sentence. */
export interface Log {
  info(fields: Readonly<Record<string, unknown>>, message: string): void;
  warn(fields: Readonly<Record<string, unknown>>, message: string): void;
  error(fields: Readonly<Record<string, unknown>>, message: string): void;
}

export const silentLog: Log = { info: () => {}, warn: () => {}, error: () => {} };
