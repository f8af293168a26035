/**
 * Docker's volume plugin protocol, version 1: which calls there are, what stands in them, and how
 * they are answered. JSON over HTTP POST on a unix socket; every answer carries `Err`, empty when
 * all went well. What the calls do is volume-plugin.ts.
 */
import { z } from 'zod';
import { type HoldfastError, invalid } from '../core/errors.js';
import { NAME_MAX_BYTES } from '../core/limits.js';

export const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.1+json';

/**
 * The engine waits 2 min for Create and Mount and 1 min for all else: an answer comes before that.
 * Looking something up is not worth so long: `docker volume ls` would hang with it. Get is: what it
 * does not find out keeps a container from starting.
 */
const SLOW_MS = 110_000;
const QUICK_MS = 50_000;
const LOOK_MS = 20_000;

/** What a volume may be called is for its creation to say; here it must not leave a directory. */
const name = z
  .string()
  .max(NAME_MAX_BYTES)
  .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]*$/);
const named = z.object({ Name: name });
const claimed = z.object({ Name: name, ID: z.string().min(1) });
const nothing = z.unknown();
const create = z.object({
  Name: name,
  Opts: z.record(z.string(), z.string()).nullish(),
});

/** Path → what the body must be, and how long the answer may take. */
export const CALLS = {
  '/Plugin.Activate': { body: nothing, withinMs: LOOK_MS },
  '/VolumeDriver.Capabilities': { body: nothing, withinMs: LOOK_MS },
  '/VolumeDriver.Create': { body: create, withinMs: SLOW_MS },
  '/VolumeDriver.Remove': { body: named, withinMs: QUICK_MS },
  '/VolumeDriver.Mount': { body: claimed, withinMs: SLOW_MS },
  '/VolumeDriver.Unmount': { body: claimed, withinMs: QUICK_MS },
  '/VolumeDriver.Path': { body: named, withinMs: LOOK_MS },
  '/VolumeDriver.Get': { body: named, withinMs: QUICK_MS },
  '/VolumeDriver.List': { body: nothing, withinMs: LOOK_MS },
} as const;

export type PluginPath = keyof typeof CALLS;
export type PluginBody<P extends PluginPath> = z.output<(typeof CALLS)[P]['body']>;

/** One volume in answers to Get and List. */
export interface PluginVolume {
  readonly Name: string;
  /** Empty where it is not mounted on this machine. */
  readonly Mountpoint: string;
  /** ISO 8601. */
  readonly CreatedAt: string;
  /** For people: `docker volume inspect` shows it. Get alone has it. */
  readonly Status?: Readonly<Record<string, unknown>>;
}

export type PluginReply = Readonly<Record<string, unknown>> & { readonly Err: string };

export function isPluginPath(path: string): path is PluginPath {
  return Object.hasOwn(CALLS, path);
}

/** Throws INVALID_ARGUMENT. */
export function parseBody<P extends PluginPath>(path: P, text: string): PluginBody<P> {
  const result = CALLS[path].body.safeParse(jsonOf(text));
  if (result.success) return result.data as PluginBody<P>;
  const [issue] = result.error.issues;
  const where = issue?.path.join('.') ?? '';
  throw invalid(`${path}: ${where === '' ? 'the body' : `"${where}"`} is not what it must be`);
}

/** Some callers send no body where nothing is asked. */
function jsonOf(text: string): unknown {
  if (text.trim() === '') return {};
  try {
    return JSON.parse(text);
  } catch {
    throw invalid('the body of the request is not JSON');
  }
}

/** One line for people, since the engine shows it to them as it is. */
export function errorText({ message, hint }: HoldfastError): string {
  const sentence = /[.!?]$/.test(message) ? message : `${message}.`;
  return `${sentence}${hint === undefined ? '' : ` ${hint}`}`.replace(/\s*\n\s*/g, ' ');
}
