/**
 * The seam to files of this machine that another process owns: a storage node's segments, which a
 * reader on the same machine may read itself (replication/local-copies.ts). Nothing is assumed of
 * their bytes, nor that their disk ever answers. Real: io/node/local-files.ts.
 */
export interface LocalFile {
  /**
   * Fills `into` from `position`; `done` is called once, after this call has returned, with how
   * many bytes were had: fewer at the end of the file and after an error. `isFresh` says that they
   * were written within LOCAL_FRESH_MS. False, and no call, when enough reads already wait for the
   * disks of this machine. No call after `close`.
   */
  read(
    into: Uint8Array,
    position: number,
    isFresh: boolean,
    done: (bytesRead: number) => void,
  ): boolean;
  /** Idempotent. */
  close(): void;
}

export interface LocalFiles {
  /**
   * Opens a regular file for reading; null when there is none that this process may read. `done` is
   * called once, after this call has returned.
   */
  open(path: string, done: (file: LocalFile | null) => void): void;
}
