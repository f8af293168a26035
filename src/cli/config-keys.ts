/**
 * What the configuration file may hold: so that every command refuses what none knows, whichever
 * command it is meant for. A slip in a name would otherwise be a setting that silently does not
 * hold. resolveSettings asserts that no command knows a setting that is missing here.
 */
import { invalid } from '../core/errors.js';

/** By the name of the object that they may stand in. */
export const SETTINGS: Readonly<Record<string, readonly string[]>> = {
  session: ['metadata', 'secretFile', 'dataDir'],
  node: [
    ...['dataDir', 'listen', 'advertise', 'metadata', 'zone', 'capacity', 'journalSize'],
    ...['secretFile', 'metricsListen', 'logLevel', 'json', 'exitWithStdin'],
  ],
  volume: [
    ...['retention', 'size', 'replicas', 'ack', 'kind', 'fsType', 'commitInterval', 'label'],
    'ifNotExists',
  ],
  mount: [
    ...['readOnly', 'foreground', 'commitInterval', 'fsType', 'options', 'timeout', 'wait'],
    'metrics',
  ],
  agent: ['socket', 'scope', 'memoryMax'],
  'docker-plugin': [
    ...['socket', 'directory', 'agent', 'propagated', 'size', 'replicas', 'wait', 'retention'],
    'logLevel',
  ],
};

const ANYWHERE: ReadonlySet<string> = new Set(Object.values(SETTINGS).flat());
const HINT = 'See "Settings" in docs/CLI.md.';

/** Throws INVALID_ARGUMENT. `sectionOf` gives an object of the file. */
export function refuseUnknown(
  path: string,
  content: Readonly<Record<string, unknown>>,
  sectionOf: (name: string) => object,
): void {
  for (const [name, value] of Object.entries(content)) {
    if (!isSection(name, value)) {
      if (ANYWHERE.has(name)) continue;
      throw invalid(`${path}: there is no setting "${name}"`, HINT);
    }
    const unknown = Object.keys(sectionOf(name)).find((key) => !SETTINGS[name]?.includes(key));
    if (unknown === undefined) continue;
    throw invalid(`${path}: "${name}" has no setting "${unknown}"`, HINT);
  }
}

/** "agent" is a command, with an object, and a setting of another one, which is a text. */
export function isSection(name: string, value: unknown): boolean {
  if (value === undefined || !Object.hasOwn(SETTINGS, name)) return false;
  return !(ANYWHERE.has(name) && typeof value === 'string');
}
