/**
 * What the agent keeps in the run directory: the requests of launchers, and the secrets and
 * certificates of callers whose files it does not see. Readable by root only, gone after a reboot.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PortableLocation } from '../lifecycle/agent-protocol.js';
import type { LaunchFiles } from '../lifecycle/launched-mounts.js';
import type { MountLocation } from '../lifecycle/volume-types.js';
import type { Environment } from './config.js';
import { readBounded } from './read-file.js';

/** Of secrets and certificates. */
const FILE_MAX_BYTES = 1024 * 1024;
/** Parameters of a metadata URL that name files. */
const FILE_PARAMETER = /([?&])(ca|cert|key)=([^&]+)/g;

export class AgentFiles implements LaunchFiles {
  readonly #root: string;

  /** What launchers of a former agent left has no reader any more. */
  constructor(root: string) {
    this.#root = root;
    rmSync(join(root, 'starts'), { recursive: true, force: true });
    for (const name of ['starts', 'keys']) {
      mkdirSync(join(root, name), { recursive: true, mode: 0o700 });
    }
  }

  write(id: string, request: string): { readonly request: string; readonly result: string } {
    const path = join(this.#root, 'starts', id);
    writeFileSync(`${path}.request`, request, { mode: 0o600 });
    return { request: `${path}.request`, result: `${path}.result` };
  }

  readResult(id: string): string | null {
    try {
      return readFileSync(join(this.#root, 'starts', `${id}.result`), 'utf8');
    } catch {
      return null;
    }
  }

  remove(id: string): void {
    for (const kind of ['request', 'result']) {
      rmSync(join(this.#root, 'starts', `${id}.${kind}`), { force: true });
    }
  }

  /** The same location always gets the same files; a replaced secret gets new ones. */
  settle({ metadata, secret, files, password }: PortableLocation): MountLocation {
    const placed = metadata.replace(FILE_PARAMETER, (all, mark: string, name: string) => {
      const text = files[name];
      return text === undefined ? all : `${mark}${name}=${encodePath(this.#keep(text))}`;
    });
    return {
      metadata: password === null ? placed : withPassword(placed, password),
      secretFile: secret === null ? null : this.#keep(secret),
    };
  }

  #keep(text: string): string {
    const path = join(this.#root, 'keys', createHash('sha256').update(text).digest('hex'));
    writeFileSync(`${path}.new`, text, { mode: 0o600 });
    renameSync(`${path}.new`, path);
    return path;
  }
}

/** What this process reads from files and its environment, as text. Throws what reading throws. */
export function portableLocation(
  { metadata, secretFile }: MountLocation,
  env: Environment,
): PortableLocation {
  const files: Record<string, string> = {};
  for (const [, , name = '', path = ''] of metadata.matchAll(FILE_PARAMETER)) {
    files[name] = readBounded(decodeURIComponent(path), FILE_MAX_BYTES);
  }
  const secret =
    secretFile === null ? env.HOLDFAST_SECRET : readBounded(secretFile, FILE_MAX_BYTES);
  return { metadata, files, secret: secret ?? null, password: env.HOLDFAST_ETCD_PASSWORD ?? null };
}

function encodePath(path: string): string {
  return encodeURIComponent(path).replaceAll('%2F', '/');
}

/** etcd://user@host becomes etcd://user:password@host; one that has a password keeps it. */
function withPassword(metadata: string, password: string): string {
  return metadata.replace(/^(etcds?:\/\/[^:@/?]+)@/, (_, before: string) => {
    return `${before}:${encodeURIComponent(password)}@`;
  });
}
