/**
 * Opens the store that `--metadata` names, and finds out at once whether it can be used:
 *   etcd://[user[:password]@]host:port[,host:port…][?ca=FILE&cert=FILE&key=FILE]
 *   embedded:DIR
 * TLS is used for etcds:// and whenever a certificate authority is named. The password may come
 * from HOLDFAST_ETCD_PASSWORD instead, so that it need not stand in a list of processes.
 */
import { HoldfastError, invalid } from '../core/errors.js';
import type { Clock } from '../io/clock.js';
import type { Random } from '../io/random.js';
import type { TlsFiles } from './etcd-tls.js';
import { CLUSTER_KEY } from './keys.js';
import type { MetadataStore } from './store.js';

export interface EtcdLocation {
  readonly type: 'etcd';
  readonly endpoints: readonly string[];
  readonly user: { readonly name: string; readonly password: string } | null;
  readonly tls: TlsFiles | null;
}

export type MetadataLocation =
  | EtcdLocation
  | { readonly type: 'embedded'; readonly directory: string };

export interface OpenOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** The environment; only HOLDFAST_ETCD_PASSWORD is looked at. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly timeoutMs?: number;
  /** An embedded store that is not there is NOT_FOUND, and not made. */
  readonly mustExist?: boolean;
}

const USAGE = 'Use etcd://HOST:PORT[,HOST:PORT] or embedded:DIR.';
const SHAPE = /^(etcds?):\/\/(?:([^@/?#]*)@)?([^@/?#]+)\/?(?:\?([^#]*))?$/;
const ENDPOINT = /^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):(\d{1,5})$/;
const DEFAULT_PORT = 2379;
const TLS_FILES = ['ca', 'cert', 'key'] as const;

/** Throws INVALID_ARGUMENT. The message never holds a password. */
export function parseMetadataLocation(
  text: string,
  env: OpenOptions['env'] = {},
): MetadataLocation {
  if (text.startsWith('embedded:')) {
    const directory = text.slice('embedded:'.length);
    if (directory === '') throw invalid('--metadata embedded: names no directory', USAGE);
    return { type: 'embedded', directory };
  }
  const match = SHAPE.exec(text);
  if (match === null) throw invalid('--metadata is not a location of a metadata store', USAGE);
  const [, scheme, login, hosts = '', query = ''] = match;
  return {
    type: 'etcd',
    endpoints: hosts.split(',').map(endpointOf),
    user: login === undefined ? null : userOf(login, env.HOLDFAST_ETCD_PASSWORD),
    tls: tlsOf(scheme === 'etcds', query),
  };
}

function endpointOf(host: string): string {
  const endpoint = /:\d+$/.test(host) && host !== '' ? host : `${host}:${DEFAULT_PORT}`;
  const port = Number(ENDPOINT.exec(endpoint)?.[1]);
  if (port >= 1 && port <= 65_535) return endpoint;
  throw invalid(`--metadata: "${host}" is not HOST:PORT`, USAGE);
}

function userOf(
  login: string,
  passwordOfEnv: string | undefined,
): { readonly name: string; readonly password: string } {
  const colon = login.indexOf(':');
  const name = decode(colon === -1 ? login : login.slice(0, colon));
  const password = colon === -1 ? passwordOfEnv : decode(login.slice(colon + 1));
  if (name === '') throw invalid('--metadata: the user name is empty', USAGE);
  if (password !== undefined) return { name, password };
  throw invalid(
    `--metadata: no password for the etcd user "${name}"`,
    'Set HOLDFAST_ETCD_PASSWORD, or write etcd://USER:PASSWORD@HOST:PORT.',
  );
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid('--metadata: user and password must be percent-encoded', USAGE);
  }
}

function tlsOf(wanted: boolean, query: string): EtcdLocation['tls'] {
  const files: { ca?: string; cert?: string; key?: string } = {};
  for (const [name, value] of new URLSearchParams(query)) {
    const known = TLS_FILES.find((one) => one === name);
    if (known === undefined) throw invalid(`--metadata: "${name}" is not known here`, USAGE);
    if (value === '') throw invalid(`--metadata: ${name} names no file`, USAGE);
    files[known] = value;
  }
  if ((files.cert === undefined) !== (files.key === undefined)) {
    throw invalid('--metadata: cert and key go together', USAGE);
  }
  if (files.cert !== undefined && files.ca === undefined && !wanted) {
    throw invalid('--metadata: cert and key need TLS', 'Name a ca, or use etcds://.');
  }
  return wanted || files.ca !== undefined ? files : null;
}

/**
 * Opens and tries the store. Throws INVALID_ARGUMENT (location, files), NOT_FOUND, UNAUTHENTICATED,
 * or UNAVAILABLE and TIMEOUT, after which the same call may succeed later.
 */
export async function openMetadata(text: string, options: OpenOptions): Promise<MetadataStore> {
  const location = parseMetadataLocation(text, options.env);
  const store = await makeStore(location, options);
  try {
    await store.get(CLUSTER_KEY);
    return store;
  } catch (thrown) {
    await store.close();
    if (thrown instanceof HoldfastError && thrown.hint === undefined && thrown.retryable) {
      const hint = 'Check that the metadata store runs and that --metadata names it.';
      const { code, message, cause } = thrown;
      throw new HoldfastError(code, message, { retryable: true, hint, cause });
    }
    throw thrown;
  }
}

/** Loads the store that is used only: gRPC is a fifth of what starting a mount costs. */
async function makeStore(location: MetadataLocation, options: OpenOptions): Promise<MetadataStore> {
  const { clock, random, timeoutMs } = options;
  const bound = timeoutMs === undefined ? {} : { timeoutMs };
  if (location.type === 'embedded') {
    const { EmbeddedStore } = await import('./embedded.js');
    const { directory } = location;
    if (options.mustExist === true) EmbeddedStore.refuseMissing(directory);
    return new EmbeddedStore({ directory, clock, random, ...bound });
  }
  const { endpoints, user, tls } = location;
  const { EtcdStore } = await import('./etcd.js');
  const { channelCredentials } = await import('./etcd-tls.js');
  return new EtcdStore({
    name: `etcd://${endpoints.join(',')}`,
    endpoints,
    credentials: channelCredentials(tls),
    user,
    clock,
    ...bound,
  });
}
