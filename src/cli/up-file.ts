/**
 * up.json: what `holdfast up` writes into its data directory, so that other commands find its
 * cluster with --data-dir alone.
 */
import { readFileSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { z } from 'zod';
import { HoldfastError, invalid } from '../core/errors.js';
import { type ClusterId, parseId } from '../core/ids.js';
import { replaceDurably } from './durable-file.js';

/** Where commands look when nothing else says which cluster is meant. */
export const UP_DIRECTORY = 'holdfast-data';

const schema = z.object({
  version: z.literal(1),
  /**
   * As for --metadata; "embedded:metadata" is relative to the directory, so that it can be moved.
   */
  metadata: z.string(),
  nodes: z.int().min(1),
  cluster: z.string(),
  /** Where the nodes served when they last came up. */
  addresses: z.array(z.string()),
  /** Where the demo volume is mounted while it runs; left out by programs that mounted nothing. */
  mount: z.string().nullable().default(null),
});

export interface UpFile {
  readonly metadata: string;
  readonly secretFile: string;
  readonly nodes: number;
  readonly cluster: ClusterId;
  readonly addresses: readonly string[];
  readonly mount: string | null;
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
    const { metadata, nodes, cluster, addresses, mount } = schema.parse(JSON.parse(text));
    return {
      metadata: located(metadata, directory),
      secretFile: secretOf(directory),
      nodes,
      cluster: parseId<ClusterId>(cluster, 'cluster'),
      addresses,
      mount,
    };
  } catch {
    throw new HoldfastError('MALFORMED', `${join(directory, 'up.json')} cannot be understood`);
  }
}

export function readUpFile(directory: string): UpFile {
  const found = findUpFile(directory);
  if (found !== null) return found;
  throw invalid(`${directory} is no data directory of "holdfast up"`, 'Run "holdfast up" first.');
}

export function writeUpFile(directory: string, file: Omit<UpFile, 'secretFile'>): void {
  const path = join(directory, 'up.json');
  const { nodes, cluster, addresses, mount } = file;
  const metadata = file.metadata === embeddedIn(directory) ? 'embedded:metadata' : file.metadata;
  const value = { version: 1, metadata, nodes, cluster, addresses, mount };
  replaceDurably(path, `${JSON.stringify(value, null, 2)}\n`);
}

export function secretOf(directory: string): string {
  return join(directory, 'secret');
}

/** The embedded metadata store of a `holdfast up` directory. */
export function embeddedIn(directory: string): string {
  return `embedded:${join(resolve(directory), 'metadata')}`;
}

function located(metadata: string, directory: string): string {
  const prefix = 'embedded:';
  if (!metadata.startsWith(prefix)) return metadata;
  const path = metadata.slice(prefix.length);
  return prefix + (isAbsolute(path) ? path : join(resolve(directory), path));
}
