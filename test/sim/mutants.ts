/**
 * Known bugs, as changes to the compiled product's text: DESIGN §4's list, one or more for each item. `find` must
 * occur exactly once in the compiled file, so that a mutant cannot silently stop being one.
 */

export interface Mutant {
  readonly name: string;
  /** Under dist/. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** What this bug does to somebody's data. */
  readonly why: string;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'minimum instead of maximum at takeover',
    file: 'src/replication/takeover-rules.js',
    find: 'return offset(Math.max(0, ...replies.map(presentLength)));',
    replace: 'return offset(Math.min(...replies.map(presentLength)));',
    why: 'The shortest replica decides, and what the others acknowledged is cut off.',
  },
];
