/** What every fault of the nemesis is. */
import type { Field } from './field.js';

export interface Struck {
  /** What it struck, for the timeline. */
  readonly what: string;
  /** Resolves when all is as it was, or others do what it did. */
  heal(): Promise<void>;
}

export interface Fault {
  /** What it acts on; two faults at a time act on different ones. */
  readonly on: 'node' | 'etcd' | 'owner' | 'volume';
  /** Bytes are gone: every segment must have all its copies before it, and has after it. */
  readonly destroys?: boolean;
  /** Whether another fault may strike meanwhile. */
  readonly mixes?: boolean;
  strike(field: Field): Promise<Struck>;
}
