/** The real SmallFiles: one directory, readable by root only, made when something is written. */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert } from '../../core/assert.js';
import { HoldfastError } from '../../core/errors.js';
import type { SmallFiles } from '../small-files.js';

/** Not yet a text: what a writer that died left is none either. */
const UNFINISHED = '.new';

export class NodeSmallFiles implements SmallFiles {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  list(): string[] {
    const names = this.#try(() => readdirSync(this.#directory)) ?? [];
    return names.filter((name) => !name.startsWith(UNFINISHED)).sort();
  }

  read(name: string): string | null {
    return this.#try(() => readFileSync(this.#path(name), 'utf8'));
  }

  write(name: string, text: string): void {
    const path = this.#path(name);
    const unfinished = join(this.#directory, `${UNFINISHED}-${name}`);
    try {
      mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
      writeFileSync(unfinished, text, { mode: 0o600 });
      renameSync(unfinished, path);
    } catch (thrown) {
      throw this.#fault(thrown);
    }
  }

  remove(name: string): void {
    this.#try(() => rmSync(this.#path(name), { force: true }));
  }

  #path(name: string): string {
    assert(/^[^./][^/]*$/.test(name), 'a name that stays in the directory');
    return join(this.#directory, name);
  }

  /** Null for what is not there. */
  #try<T>(action: () => T): T | null {
    try {
      return action();
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw this.#fault(thrown);
    }
  }

  #fault(cause: unknown): HoldfastError {
    const message = `${this.#directory} cannot be used: ${(cause as Error).message}`;
    return new HoldfastError('UNAVAILABLE', message, { cause });
  }
}
