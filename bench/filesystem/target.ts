/** What a workload runs on: a file system that is mounted somewhere, and what to do about it. */
import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { run } from './command.js';

export interface Target {
  readonly name: TargetName;
  /** Where the workloads make their files. */
  readonly directory: string;
  /** What starts a program where the target can be seen: put before its own arguments. */
  readonly prefix: readonly string[];
  /** Forgets what the target and its mount have in memory, so that the next reads are cold. */
  cool(): Promise<void>;
  /**
   * A command after which everything in the directory is durable. sync(2) does not reach FUSE file
   * systems, so each has its own.
   */
  syncCommand(directory: string): readonly string[];
  /** Removes everything. Also after a start that failed. */
  close(): Promise<void>;
}

export const TARGET_NAMES = ['holdfast', 'ext4', 'glusterfs', 'bare'] as const;
export type TargetName = (typeof TARGET_NAMES)[number];

/** A new directory that every user may pass, as PostgreSQL's has to. */
export function makeDirectory(parent: string, what: string): string {
  const directory = mkdtempSync(join(resolve(parent), `holdfast-bench-${what}-`));
  chmodSync(directory, 0o755);
  return directory;
}

/** Writes back what is dirty on this machine, so that one target's work does not slow the next. */
export async function settle(directory: string, signal?: AbortSignal): Promise<void> {
  await run(['sync', '-f', directory], signal === undefined ? {} : { signal });
}

/** Everything clean leaves the kernel's memory: pages, names and inodes of all file systems. */
export function dropCaches(): void {
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}
