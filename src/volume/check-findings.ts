/** What a check of a volume finds, as data: for people, scripts and tests. */
import type { Inode } from './filesystem-api.js';

/**
 * `page`: data that no copy has; `copy`: a copy that lacks or has damaged what others have; the
 * others name the structure that contradicts itself or another. Part of the JSON output.
 */
export type FindingKind =
  | 'tree'
  | 'inode'
  | 'entry'
  | 'links'
  | 'orphan'
  | 'extent'
  | 'segment'
  | 'mask'
  | 'attribute'
  | 'space'
  | 'checkpoint'
  | 'page'
  | 'copy';

export interface Finding {
  readonly kind: FindingKind;
  readonly what: string;
  readonly inode?: Inode;
}

/** More than these are only counted. */
const FINDINGS_LISTED = 1_000;

export class Findings {
  readonly all: Finding[] = [];
  /** What is wrong before and after the replay is wrong once. */
  readonly #known = new Set<string>();
  /** Those found after the list was full. */
  more = 0;

  add(kind: FindingKind, what: string, inode?: Inode): void {
    const key = `${kind} ${inode} ${what}`;
    if (this.#known.has(key)) return;
    if (this.#known.size < FINDINGS_LISTED) this.#known.add(key);
    if (this.all.length === FINDINGS_LISTED) this.more += 1;
    else this.all.push(inode === undefined ? { kind, what } : { kind, what, inode });
  }
}
