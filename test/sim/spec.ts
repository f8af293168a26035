/**
 * A seed's shape: cluster, volumes, limits, workload and faults, all drawn before anything runs.
 */
import { KIB } from '../../src/core/units.js';
import type { OwnerLimits } from '../../src/replication/owner-types.js';
import type { SimRandom } from '../fixtures/sim-random.js';
import { type Fault, planFaults } from './nemesis.js';

export interface VolumeSpec {
  readonly replicas: number;
  readonly ackQuorum: number;
  /** Small files on the volume layer, instead of bare records. */
  readonly filesystem: boolean;
}

export interface WorldSpec {
  /** Disks of each node. */
  readonly drives: readonly number[];
  readonly volumes: readonly VolumeSpec[];
  /** How many nodes permanent damage may befall: no segment loses more copies than it can bear. */
  readonly damagedNodes: number;
  /** Faults begin within this time; chaos lasts about as long (run-seed.ts). */
  readonly chaosMs: number;
  readonly appendMs: number;
  readonly burst: number;
  readonly largeChance: number;
  readonly readMs: number;
  readonly latencyMs: number;
  /** So short that laps end many times in a seed; mostly as long as half a journal. */
  readonly journalLapBytes: number;
  readonly ownerLimits: Partial<OwnerLimits>;
  /** How long repair waits for a node; far less than in life, as leases are shorter too. */
  readonly repairGraceMs: number;
  readonly faults: readonly Fault[];
}

const SHAPES: readonly (readonly [number, number])[] = [
  [3, 2],
  [3, 2],
  [3, 2],
  [3, 2],
  [5, 3],
  [3, 3],
  [3, 1],
  [2, 2],
  [2, 1],
  [1, 1],
  [5, 2],
  [5, 4],
];

const FILESYSTEM_CHANCE = 0.2;

/**
 * Lost copies that a segment bears: acknowledged bytes survive and a takeover can still be
 * completed.
 */
export function bearable({ replicas, ackQuorum }: Omit<VolumeSpec, 'filesystem'>): number {
  return Math.min(ackQuorum - 1, replicas - ackQuorum);
}

export function makeSpec(random: SimRandom): WorldSpec {
  const nodes = 3 + random.below(4);
  const possible = SHAPES.filter(([replicas]) => replicas <= nodes);
  const files = random.fork('filesystem');
  const volumes = Array.from({ length: random.chance(0.3) ? 2 : 1 }, () => {
    const [replicas, ackQuorum] = random.pick(possible);
    return { replicas, ackQuorum, filesystem: files.chance(FILESYSTEM_CHANCE) };
  });
  // About what CHAOS_EVENTS take.
  const chaosMs = random.pick(volumes.length === 1 ? [5_000, 7_000, 9_000] : [3_000, 4_500, 6_000]);
  const softBytes = random.pick([48, 96, 192, 400]) * KIB;
  return {
    drives: Array.from({ length: nodes }, () => (random.chance(0.25) ? 2 : 1)),
    volumes,
    damagedNodes: Math.min(...volumes.map(bearable)),
    chaosMs,
    appendMs: random.pick([15, 30, 60, 120]),
    burst: random.pick([1, 3, 8]),
    largeChance: random.pick([0, 0.02, 0.15]),
    readMs: random.pick([100, 300, 1_000]),
    latencyMs: random.pick([0.1, 0.4, 2]),
    journalLapBytes: random.fork('laps').pick([48, 4_096, 4_096]) * KIB,
    ownerLimits: {
      segmentSoftBytes: softBytes,
      maxLagBytes: random.pick([32, 256, 16_384]) * KIB,
      maxLagMs: random.pick([100, 400, 1_000]),
      maxPendingBytes: random.pick([256, 4_096]) * KIB,
      maxBatchesInFlight: random.pick([1, 4, 16]),
      requestTimeoutMs: random.pick([500, 1_500, 5_000]),
      retryMaxMs: random.pick([300, 1_000]),
      // So few that most swaps are near the end of a chunk.
      chunkSegments: random.fork('chunks').pick([1, 2, 4]),
      // As short as lives are here; a minute and a day otherwise.
      absentMs: random.fork('absent').pick([300, 1_500, 60_000]),
      segmentMaxAgeMs: random.fork('age').pick([1_000, 5_000, 86_400_000]),
    },
    repairGraceMs: random.fork('repair').pick([200, 1_000, 4_000]),
    faults: planFaults(random.fork('faults'), chaosMs),
  };
}
