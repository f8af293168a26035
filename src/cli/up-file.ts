/**
 * up.json: what `holdfast up` writes into its data directory, so that other commands find its cluster with
 * --data-dir alone.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { z } from 'zod';
import { HoldfastError, invalid } from '../core/errors.js';

/** Where commands look when nothing else says which cluster is meant. */
export const UP_DIRECTORY = 'holdfast-data';

const schema = z.object({
  version: z.literal(1),
  /** As for --metadata; "embedded:metadata" is relative to the directory, so that it can be moved. */
  metadata: z.string(),
  nodes: z.int().min(1),
});

export interface UpFile {
  readonly metadata: string;
  readonly secretFile: string;
  readonly nodes: number;
}

/** Null when the directory is not one of `holdfast up`. */
export function findUpFile(directory: string): UpFile | null {
  let text: string;
  try {
    text = readFileSync(join(directory, 'up.json'), 'utf8');
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw invalid(`${directory}: ${(thrown as Error).message}`);
  }
  try {
    const { metadata, nodes } = schema.parse(JSON.parse(text));
    return { metadata: located(metadata, directory), nodes, secretFile: join(directory, 'secret') };
  } catch {
    throw new HoldfastError('MALFORMED', `${join(directory, 'up.json')} cannot be understood`);
  }
}

export function readUpFile(directory: string): UpFile {
  const found = findUpFile(directory);
  if (found !== null) return found;
  throw invalid(`${directory} is no data directory of "holdfast up"`, 'Run "holdfast up" first.');
}

/** `metadata` null: embedded in the directory. */
export function writeUpFile(directory: string, metadata: string | null, nodes: number): void {
  const path = join(directory, 'up.json');
  const value = { version: 1, metadata: metadata ?? 'embedded:metadata', nodes };
  writeFileSync(`${path}.new`, `${JSON.stringify(value, null, 2)}\n`);
  renameSync(`${path}.new`, path);
}

function located(metadata: string, directory: string): string {
  const prefix = 'embedded:';
  if (!metadata.startsWith(prefix)) return metadata;
  const path = metadata.slice(prefix.length);
  return prefix + (isAbsolute(path) ? path : join(resolve(directory), path));
}
