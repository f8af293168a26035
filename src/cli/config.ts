/**
 * Where a command's settings come from: its flags, else HOLDFAST_… in the environment, else the one
 * configuration file (JSON). The file is named by --config or HOLDFAST_CONFIG; otherwise
 * /etc/holdfast/config.json is read if it exists. It holds settings for all commands, and may hold
 * an object for each command whose settings win there: {"metadata": "…", "node": {"zone": "a"}}.
 *
 * Every value is checked by the command's schema; an error names where the value came from.
 */
import { z } from 'zod';
import { assert } from '../core/assert.js';
import { HoldfastError, invalid } from '../core/errors.js';
import { isSection, refuseUnknown, SETTINGS } from './config-keys.js';
import { readBounded } from './read-file.js';

export const DEFAULT_CONFIG_FILE = '/etc/holdfast/config.json';
const CONFIG_MAX_BYTES = 1024 * 1024;

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * A schema for text that `parse` turns into a value; its HoldfastError becomes the issue's message.
 */
export function parsed<T>(parse: (text: string) => T) {
  return z.string().transform((text, context): T => {
    try {
      return parse(text);
    } catch (thrown) {
      if (!(thrown instanceof HoldfastError)) throw thrown;
      const message =
        thrown.hint === undefined ? thrown.message : `${thrown.message}. ${thrown.hint}`;
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    }
  });
}

/** Text, or in the file a number. */
export const plainText = z.union([z.string(), z.number().transform(String)]);

/** "true" and "false" as text, or a boolean. */
export const flag = z.union([z.boolean(), z.stringbool()]);

/** A list; in the environment separated by commas. */
export const textList = z
  .union([z.array(z.string()), z.string().transform((text) => text.split(','))])
  .pipe(z.array(z.string().min(1)).min(1));

/** dataDir → HOLDFAST_DATA_DIR */
export function variableOf(setting: string): string {
  return `HOLDFAST_${kebab(setting).replaceAll('-', '_').toUpperCase()}`;
}

function kebab(setting: string): string {
  return setting.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

export interface SettingSources {
  /** The command's name: its object in the file. */
  readonly command: string;
  /** As commander gives them; undefined where a flag was not used. */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly env: Environment;
  /** What of the file is said for all commands, where that comes to something else for this one. */
  readonly shared?: Readonly<Record<string, (value: unknown) => unknown>>;
}

/** Gathers and checks a command's settings. Throws INVALID_ARGUMENT, or NOT_FOUND for the file. */
export function resolveSettings<T extends z.ZodObject>(
  schema: T,
  sources: SettingSources,
): z.output<T> {
  const { flags, env, command, shared = {} } = sources;
  const named = flags.config ?? (env.HOLDFAST_CONFIG || undefined);
  const file = readConfigFile(named === undefined ? null : String(named), command, shared);
  const values: Record<string, unknown> = {};
  const origins = new Map<string, string>();
  for (const name of Object.keys(schema.shape)) {
    assert(SETTINGS[command]?.includes(name) === true, `${command}.${name} is in config-keys.ts`);
    const variable = variableOf(name);
    const fromEnv = env[variable] === '' ? undefined : env[variable];
    const candidates: [unknown, string][] = [
      [flags[name], `--${kebab(name)}`],
      [fromEnv, variable],
      [env[INSTEAD[name] ?? ''] ? undefined : file.values[name], `"${name}" in ${file.path}`],
    ];
    const found = candidates.find(([value]) => value !== undefined);
    if (found === undefined) continue;
    values[name] = found[0];
    origins.set(name, found[1]);
  }
  const result = schema.safeParse(values);
  if (result.success) return result.data;
  throw settingFault(result.error, origins);
}

function settingFault(error: z.ZodError, origins: ReadonlyMap<string, string>): HoldfastError {
  const issue = error.issues[0];
  const name = String(issue?.path[0] ?? '');
  const origin = origins.get(name);
  if (origin === undefined) {
    const variable = variableOf(name);
    const hint = `Give --${kebab(name)}, ${variable} or "${name}" in the configuration file.`;
    return invalid(`--${kebab(name)} is missing`, hint);
  }
  const message = issue?.message ?? 'not valid';
  return invalid(`${origin}: ${message.replace(/\.$/, '')}`);
}

/**
 * What the environment may hold itself in the place of a setting of the file: nobody who sets it
 * for a command means what the file names for all.
 */
const INSTEAD: Readonly<Record<string, string>> = { secretFile: 'HOLDFAST_SECRET' };

interface ConfigFile {
  readonly path: string;
  readonly values: Readonly<Record<string, unknown>>;
}

function readConfigFile(
  named: string | null,
  command: string,
  sharedFor: NonNullable<SettingSources['shared']>,
): ConfigFile {
  const path = named ?? DEFAULT_CONFIG_FILE;
  const text = readText(path, named !== null);
  if (text === null) return { path, values: {} };
  const content = parseObject(text, path);
  const sectionOf = (name: string): Record<string, unknown> =>
    asObject(content[name], `${path}: "${name}"`);
  refuseUnknown(path, content, sectionOf);
  // The object of one command may be named like a setting of another.
  const shared = Object.entries(content)
    .filter(([name, value]) => !isSection(name, value))
    .map(([name, value]) => [name, sharedFor[name]?.(value) ?? value]);
  const own = isSection(command, content[command]) ? sectionOf(command) : {};
  return { path, values: { ...Object.fromEntries(shared), ...own } };
}

function readText(path: string, mustExist: boolean): string | null {
  try {
    return readBounded(path, CONFIG_MAX_BYTES);
  } catch (thrown) {
    if (thrown instanceof HoldfastError) {
      throw invalid(`the configuration file ${path} is too large`);
    }
    const code = (thrown as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' && !mustExist) return null;
    throw new HoldfastError('NOT_FOUND', `cannot read the configuration file ${path}: ${code}`);
  }
}

function parseObject(text: string, path: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (thrown) {
    throw invalid(`the configuration file ${path} is not JSON: ${(thrown as Error).message}`);
  }
  return asObject(value, `the configuration file ${path}`);
}

function asObject(value: unknown, what: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw invalid(`${what} is not a JSON object`);
}
