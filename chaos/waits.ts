/**
 * How long an application waited: the longest stretch of a window of time in which nothing came of
 * what it had asked for. Times are milliseconds of CLOCK_MONOTONIC, so that several processes on
 * this machine mean the same moment.
 */
export function nowMs(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000;
}

export class Waits {
  readonly #progress: number[] = [];
  #sorted = true;

  /** Something that was asked for is done. */
  note(at = nowMs()): void {
    this.#sorted &&= at >= (this.#progress[this.#progress.length - 1] ?? 0);
    this.#progress.push(at);
  }

  /** The longest time without progress that overlaps from `from` to `to`, in ms. */
  longest(from: number, to: number): number {
    if (!this.#sorted) this.#progress.sort((a, b) => a - b);
    this.#sorted = true;
    let longest = 0;
    let before = from;
    for (const at of this.#progress) {
      if (at < from) continue;
      longest = Math.max(longest, at - before);
      before = at;
      if (at > to) return longest;
    }
    return Math.max(longest, to - before);
  }

  /** When something was done last, as far as that was noted in order; 0 before anything was. */
  get last(): number {
    return this.#progress[this.#progress.length - 1] ?? 0;
  }

  get count(): number {
    return this.#progress.length;
  }
}

/** Rejects when the run is given up. */
export function givenUp(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    const abort = (): void => reject(new Error('the run was given up'));
    if (signal?.aborted === true) abort();
    else signal?.addEventListener('abort', abort);
  });
}
