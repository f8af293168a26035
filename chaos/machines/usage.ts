/** What a process has open, and how much memory it takes. */
import { readdirSync, readFileSync } from 'node:fs';

export interface Usage {
  readonly descriptors: number;
  readonly residentBytes: number;
}

/** Null for a process that has ended. */
export function usageOf(pid: number): Usage | null {
  try {
    const descriptors = readdirSync(`/proc/${pid}/fd`).length;
    const [, kib = '0'] =
      /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return { descriptors, residentBytes: Number(kib) * 1024 };
  } catch {
    return null;
  }
}
