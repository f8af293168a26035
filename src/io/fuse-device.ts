/**
 * The seam to a FUSE connection: whole requests come in, whole replies go out. The real twin
 * (io/node/fuse-device.ts) is a non-blocking /dev/fuse descriptor; test/fuse/fake-device.ts plays
 * the kernel's part in transcripts. Requests keep their order; replies may take any.
 */
import type { HoldfastError } from '../core/errors.js';

export interface FuseDeviceHandlers {
  /** One request: the first `length` bytes of `buffer`, valid until this call returns. */
  onRequest(buffer: Buffer, length: number): void;
  /**
   * Once, last: the connection is over. `error` is null after an unmount or an abort, which the
   * kernel does not tell apart.
   */
  onClose(error: HoldfastError | null): void;
}

/**
 * What became of a reply. 'gone': nobody waits for it any more (the connection was aborted), which
 * is no fault. 'refused': the kernel did not understand it and still waits for a good one.
 */
export type ReplyOutcome = 'sent' | 'gone' | 'refused';

/** A thread that waits for an answer. */
export interface FuseCaller {
  /**
   * Whether its process is ending and cannot before it is answered. False where that is not to be
   * seen (another PID namespace).
   */
  readonly isDying: boolean;
}

export interface FuseDevice {
  /** To be called once; nothing is delivered before, nor before this call has returned. */
  start(handlers: FuseDeviceHandlers): void;
  /**
   * Sends one message: the first `length` bytes of `head`, then all parts. Done with the memory
   * when it returns; what is behind `length` in `head` may be overwritten. A no-op ('gone') after
   * close.
   */
  reply(head: Buffer, length: number, parts: readonly Uint8Array[]): ReplyOutcome;
  /** Who asks, as a request names him. */
  caller(pid: number): FuseCaller;
  /** Says that every request delivered is answered: only another one can come next. */
  settled(): void;
  /** Stops (true) or resumes (false) delivery: requests then wait in the kernel. */
  pause(paused: boolean): void;
  /**
   * Lets go of the descriptor. The kernel ends the connection when its last holder has. No handler
   * is called afterwards. Idempotent.
   */
  close(): void;
}

/** One line of the kernel's table of mounts. */
export interface MountEntry {
  readonly mountPoint: string;
  /** Such as `fuse.holdfast`. */
  readonly type: string;
  readonly source: string;
  /** MAJOR:MINOR of the filesystem, as st_dev. */
  readonly device: string;
  /** Which part of the filesystem is seen there: `/`, but of bind mounts. */
  readonly root: string;
  /** Of this mount, whatever the filesystem is. */
  readonly readOnly: boolean;
}

/** What a mount or umount command said. */
export interface CommandResult {
  readonly status: number | null;
  readonly message: string;
}

/** An open, not yet mounted connection: a descriptor that the kernel has given no filesystem. */
export interface FuseDescriptor {
  readonly fd: number;
}

/** The seam to what a mount needs of the operating system. Real: io/node/fuse-device-mounts.ts. */
export interface FuseMounts {
  effectiveUid(): number;
  /** Opens /dev/fuse without blocking reads. Throws NOT_FOUND or UNAVAILABLE. */
  open(): FuseDescriptor;
  closeDescriptor(descriptor: FuseDescriptor): void;
  /**
   * The mounts that this process sees, or another one, in the order in which they were made. Throws
   * NOT_FOUND when there is no such process.
   */
  table(pid?: number): MountEntry[];
  /** All that run, as far as this one sees. */
  processes(): number[];
  /**
   * The absolute path without symlinks; a mount point whose daemon hangs is not asked for. Throws
   * NOT_FOUND when its parent is missing.
   */
  resolve(path: string): string;
  /** Whether it is a directory; 'missing' when there is nothing. Touches it. */
  kind(path: string): 'directory' | 'other' | 'missing';
  /** Runs mount(8); the child sees the descriptor as fd 3. Gives it up after `timeoutMs`. */
  mount(
    args: readonly string[],
    descriptor: FuseDescriptor,
    timeoutMs: number,
  ): Promise<CommandResult>;
  umount(args: readonly string[], timeoutMs: number): Promise<CommandResult>;
  /**
   * Ends the connection of a filesystem, MAJOR:MINOR, for all who have it mounted, in whatever
   * mount namespace. False where the kernel offers no way to (fusectl).
   */
  abort(device: string): Promise<boolean>;
  /** Sets how far the kernel reads ahead on a mounted filesystem; false where it cannot be set. */
  setReadahead(device: string, kib: number): boolean;
}
