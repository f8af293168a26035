/**
 * The seam to the file of a mount's intent log: memory that outlives the process, not the machine.
 * Real: io/node/intent-file.ts; test/volume/memory-intents.ts is its twin.
 *
 * What is assumed of it: a write that the end of the process cuts off has left a prefix of its
 * bytes (test/volume/intent-log.test.ts cuts at every byte), and what was written is there for
 * whoever reads the file next. Nothing is flushed.
 */
export interface IntentFile {
  /**
   * Writes all of `parts`, one behind the other, from `position` on. Throws DISK_FULL or
   * DISK_FAILED; some of it may then be there.
   */
  write(parts: readonly Uint8Array[], position: number): void;
  /** Puts this file, all at once, in the place of the mount's former one. To be called once. */
  establish(): void;
  close(): void;
}
