/**
 * What the recorded worker does to a directory, and how it writes that down. A history is a text
 * file: `B index ns operation` before each call and `E index ns result` behind it, with the
 * monotonic time of this machine. It lies outside the volume, so it outlives what happens to that;
 * it need not be flushed, since the machine that runs all this is not what crashes.
 *
 * The bytes of a write follow from its seed, so a history is enough to rebuild every file.
 */
interface Shapes {
  create: { readonly mode: number };
  mkdir: { readonly mode: number };
  chmod: { readonly mode: number };
  symlink: { readonly to: string };
  rename: { readonly to: string };
  link: { readonly to: string };
  unlink: object;
  rmdir: object;
  fsync: object;
  fdatasync: object;
  write: { readonly offset: number; readonly length: number; readonly seed: number };
  /** `offset` is where the end of the file was. */
  append: { readonly offset: number; readonly length: number; readonly seed: number };
  truncate: { readonly size: number };
  punch: { readonly offset: number; readonly length: number };
  setxattr: { readonly name: string; readonly value: string };
  removexattr: { readonly name: string };
}

/** Paths begin with a slash and are below the worker's directory; offsets and sizes in bytes. */
export type Operation = {
  [Kind in keyof Shapes]: { readonly op: Kind; readonly path: string } & Shapes[Kind];
}[keyof Shapes];

/** The operations of some kinds. */
export type Of<Kind extends Operation['op']> = Extract<Operation, { readonly op: Kind }>;

/** Times in nanoseconds of CLOCK_MONOTONIC. */
export interface Recorded {
  readonly operation: Operation;
  readonly began: number;
  /** Null while it was under way when the history ended. */
  readonly ended: number | null;
  /**
   * `done`: the call returned without an error. `refused`: an error that says that nothing was
   * changed. `unknown`: under way, or ended by the loss of the filesystem.
   */
  readonly outcome: 'done' | 'refused' | 'unknown';
}

/** Nothing has happened when a call fails with one of these. */
const REFUSALS = new Set(['ENOSPC', 'EDQUOT', 'EMLINK', 'ENAMETOOLONG']);

export function isRefusal(code: string): boolean {
  return REFUSALS.has(code);
}

export function isFlush(operation: Operation): boolean {
  return operation.op === 'fsync' || operation.op === 'fdatasync';
}

/** `length` bytes that no other seed gives, without a zero word in them. */
export function contents(seed: number, length: number): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = (seed ^ 0x9e3779b9) >>> 0;
  for (let at = 0; at < words.length; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    words[at] = state | 1;
  }
  return Buffer.from(words.buffer, 0, length);
}

export function beginLine(index: number, now: bigint, operation: Operation): string {
  return `B ${index} ${now} ${JSON.stringify(operation)}\n`;
}

/** `result` is `ok` or the errno. */
export function endLine(index: number, now: bigint, result: string): string {
  return `E ${index} ${now} ${result}\n`;
}

/**
 * Reads a history back; a last line that is not whole counts as not written. Throws on anything
 * that no worker writes.
 */
export function parseHistory(text: string): Recorded[] {
  const recorded: Recorded[] = [];
  for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
    if (line === '') continue;
    const match = /^([BE]) (\d+) (\d+) (.+)$/.exec(line);
    if (match === null) throw new Error(`no line of a history: ${line.slice(0, 200)}`);
    const [, kind, number, time, rest] = match as unknown as [
      string,
      string,
      string,
      string,
      string,
    ];
    const index = Number(number);
    const at = Number(time);
    if (kind === 'B') {
      if (index !== recorded.length) throw new Error(`operation ${index} is out of order`);
      const operation = JSON.parse(rest) as Operation;
      recorded.push({ operation, began: at, ended: null, outcome: 'unknown' });
      continue;
    }
    const begun = recorded[index];
    if (begun === undefined || begun.ended !== null || index !== recorded.length - 1) {
      throw new Error(`operation ${index} ends without having begun last`);
    }
    const refused = isRefusal(rest) ? 'refused' : 'unknown';
    recorded[index] = { ...begun, ended: at, outcome: rest === 'ok' ? 'done' : refused };
  }
  return recorded;
}
