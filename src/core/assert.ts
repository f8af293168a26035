/**
 * Assertions for bugs, on in production: a wrong assumption about our own code stops the process
 * rather than spread to a disk. Faults of the world are errors.ts.
 */

export class AssertionFailure extends Error {
  constructor(message: string) {
    super(`bug: ${message}`);
    this.name = 'AssertionFailure';
  }
}

export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionFailure(message);
}

/** For the default branch of an exhaustive switch. */
export function unreachable(value: never): never {
  throw new AssertionFailure(`unreachable: ${JSON.stringify(value)}`);
}

/** For values that the code just put there, such as a Map entry it knows to exist. */
export function present<T>(value: T | undefined | null, message: string): T {
  if (value === undefined || value === null) throw new AssertionFailure(message);
  return value;
}
