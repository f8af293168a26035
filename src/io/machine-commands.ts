/**
 * The seam to what volumes need of a machine besides FUSE mounts (io/mount-host.ts): the programs
 * that administrators use for loop devices, filesystems and bind mounts, and the directories and
 * files that are mounted upon. Real: io/node/machine-commands.ts.
 */

export interface CommandOutput {
  /** Null: killed after its time, or not there; `stderr` says which. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export type PathKind = 'directory' | 'file' | 'block' | 'other' | 'missing';

export interface MachineCommands {
  /**
   * Runs a program, never through a shell, for at most `timeoutMs`. A child that hangs in the
   * kernel cannot be killed; the call returns all the same.
   */
  run(command: string, args: readonly string[], timeoutMs: number): Promise<CommandOutput>;
  /** Touches it: not for what may be mounted. */
  kind(path: string): PathKind;
  /** With its parents. Whether this made it. */
  makeDirectory(path: string): boolean;
  /** An empty file to mount a device upon; with its parents. Whether this made it. */
  makeFile(path: string): boolean;
  /** An empty directory or an empty file; there is none: done. Throws BUSY when it is not empty. */
  removeEmpty(path: string): void;
  /** Null when it cannot be read. */
  readText(path: string): string | null;
}
