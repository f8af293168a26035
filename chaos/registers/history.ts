/**
 * What was done to registers, single pages of a file, and whether there is an order of it that each
 * register could have gone through: linearizability. Every write stores a number of its own, which
 * makes that cheap to decide, exactly: Gibbons and Korach, "Testing shared memories" (SIAM J.
 * Comput. 26, 1997), for one register with unique values.
 *
 * The operations of one value, its write and the reads of it, must happen with none of another
 * value in between. Its *zone* is from the first end to the last start of them. Where the first end
 * is earlier, the value was there all that time (forward); else the zone, turned round, is when it
 * may have been, and a moment within is enough (backward). There is an order iff no two forward
 * zones overlap, no backward one is inside a forward one, and no read ends before its write begins.
 */

/** Before anything is written, a register holds this. */
export const INITIAL = 0;

export interface RegisterOperation {
  readonly kind: 'write' | 'read';
  readonly register: number;
  /** Of a write: its own, above 0. */
  readonly value: number;
  /** When it was called, and when it had returned, by one clock. */
  readonly began: number;
  /** Infinity when it failed or never returned: a write may then happen at any time, or never. */
  readonly ended: number;
  /** Of a read: a crash of the owner may undo what it saw, which must not be older, no more. */
  readonly isVolatile?: boolean;
}

interface Zone {
  readonly value: number;
  readonly from: number;
  readonly to: number;
  readonly isForward: boolean;
}

/** Sentences about what no order explains; empty when there is one for every register. */
export function checkRegisters(history: readonly RegisterOperation[]): string[] {
  const registers = new Map<number, RegisterOperation[]>();
  for (const operation of history) {
    // A read without a result says nothing.
    if (operation.kind === 'read' && operation.ended === Number.POSITIVE_INFINITY) continue;
    const these = registers.get(operation.register);
    if (these === undefined) registers.set(operation.register, [operation]);
    else these.push(operation);
  }
  return [...registers].flatMap(([register, operations]) =>
    checkOne(operations).map((fault) => `register ${register}: ${fault}`),
  );
}

function checkOne(operations: readonly RegisterOperation[]): string[] {
  const writes = new Map<number, RegisterOperation>();
  const reads = new Map<number, RegisterOperation[]>();
  const volatile = operations.filter(({ isVolatile }) => isVolatile === true);
  for (const operation of operations) {
    const { kind, value, isVolatile } = operation;
    if (kind === 'write') writes.set(value, operation);
    else if (isVolatile !== true) reads.set(value, [...(reads.get(value) ?? []), operation]);
  }
  const never = Number.NEGATIVE_INFINITY;
  const initial = {
    kind: 'write',
    register: 0,
    value: INITIAL,
    began: never,
    ended: never,
  } as const;
  writes.set(INITIAL, initial);
  for (const [value, [read]] of reads) {
    if (!writes.has(value)) return [`${value} was read at ${read?.ended}, and never written`];
  }
  const stale = staleness(writes);
  for (const read of volatile) {
    const fault = stale(read);
    if (fault !== null) return [fault];
  }
  const zones: Zone[] = [];
  for (const [value, write] of writes) {
    const these = reads.get(value) ?? [];
    const early = these.find(({ ended }) => ended < write.began);
    if (early !== undefined) return [`${value} was read at ${early.ended}, before it was written`];
    // What may never have happened, and nobody saw.
    if (these.length === 0 && write.ended === Number.POSITIVE_INFINITY) continue;
    zones.push(zoneOf(value, [write, ...these]));
  }
  return conflicts(zones);
}

/**
 * Whether a read saw a value that was there for good, and then another one, before it began: tells
 * so of each read, from the writes in order of their ends and the latest start up to each.
 */
function staleness(writes: ReadonlyMap<number, RegisterOperation>) {
  const sorted = [...writes.values()].sort((a, b) => a.ended - b.ended);
  const latest: RegisterOperation[] = [];
  for (const write of sorted) {
    const before = latest[latest.length - 1];
    latest.push(before !== undefined && before.began > write.began ? before : write);
  }
  return ({ value, began, ended }: RegisterOperation): string | null => {
    const write = writes.get(value);
    if (write === undefined) return `${value} was read at ${ended}, and never written`;
    const later = latest[countBefore(sorted, (one) => one.ended, began) - 1];
    if (later === undefined || later.began <= write.ended) return null;
    return `${value} was read from ${began} on, but was overwritten by ${later.value} before`;
  };
}

function zoneOf(value: number, operations: readonly RegisterOperation[]): Zone {
  let firstEnd = Number.POSITIVE_INFINITY;
  let lastStart = Number.NEGATIVE_INFINITY;
  for (const { began, ended } of operations) {
    firstEnd = Math.min(firstEnd, ended);
    lastStart = Math.max(lastStart, began);
  }
  const isForward = firstEnd < lastStart;
  const [from, to] = isForward ? [firstEnd, lastStart] : [lastStart, firstEnd];
  return { value, from, to, isForward };
}

/** Forward zones in order; then each backward one is looked up among them. */
function conflicts(zones: readonly Zone[]): string[] {
  const forward = zones.filter((zone) => zone.isForward).sort((a, b) => a.from - b.from);
  for (let at = 1; at < forward.length; at++) {
    const [first, second] = [forward[at - 1], forward[at]];
    if (first === undefined || second === undefined || second.from >= first.to) continue;
    return [`${first.value} and ${second.value} were both there at ${second.from}`];
  }
  for (const { value, from, to, isForward } of zones) {
    if (isForward) continue;
    const around = forward[countBefore(forward, (zone) => zone.from, from) - 1];
    if (around === undefined || to >= around.to) continue;
    return [`${value} is of ${from} to ${to}, while ${around.value} was there until ${around.to}`];
  }
  return [];
}

/** How many of what is sorted by `of` are below a moment. */
function countBefore<T>(sorted: readonly T[], of: (one: T) => number, moment: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const one = sorted[middle];
    if (one !== undefined && of(one) < moment) low = middle + 1;
    else high = middle;
  }
  return low;
}
