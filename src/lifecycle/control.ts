/**
 * What a mount daemon answers over its control socket, in HTTP so that people can ask it with curl:
 * GET /status (LiveStatus as JSON), POST /commit (200 once everything up to now is on stable
 * storage), POST /hand-over (200 once it is and nothing more is answered: the keeper's next daemon
 * goes on), GET /metrics (for Prometheus). A fault is status 500 with PlainFault as JSON.
 */
import { z } from 'zod';
import type { HoldfastError } from '../core/errors.js';
import { ErrorCode, malformed } from '../core/errors.js';
import type { ControlAnswer, MountHost } from '../io/mount-host.js';
import { type PlainFault, plainFault } from './keeper.js';
import type { LiveStatus } from './mount-types.js';

export type ControlCall = keyof typeof METHODS;

const METHODS = { status: 'GET', commit: 'POST', 'hand-over': 'POST' } as const;
const OK = 200;
const FAULT = 500;

const fault = z.object({
  code: z.enum(ErrorCode),
  message: z.string(),
  retryable: z.boolean(),
  hint: z.string().optional(),
});

const live = z.object({
  phase: z.enum(['starting', 'adopting', 'mounted', 'stopping', 'failed']),
  detail: z.string(),
  pid: z.number(),
  version: z.string().default('unknown'),
  volumeId: z.string().nullable(),
  epoch: z.number(),
  sizeBytes: z.number(),
  usedBytes: z.number(),
  files: z.number(),
  freeFiles: z.number(),
  dirtyBytes: z.number(),
  lastCommit: z.string().nullable(),
  waitingSince: z.string().nullable().default(null),
  leaseHeld: z.boolean(),
  localReadPages: z.number().default(0),
  residentBytes: z.number(),
});

/** Calls a daemon. Rejects when it cannot be reached; what it refuses comes as `fault`. */
export async function callDaemon(
  host: MountHost,
  socket: string,
  what: ControlCall,
  timeoutMs: number,
): Promise<{ readonly body: string; readonly fault: PlainFault | null }> {
  const request = { method: METHODS[what], path: `/${what}` };
  const { status, body } = await host.ask(socket, request, timeoutMs);
  return { body, fault: status === OK ? null : parseFault(body) };
}

export function parseStatus(body: string): LiveStatus {
  return parse(body, live) as LiveStatus;
}

/** Of a `failed` event or an answer. Throws MALFORMED. */
export function parseFault(body: string): PlainFault {
  return parse(body, fault) as PlainFault;
}

export function okAnswer(value: unknown): ControlAnswer {
  return { status: OK, body: `${JSON.stringify(value)}\n` };
}

export function faultAnswer(thrown: HoldfastError): ControlAnswer {
  return { status: FAULT, body: `${JSON.stringify(plainFault(thrown))}\n` };
}

function parse<T>(body: string, schema: z.ZodType<T>): T {
  try {
    return schema.parse(JSON.parse(body));
  } catch {
    throw malformed('the mount daemon said something that cannot be understood');
  }
}
