/**
 * A thread that waits for a FUSE request, in /proc: whether it, or the last of its process, is
 * ending and only kept by that. What it asked for with libaio waits when it is gone itself, and may
 * be for threads that live.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { FuseCaller } from '../fuse-device.js';

/**
 * Of /proc/PID/stat (proc(5): fields 3, 9 and 31), counted from behind the name, which may hold
 * anything: the state, the thread's flags and the signals that it has not taken yet.
 */
const STAT_STATE = 0;
const STAT_FLAGS = 6;
const STAT_SIGNALS = 28;
const PF_EXITING = 0x4;
const SIGKILL_PENDING = 1 << 8;

interface ThreadState {
  /** In the kernel, and no signal changes that. */
  readonly isStuck: boolean;
  /** Until it begins to exit: a signal that ends a process leaves a SIGKILL with each thread. */
  readonly isKilled: boolean;
  readonly isExiting: boolean;
}

export class NodeFuseCaller implements FuseCaller {
  readonly #thread: number;
  /** 0 where it cannot be seen. */
  readonly #process: number;

  constructor(thread: number) {
    this.#thread = thread;
    const group = /^Tgid:\s*(\d+)$/m.exec(read(`${thread}/status`) ?? '');
    this.#process = Number(group?.[1] ?? 0);
  }

  get isDying(): boolean {
    const state = stateOf(`${this.#thread}`);
    if (state?.isStuck && state.isKilled) return true;
    return (state === null || state.isExiting) && this.#isProcessExiting();
  }

  #isProcessExiting(): boolean {
    const threads = threadsOf(this.#process).map((thread) =>
      stateOf(`${this.#process}/task/${thread}`),
    );
    const isExiting = threads.every((state) => state === null || state.isExiting);
    return isExiting && threads.some((state) => state?.isStuck);
  }
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

function stateOf(thread: string): ThreadState | null {
  const stat = read(`${thread}/stat`);
  if (stat === null) return null;
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return {
    isStuck: fields[STAT_STATE] === 'D',
    isKilled: (Number(fields[STAT_SIGNALS]) & SIGKILL_PENDING) !== 0,
    isExiting: (Number(fields[STAT_FLAGS]) & PF_EXITING) !== 0,
  };
}

/** Null when there is no such thread, or none to be seen. */
function read(path: string): string | null {
  try {
    return readFileSync(`/proc/${path}`, 'latin1');
  } catch {
    return null;
  }
}
