/**
 * Runs one seed from beginning to end and says what came of it. The same seed gives the same
 * result.
 */
import { Coverage } from './coverage.js';
import { endWorld, runFor } from './ending.js';
import type { Fault } from './nemesis.js';
import { Violation } from './violation.js';
import { World } from './world.js';

export interface SeedOptions {
  readonly seed: string | number;
  /** Instead of the seed's own: for shrinking. */
  readonly faults?: readonly Fault[];
  readonly transcript?: boolean;
  /** Ends the chaos earlier than the seed says: for shrinking. */
  readonly chaosMs?: number;
}

export interface SeedResult {
  readonly seed: string;
  readonly events: number;
  readonly virtualMs: number;
  /** Depends on everything that happened, in order. */
  readonly trace: number;
  readonly violation: { readonly invariant: number; readonly message: string } | null;
  readonly coverage: Readonly<Record<string, number>>;
  readonly faults: readonly Fault[];
  readonly chaosMs: number;
  readonly transcript: readonly string[];
}

/** Chaos lasts until so much has happened: what a seed costs is for faults, whatever its load. */
const CHAOS_EVENTS = 3_500;
/** A seed whose ending is short goes on in peace for a while. */
const EVENTS_MIN = 5_000;
/** Above this a seed is stuck in something that takes events but no time worth mentioning. */
const EVENTS_MAX = 3_000_000;

let rejected: unknown = null;
let listening = false;

/** A promise that nobody awaits was rejected: a bug in product code, seen by the running seed. */
function listen(): void {
  if (listening) return;
  listening = true;
  process.on('unhandledRejection', (reason) => {
    rejected ??= reason;
  });
}

export async function runSeed(options: SeedOptions): Promise<SeedResult> {
  listen();
  rejected = null;
  const world = new World(options);
  world.eventsMax = EVENTS_MAX;
  world.rejection = () => rejected;
  let violation: Violation | null = null;
  let chaosMs = options.chaosMs ?? 0;
  try {
    await world.begin();
    const began = world.scheduler.now;
    if (options.chaosMs === undefined) await runUntil(world, CHAOS_EVENTS);
    else await runFor(world, options.chaosMs);
    chaosMs = world.scheduler.now - began;
    await endWorld(world);
    if (options.chaosMs === undefined) await runUntil(world, EVENTS_MIN);
  } catch (thrown) {
    violation = world.checkers.violation ?? asViolation(thrown);
  }
  if (violation !== null) {
    const { invariant, message } = violation;
    world.note(() => `VIOLATION of invariant ${invariant}: ${message}`);
  }
  const { scheduler } = world;
  return {
    seed: world.seed,
    events: scheduler.events,
    virtualMs: scheduler.now,
    trace: scheduler.trace,
    violation: violation && { invariant: violation.invariant, message: violation.message },
    coverage: world.coverage.counts,
    faults: options.faults ?? world.spec.faults,
    chaosMs,
    transcript: world.transcript,
  };
}

async function runUntil(world: World, events: number): Promise<void> {
  while (world.scheduler.events < events) await runFor(world, 50);
}

function asViolation(thrown: unknown): Violation {
  if (thrown instanceof Violation) return thrown;
  const text = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
  return new Violation(0, text.split('\n').slice(0, 9).join('\n'));
}

export function sumCoverage(results: readonly SeedResult[]): Coverage {
  const sum = new Coverage();
  for (const result of results) sum.add(result.coverage);
  return sum;
}
