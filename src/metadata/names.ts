/**
 * What a volume may be called and how it may be replicated: rules for what users ask, kept beside
 * the model because encoding.ts enforces them on what is stored as well.
 */
import { invalid } from '../core/errors.js';
import {
  NAME_MAX_BYTES,
  REPLICA_COUNTS,
  VOLUME_MAX_BYTES,
  VOLUME_MIN_BYTES,
} from '../core/limits.js';

export const LABELS_MAX = 64;
export const LABEL_KEY_MAX_BYTES = 128;
export const LABEL_VALUE_MAX_BYTES = 1024;

/** Volumes with this label hold plain records of "holdfast log" instead of a filesystem. */
export const RAW_LOG_LABEL = { key: 'log', value: 'plain' } as const;

export function isRawLog(labels: Readonly<Record<string, string>>): boolean {
  return labels[RAW_LOG_LABEL.key] === RAW_LOG_LABEL.value;
}

/** Throws INVALID_ARGUMENT saying what is allowed. */
export function checkLabels(labels: Readonly<Record<string, string>>): void {
  const all = Object.entries(labels);
  if (all.length > LABELS_MAX) {
    throw invalid(`${all.length} labels, at most ${LABELS_MAX} are allowed`);
  }
  const large = all.find(([key, value]) => {
    const [ofKey, ofValue] = [key, value].map((text) => Buffer.byteLength(text));
    return (ofKey ?? 0) > LABEL_KEY_MAX_BYTES || (ofValue ?? 0) > LABEL_VALUE_MAX_BYTES;
  });
  if (large === undefined) return;
  const hint = `A key has at most ${LABEL_KEY_MAX_BYTES} bytes, a value ${LABEL_VALUE_MAX_BYTES}.`;
  throw invalid(`the label "${large[0].slice(0, LABEL_KEY_MAX_BYTES)}" is too long`, hint);
}

const NAME = /^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$/;

/** Such names are also pieces of keys, paths, systemd units and DNS-like ids without escapes. */
export function isVolumeName(name: string): boolean {
  return name.length <= NAME_MAX_BYTES && NAME.test(name);
}

/** Throws INVALID_ARGUMENT saying what is allowed. */
export function checkVolumeName(name: string): void {
  if (isVolumeName(name)) return;
  throw invalid(
    `"${name.slice(0, NAME_MAX_BYTES)}" is not a volume name`,
    `A name is 1 to ${NAME_MAX_BYTES} of a-z, 0-9, ".", "_" and "-", ` +
      'with a letter or digit at both ends.',
  );
}

export function checkVolumeSize(sizeBytes: number): void {
  const fits = sizeBytes >= VOLUME_MIN_BYTES && sizeBytes <= VOLUME_MAX_BYTES;
  if (Number.isSafeInteger(sizeBytes) && fits) return;
  throw invalid(
    `a volume of ${sizeBytes} bytes`,
    `A volume has ${VOLUME_MIN_BYTES} to ${VOLUME_MAX_BYTES} bytes.`,
  );
}

/** The least majority, which is also what is used when nobody says otherwise. */
export function defaultAckQuorum(replicas: number): number {
  return Math.floor(replicas / 2) + 1;
}

/**
 * The ack quorum must be a majority of the replicas. Takeover would be safe below it (it waits for
 * replicas − ackQuorum + 1 answers), but with 1 of 2 an fsync would stand on one machine alone,
 * which is what somebody who asked for two replicas wanted to be spared, and takeover would need
 * both. So two replicas mean that both acknowledge; who wants to write with one machine asks for 1
 * or 3.
 */
export function checkReplication(replicas: number, ackQuorum: number): void {
  if (!(REPLICA_COUNTS as readonly number[]).includes(replicas)) {
    throw invalid(`${replicas} replicas`, `Replicas may be ${REPLICA_COUNTS.join(', ')}.`);
  }
  const least = defaultAckQuorum(replicas);
  if (Number.isSafeInteger(ackQuorum) && ackQuorum >= least && ackQuorum <= replicas) return;
  const allowed = least === replicas ? `${least}` : `${least} to ${replicas}`;
  throw invalid(
    `an ack quorum of ${ackQuorum} with ${replicas} replicas`,
    `The ack quorum of ${replicas} replicas is ${allowed}.`,
  );
}
