/**
 * How the channel to etcd is secured: the certificate files of `--metadata`, read once, as gRPC
 * credentials. A file that cannot be used is told at once and by name, not as a failed connection.
 */
// biome-ignore lint/style/noRestrictedImports: certificate files, read once.
import { readFileSync } from 'node:fs';
import { type ChannelCredentials, credentials } from '@grpc/grpc-js';
import { invalid } from '../core/errors.js';

/** Paths of PEM files. */
export interface TlsFiles {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

/** Null means no TLS. Throws INVALID_ARGUMENT. */
export function channelCredentials(tls: TlsFiles | null): ChannelCredentials {
  if (tls === null) return credentials.createInsecure();
  const [ca, cert, key] = (['ca', 'cert', 'key'] as const).map((name) => {
    const file = tls[name];
    return file === undefined ? null : readPem(name, file);
  });
  try {
    return credentials.createSsl(ca ?? null, key ?? null, cert ?? null);
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    throw invalid(`--metadata: ca, cert and key cannot be used (${reason})`);
  }
}

function readPem(name: string, file: string): Buffer {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    throw invalid(`--metadata: ${name} cannot be read (${reason})`);
  }
  if (bytes.includes('-----BEGIN ')) return bytes;
  throw invalid(`--metadata: ${name} file "${file}" is not PEM`);
}
