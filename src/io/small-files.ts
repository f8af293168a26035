/**
 * The seam to a directory of small texts, each replaced as a whole: state that outlives a process
 * but not the machine. Twins: io/node/small-files.ts, test/fixtures/memory-files.ts.
 */

/** Names are such as volumes have: no slashes, no leading dot. All calls may throw UNAVAILABLE. */
export interface SmallFiles {
  /** In order; empty when nothing was ever written. */
  list(): string[];
  /** Null when there is none. */
  read(name: string): string | null;
  /**
   * Readers see the old or the new text, also when this process dies meanwhile. Where there is no
   * room a shorter one still replaces a longer one, and has spaces at its end.
   */
  write(name: string, text: string): void;
  /** Idempotent. */
  remove(name: string): void;
}
