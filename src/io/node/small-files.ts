/** The real SmallFiles: one directory, readable by root only, made when something is written. */
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { assert } from '../../core/assert.js';
import { HoldfastError } from '../../core/errors.js';
import { PAGE_BYTES } from '../../core/units.js';
import type { SmallFiles } from '../small-files.js';
import { saysFull } from './full.js';

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
      if (!saysFull(thrown)) throw this.#fault(thrown);
      rmSync(unfinished, { force: true });
      if (!overwrite(path, text)) throw this.#fault(thrown);
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

/**
 * Needs no room: as long as what is there, filled up with spaces. Within one page a write is whole
 * or is not. False where it does not fit.
 */
function overwrite(path: string, text: string): boolean {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  const bytes = Buffer.from(text);
  if (bytes.length > size || size > PAGE_BYTES) return false;
  const file = openSync(path, 'r+');
  try {
    return writeSync(file, Buffer.concat([bytes, Buffer.alloc(size - bytes.length, ' ')])) === size;
  } finally {
    closeSync(file);
  }
}
