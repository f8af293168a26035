/**
 * What a driver and the agent of its machine say to each other: HTTP on a unix socket that root
 * alone may use, POST /v1/CALL with a JSON body, answered with `{"result": …}`, or status 500 and
 * `{"fault": PlainFault}`. Both sides may be of different versions: an unknown field is ignored, an
 * unknown call answered with status 404.
 */
import { z } from 'zod';
import { ErrorCode, HoldfastError, malformed } from '../core/errors.js';
import { isId, type VolumeId } from '../core/ids.js';
import { BLOCK_FILESYSTEMS } from '../metadata/model.js';
import { faultOf, type PlainFault, plainFault } from './keeper.js';

export const AGENT_CALLS = [
  'about',
  'list',
  'mount',
  'unmount',
  'openDevice',
  'closeDevice',
  'bind',
  'unbind',
  'grow',
  'stats',
] as const;
export type AgentCall = (typeof AGENT_CALLS)[number];

export function pathOf(call: AgentCall): string {
  return `/v1/${call}`;
}

/**
 * Where a cluster is, with what the files that this names hold: the agent does not see the caller's
 * files.
 */
const portableLocation = z.object({
  metadata: z.string(),
  /** The cluster's secret itself. */
  secret: z.string().nullable(),
  /** What stands in files that `metadata` names, by the parameter: ca, cert, key. */
  files: z.record(z.string(), z.string()),
  /** For etcd; null: it is in `metadata`, or there is none. */
  password: z.string().nullable(),
});
export type PortableLocation = z.output<typeof portableLocation>;

const mountOptions = z.object({
  readOnly: z.exactOptional(z.boolean()),
  flags: z.exactOptional(z.array(z.string())),
  fsType: z.exactOptional(z.enum(BLOCK_FILESYSTEMS)),
  commitIntervalMs: z.exactOptional(z.number()),
  waitMs: z.exactOptional(z.number()),
  timeoutMs: z.exactOptional(z.number()),
});

export const mountBody = z.object({
  request: mountOptions.extend({
    name: z.string(),
    id: z.custom<VolumeId>((value) => typeof value === 'string' && isId(value)),
    kind: z.enum(['filesystem', 'block']),
    sizeBytes: z.number(),
  }),
  machine: z.string(),
  location: portableLocation,
});

export const directoryBody = mountBody.extend({ directory: z.string() });

export const unmountBody = z.object({
  directory: z.string(),
  lazy: z.boolean().default(false),
  timeoutMs: z.exactOptional(z.number()),
});

export const volumeBody = z.object({ volume: z.string() });
export const growBody = volumeBody.extend({ sizeBytes: z.number() });
export const pathBody = z.object({ path: z.string() });

export const bindBody = z.object({
  source: z.string(),
  target: z.string(),
  readOnly: z.exactOptional(z.boolean()),
});

const fault = z.object({
  code: z.enum(ErrorCode),
  message: z.string(),
  retryable: z.boolean(),
  hint: z.exactOptional(z.string()),
});

/** Throws INVALID_ARGUMENT: the other side's doing. */
export function parseBody<T>(schema: z.ZodType<T>, body: string): T {
  const parsed = schema.safeParse(parseJson(body));
  if (parsed.success) return parsed.data;
  const { path = [], message = 'is not valid' } = parsed.error.issues[0] ?? {};
  const what = path.map(String).join('.');
  throw new HoldfastError('INVALID_ARGUMENT', `the request's ${what || 'body'}: ${message}`);
}

export function answerOf(result: unknown): string {
  return JSON.stringify({ result: result ?? null });
}

export function faultAnswerOf(thrown: HoldfastError): string {
  return JSON.stringify({ fault: plainFault(thrown) });
}

/** The result; throws the fault that was answered, or MALFORMED. */
export function resultOf(body: string): unknown {
  const answer = parseJson(body) as { readonly result?: unknown; readonly fault?: unknown } | null;
  if (answer === null || typeof answer !== 'object') throw notUnderstood();
  if (answer.fault === undefined) return answer.result;
  const parsed = fault.safeParse(answer.fault);
  if (!parsed.success) throw notUnderstood();
  throw faultOf(parsed.data as PlainFault);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function notUnderstood(): HoldfastError {
  return malformed('the agent said something that cannot be understood');
}
