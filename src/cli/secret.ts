/**
 * The cluster's secret, from a file or the environment; never from a flag, which any user could
 * read. A file that was named by flag or environment is stronger than HOLDFAST_SECRET, which is
 * stronger than one that the configuration file names (config.ts).
 */
import { HoldfastError, invalid } from '../core/errors.js';
import type { Environment } from './config.js';
import { readBounded } from './read-file.js';

/** Shorter ones can be guessed by whoever listens to a handshake. */
const SECRET_MIN_BYTES = 16;
const SECRET_MAX_BYTES = 4096;
/** With white space around it. */
const SECRET_FILE_MAX_BYTES = 65_536;
const HINT = 'It is the file that "holdfast cluster init" made, the same on every machine.';

/**
 * White space around it does not count. Throws INVALID_ARGUMENT, also when none is given: no
 * connection is made without proof of it, not even on this machine.
 */
export function loadSecret(file: string | undefined, env: Environment): Uint8Array {
  if (file !== undefined) return checked(readSecretFile(file), `the secret file ${file}`);
  const text = env.HOLDFAST_SECRET;
  if (text !== undefined && text !== '') return checked(text, 'HOLDFAST_SECRET');
  throw invalid("the cluster's secret is missing", `Name its file: --secret-file FILE. ${HINT}`);
}

function readSecretFile(file: string): string {
  try {
    return readBounded(file, SECRET_FILE_MAX_BYTES);
  } catch (thrown) {
    if (thrown instanceof HoldfastError) throw invalid(`the secret file ${file} is too long`, HINT);
    const code = (thrown as NodeJS.ErrnoException).code;
    throw invalid(`the secret file ${file} cannot be read: ${code}`, HINT);
  }
}

function checked(text: string, what: string): Uint8Array {
  const secret = Buffer.from(text.trim());
  if (secret.length < SECRET_MIN_BYTES) {
    throw invalid(`${what} has fewer than ${SECRET_MIN_BYTES} characters`, HINT);
  }
  if (secret.length > SECRET_MAX_BYTES) throw invalid(`${what} is too long`, HINT);
  return secret;
}
