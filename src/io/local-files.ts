/**
 * The seam to files of this machine that another process owns: a storage node's segments, which a
 * reader on the same machine may read itself (replication/local-copies.ts). Nothing is assumed of
 * their bytes. Real: io/node/disk.ts.
 */
import type { DiskFile } from './disk.js';

/** See DiskFile: callbacks never run before the call has returned, nor after `close`. */
export type LocalFile = Pick<DiskFile, 'read' | 'close'>;

export interface LocalFiles {
  /** Opens a regular file for reading; null when there is none that this process may read. */
  open(path: string): LocalFile | null;
}
