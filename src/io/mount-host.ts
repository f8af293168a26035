/**
 * The seam to what mounts need of their machine besides mount(8) itself (io/fuse-device.ts): a
 * directory for their state, processes that outlive the caller, and a socket a daemon. Real:
 * io/node/mount-host.ts.
 */
import type { FuseDescriptor, FuseMounts } from './fuse-device.js';

/** A process that cannot be taken for a later one with the same number. */
export interface ProcessIdentity {
  readonly pid: number;
  /** When it started, in the kernel's clock ticks since boot. */
  readonly startTicks: string;
}

/** One directory for each mount, with a few small files. Gone after a reboot. */
export interface StateDirectory {
  /**
   * All entries, in no order; empty when nothing was ever mounted. Names that begin with a dot are
   * of what is being made or removed just now, by anybody, and are no entries.
   */
  list(): string[];
  /**
   * Readable by root only, and there with these files or not at all. Throws DISK_FULL or
   * UNAVAILABLE when it cannot be made.
   */
  create(entry: string, files: Readonly<Record<string, string>>): void;
  /**
   * Replaces the file at once: readers see the old or the new text. Throws DISK_FULL, UNAVAILABLE.
   */
  write(entry: string, file: string, text: string): void;
  /** Null when there is none. */
  read(entry: string, file: string): string | null;
  /** With everything in it, at once. Idempotent. */
  remove(entry: string): void;
  path(entry: string, file?: string): string;
  /** Makes the directory for logs, and says where the one of this name is. */
  logFile(name: string): string;
}

export interface KeeperOptions {
  /** For `sh -c`. */
  readonly script: string;
  /** $1 and so on. */
  readonly args: readonly string[];
  /** Becomes its descriptor 3. */
  readonly descriptor: FuseDescriptor;
  /** Standard error is appended to it; null: the caller's own. */
  readonly logFile: string | null;
}

export interface KeeperHandlers {
  /** A line of its standard output. */
  onLine(line: string): void;
  /** It has ended; `status` is its exit code, or the signal's name. */
  onExit(status: number | string): void;
}

/** A detached process in a session of its own, with its standard input and output in our hands. */
export interface Keeper {
  readonly pid: number;
  /** To its standard input. */
  write(line: string): void;
  /** Ends its standard input, which it also sees when this process dies. */
  end(): void;
  /** SIGKILL to it and everything that it started. */
  kill(): void;
  /** From here on it does not keep this process from ending. */
  detach(): void;
}

export interface ControlAnswer {
  readonly status: number;
  readonly body: string;
}

export interface MountHost {
  readonly mounts: FuseMounts;
  readonly state: StateDirectory;
  /** The command line that runs this very program: Node, its options, the script. */
  readonly program: readonly string[];
  startKeeper(options: KeeperOptions, handlers: KeeperHandlers): Keeper;
  /** Null when there is no such process. */
  identify(pid: number): ProcessIdentity | null;
  /**
   * One request over a daemon's socket. Rejects with UNAVAILABLE when nobody listens there, TIMEOUT
   * when nobody answers.
   */
  ask(
    socket: string,
    request: { readonly method: 'GET' | 'POST'; readonly path: string },
    timeoutMs: number,
  ): Promise<ControlAnswer>;
}
