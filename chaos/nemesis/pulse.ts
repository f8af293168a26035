/**
 * Looks at all applications many times a second, notes when each got something done, and so says
 * how long each of them waited in any stretch of time.
 */
import type { Application } from '../applications/application.js';
import { Waits } from '../waits.js';

const LOOK_MS = 50;

export class Pulse {
  readonly #waits = new Map<Application, Waits>();
  readonly #last = new Map<Application, number>();
  readonly #timer: NodeJS.Timeout;

  constructor(applications: readonly Application[]) {
    for (const one of applications) this.#waits.set(one, new Waits());
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  #look(): void {
    for (const [one, waits] of this.#waits) {
      const progress = one.progress();
      if (this.#last.get(one) !== progress) waits.note();
      this.#last.set(one, progress);
    }
  }

  /** The longest time without progress of each, in ms, by its name. */
  longest(from: number, to: number): Map<string, number> {
    return new Map([...this.#waits].map(([one, waits]) => [one.name, waits.longest(from, to)]));
  }

  /** Those that got nothing done since a moment. */
  stillSince(moment: number): Application[] {
    return [...this.#waits].filter(([, { last }]) => last <= moment).map(([one]) => one);
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
