/** Real randomness: the operating system's, for ids and nonces. */
import { randomBytes } from 'node:crypto';
import type { Random } from '../random.js';

export const nodeRandom: Random = {
  bytes: (count) => randomBytes(count),
  fraction: () => Math.random(),
};
