/** A simulated world with one memory server and processes that connect to it. */
import type { Log } from '../../src/io/log.js';
import { MemoryServer, MemoryStore, type MemoryStoreOptions } from '../../src/metadata/memory.js';
import { SimProcess, SimScheduler } from '../fixtures/sim-clock.js';
import { SimRandom } from '../fixtures/sim-random.js';

export class SimStores {
  readonly scheduler = new SimScheduler();
  readonly server = new MemoryServer(new SimProcess(this.scheduler, 'etcd').clock);
  readonly random = new SimRandom('metadata');

  /** A new process with a connection of its own. */
  connect(options: Partial<MemoryStoreOptions> = {}): { store: MemoryStore; process: SimProcess } {
    const process = new SimProcess(this.scheduler);
    const onSettled = (): void => this.scheduler.notePromise();
    const store = new MemoryStore(this.server, { clock: process.clock, onSettled, ...options });
    return { store, process };
  }

  until(condition: () => boolean): Promise<void> {
    return this.scheduler.until(condition);
  }

  /** Lets this much time pass, with all that happens in it. */
  async pass(ms: number): Promise<void> {
    const end = this.scheduler.now + ms;
    await this.scheduler.settle();
    while (await this.scheduler.stepAsync(end)) {
      // Each step is one event.
    }
    await this.scheduler.settle();
  }

  /** Runs until the promise settles; returns its value or throws its error. */
  async wait<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const note = (): void => {
      settled = true;
    };
    promise.then(note, note);
    await this.until(() => settled);
    return promise;
  }

  /** The code of the error with which it fails; null if it does not. */
  async codeOf(promise: Promise<unknown>): Promise<string | null> {
    try {
      await this.wait(promise);
      return null;
    } catch (error) {
      return (error as { code: string }).code;
    }
  }
}

/** Keeps the messages of a log. */
export class RecordedLog implements Log {
  readonly messages: string[] = [];
  info(_: Readonly<Record<string, unknown>>, message: string): void {
    this.messages.push(message);
  }
  warn(_: Readonly<Record<string, unknown>>, message: string): void {
    this.messages.push(message);
  }
  error(_: Readonly<Record<string, unknown>>, message: string): void {
    this.messages.push(message);
  }
}
