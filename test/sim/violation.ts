/** A broken invariant of DESIGN §4, found by a checker: the simulation stops here. */

/** 1 to 17 as in the design; 0 for an exception or a failed assertion in product code. */
export class Violation extends Error {
  readonly invariant: number;

  constructor(invariant: number, message: string) {
    super(message);
    this.name = 'Violation';
    this.invariant = invariant;
  }
}

export function must(condition: boolean, invariant: number, message: () => string): void {
  if (!condition) throw new Violation(invariant, message());
}

/** The first digits of an id: enough to tell segments apart in a transcript. */
export function short(id: string): string {
  return id.slice(0, 6);
}
