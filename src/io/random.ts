/**
 * The seam to randomness: cryptographic in io/node/random.ts, seeded in test/fixtures/sim-
 * random.ts.
 */

export interface Random {
  /** `count` fresh bytes. */
  bytes(count: number): Uint8Array;
  /** A uniform number in [0, 1). For jitter and choice, not for secrets. */
  fraction(): number;
}
