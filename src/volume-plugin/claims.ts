/**
 * Which callers have a volume mounted through the plugin: the engine gives each container's use an
 * id, and the volume is unmounted with the last of them. Kept in files on /run, as the mounts are:
 * both outlive the plugin's process, and neither outlives the machine.
 *
 * A file says that the mount is this plugin's, from before it is made until after it is gone. What
 * has none is nobody's to take away: files that were lost are not the same as callers that left.
 */
import { z } from 'zod';
import { HoldfastError } from '../core/errors.js';
import type { SmallFiles } from '../io/small-files.js';

const file = z.object({ version: z.literal(1), callers: z.array(z.string()) });

export class Claims {
  readonly #files: SmallFiles;

  constructor(files: SmallFiles) {
    this.#files = files;
  }

  /** Volumes that have a file. */
  list(): readonly string[] {
    return this.#files.list();
  }

  /** In the order in which they came; null when there is no file. Throws MALFORMED. */
  of(volume: string): readonly string[] | null {
    const text = this.#files.read(volume);
    if (text === null) return null;
    try {
      return file.parse(JSON.parse(text)).callers;
    } catch (cause) {
      // Taking it for "nobody" would unmount the volume below its users.
      const message = `who uses "${volume}" on this machine cannot be read`;
      const hint = 'Remove its file in the "docker" directory of the state once nobody does.';
      throw new HoldfastError('MALFORMED', message, { hint, cause });
    }
  }

  /** To be called before it is mounted. Idempotent. */
  begin(volume: string): void {
    if (this.of(volume) === null) this.#write(volume, []);
  }

  /** Idempotent. */
  add(volume: string, caller: string): void {
    const callers = this.of(volume) ?? [];
    if (!callers.includes(caller)) this.#write(volume, [...callers, caller]);
  }

  /** Idempotent. */
  remove(volume: string, caller: string): void {
    const before = this.of(volume) ?? [];
    const callers = before.filter((one) => one !== caller);
    if (callers.length < before.length) this.#write(volume, callers);
  }

  /** To be called once it is not mounted any more. Idempotent. */
  end(volume: string): void {
    this.#files.remove(volume);
  }

  #write(volume: string, callers: readonly string[]): void {
    this.#files.write(volume, JSON.stringify({ version: 1, callers }));
  }
}
