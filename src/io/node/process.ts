/**
 * What a daemon asks of its process: signals to stop, the end of its parent, memory, event loop
 * lag.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;
const SIGNAL_NUMBERS = { SIGTERM: 15, SIGINT: 2 } as const;
const LAG_RESOLUTION_MS = 20;
/** Small buffers share memory of this size; of 8 KiB, Node.js's own size, a page has no share. */
const BUFFER_POOL_BYTES = 64 * 1024;
/** What the heap may grow by between full collections: at most 8 steps of 50 %. */
const HEAP_SLACK_BYTES = 80 * 1024 * 1024;
const HEAP_GROWTH_STEP_PERCENT = 50;
const HEAP_GROWTH_STEPS = 8;
const HEAP_CHECK_MS = 5_000;

/**
 * For a process that data passes through, in buffers outside of a small heap: V8 counts them and
 * would collect the whole heap for every 10 MB. Growing threefold in between saved up to 40 % of
 * the processor time of large I/O, growing further (to sevenfold) another 15 % of a mount's. A
 * larger heap (a million files) grows by about HEAP_SLACK_BYTES. To be called at the start.
 */
export function expectBuffers(): void {
  let percent = 0;
  const adjust = (): void => {
    const wanted = (100 * HEAP_SLACK_BYTES) / getHeapStatistics().used_heap_size;
    const steps = Math.round(wanted / HEAP_GROWTH_STEP_PERCENT);
    const next = Math.min(Math.max(steps, 1), HEAP_GROWTH_STEPS) * HEAP_GROWTH_STEP_PERCENT;
    if (next !== percent) setFlagsFromString(`--heap-growing-percent=${next}`);
    percent = next;
  };
  adjust();
  setInterval(adjust, HEAP_CHECK_MS).unref();
}

/** Many small buffers of which few are kept share memory in larger pieces. */
export function shareBuffers(): void {
  Buffer.poolSize = BUFFER_POOL_BYTES;
}

/**
 * Lets V8 optimize what runs often after a third of its usual patience. A daemon's few hot paths
 * are the same in each of its lives, and until they are optimized, after every start and adoption,
 * small synchronous writes are slow: a quarter more of them in the first 5 s. An eighth gives half
 * as many again, and costs a seventh of sequential writing. To be called at the start.
 */
export function optimizeEarly(): void {
  setFlagsFromString('--interrupt-budget=24000');
}

/**
 * Calls back at the first SIGTERM or SIGINT, or (if asked) at the end of standard input. A second
 * signal ends the process at once. Returns a function that stops listening.
 */
export function onStopRequest(
  options: { readonly stdin: boolean },
  stop: (reason: string) => void,
): () => void {
  let isStopping = false;
  const onSignal = (signal: NodeJS.Signals): void => {
    const number = SIGNAL_NUMBERS[signal as keyof typeof SIGNAL_NUMBERS];
    if (isStopping) process.exit(128 + number);
    isStopping = true;
    stop(signal);
  };
  const onStdinEnd = (): void => {
    if (isStopping) return;
    isStopping = true;
    stop('the end of standard input');
  };
  for (const signal of SIGNALS) process.on(signal, onSignal);
  if (options.stdin) {
    process.stdin.on('end', onStdinEnd).on('error', onStdinEnd).resume();
  }
  return () => {
    for (const signal of SIGNALS) process.off(signal, onSignal);
    if (options.stdin) process.stdin.destroy();
  };
}

export interface ProcessVitals {
  readonly residentBytes: number;
  readonly heapBytes: number;
  /** Worst delay of the event loop since the last call, in milliseconds. */
  readonly lagMs: number;
}

/** Measures from the first call on. */
export function watchVitals(): { read(): ProcessVitals; close(): void } {
  const delay = monitorEventLoopDelay({ resolution: LAG_RESOLUTION_MS });
  delay.enable();
  const read = (): ProcessVitals => {
    const { rss, heapUsed } = process.memoryUsage();
    const worst = delay.max / 1e6 - LAG_RESOLUTION_MS;
    const lagMs = Number.isFinite(worst) && delay.count > 0 ? Math.max(0, worst) : 0;
    delay.reset();
    return { residentBytes: rss, heapBytes: heapUsed, lagMs };
  };
  return { read, close: () => void delay.disable() };
}
