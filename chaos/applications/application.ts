/** A real program that works on the volume while things go wrong, and can tell whether it lost. */
import type { Waits } from '../waits.js';

export interface Application {
  readonly name: string;
  readonly waits: Waits;
  /** A number that grows whenever something that it asked for is done. */
  progress(): number;
  /** Makes what it needs in its directory, once; the volume is healthy meanwhile. */
  prepare(): Promise<void>;
  /** Recovers from what it finds, then begins to work. Rejects when it cannot. */
  start(): Promise<void>;
  /** Sentences about parts of it that ended although nobody ended them. */
  complaints(): readonly string[];
  /** Ends all its processes, databases by SIGKILL; returns when they are gone. */
  kill(): Promise<void>;
  /**
   * After `kill` and a crash: sentences about what was lost or damaged, empty when all is well.
   * Leaves it stopped.
   */
  verify(): Promise<readonly string[]>;
  /** What it has done and checked so far, for the summary. */
  summary(): string;
}
