/**
 * A look at the state of things, shared by all who ask for it at the same time: each daemon of a
 * machine is asked once, not once by every one of many calls that are under way.
 *
 * INVARIANT: what a caller gets was begun after it asked, so that it sees what it did before.
 */
export class OneLook<T> {
  readonly #look: () => Promise<T>;
  #running: Promise<T> | null = null;
  /** For who asked since that one began. */
  #next: Promise<T> | null = null;

  constructor(look: () => Promise<T>) {
    this.#look = look;
  }

  run(): Promise<T> {
    if (this.#running === null) return this.#begin();
    const begin = (): Promise<T> => this.#begin();
    this.#next ??= this.#running.then(begin, begin);
    return this.#next;
  }

  #begin(): Promise<T> {
    this.#next = null;
    const running = this.#look().finally(() => {
      if (this.#running === running) this.#running = null;
    });
    this.#running = running;
    return running;
  }
}
