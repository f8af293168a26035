/** `holdfast node`: its options and where they may come from. What it does is node-daemon.ts. */
import type { Command } from 'commander';
import { z } from 'zod';
import { invalid } from '../core/errors.js';
import {
  JOURNAL_DEFAULT_BYTES,
  JOURNAL_MIN_BYTES,
  NODE_MAX_DISKS,
  ZONE_MAX_BYTES,
} from '../core/limits.js';
import { parseSize } from '../core/sizes.js';
import { PAGE_BYTES } from '../core/units.js';
import { isWildcard, parseAddress } from '../io/address.js';
import type { Address } from '../io/network.js';
import { LOG_LEVELS } from '../io/node/log.js';
import { flag, parsed, resolveSettings, textList } from './config.js';
import { addNodeAdminCommands } from './node-admin.js';
import { NodeDaemon, type NodeSettings } from './node-daemon.js';
import { loadSecret } from './secret.js';
import { collect } from './text.js';

const DEFAULT_LISTEN = '127.0.0.1:7400';
const JOURNAL_MAX_BYTES = 2 ** 36;

function address(what: string) {
  return parsed((text): Address => {
    parseAddress(text, what);
    return text;
  });
}

const schema = z.object({
  dataDir: textList,
  listen: address('listen address').default(DEFAULT_LISTEN),
  advertise: address('advertised address').optional(),
  metadata: z.string().min(1),
  zone: z
    .string()
    .max(ZONE_MAX_BYTES)
    .regex(/^[\w.-]+$/, 'a zone is made of letters, digits, . _ -')
    .default('default'),
  capacity: parsed((text) => parseSize(text, 'capacity')).optional(),
  journalSize: parsed((text) => journalSize(text)).default(JOURNAL_DEFAULT_BYTES),
  secretFile: z.string().min(1).optional(),
  metricsListen: address('metrics address').optional(),
  logLevel: z.enum(LOG_LEVELS).default('info'),
  json: flag.default(false),
  exitWithStdin: flag.default(false),
});

function journalSize(text: string): number {
  const bytes = parseSize(text, 'journal size');
  if (bytes < JOURNAL_MIN_BYTES || bytes > JOURNAL_MAX_BYTES) {
    throw invalid(`journal size "${text}" is not 4MiB to 64GiB`);
  }
  return bytes - (bytes % (2 * PAGE_BYTES));
}

const EXAMPLES = `
Every option may also be given as HOLDFAST_… in the environment (HOLDFAST_DATA_DIR, …), or in the
configuration file (--config, HOLDFAST_CONFIG, /etc/holdfast/config.json) as
{"node": {"dataDir": […]}}.

Examples:
  # a node for trying things out, reachable from this machine only
  holdfast node --data-dir /tmp/n1 --metadata etcd://127.0.0.1:2379 --secret-file ./secret

  # a node with two disks in rack r1
  holdfast node --data-dir /disks/a --data-dir /disks/b --listen 0.0.0.0:7400 \\
    --advertise 10.0.0.5:7400 --metadata etcd://10.0.0.1:2379 --zone r1 \\
    --secret-file /etc/holdfast/secret --metrics-listen 127.0.0.1:7401`;

export function addNodeCommand(program: Command): void {
  const node = program
    .command('node')
    .description('run a storage node on one or more data directories; list, drain, remove nodes')
    .option('--data-dir <dir>', 'an empty or formatted directory; once for each disk', collect)
    .option('--listen <host:port>', `where to serve (default: ${DEFAULT_LISTEN})`)
    .option('--advertise <host:port>', 'where others reach it (default: as --listen)')
    .option('--metadata <url>', 'etcd://HOST:PORT[,…] or embedded:DIR')
    .option(
      '--zone <name>',
      'copies go to distinct zones where there are enough (default: "default")',
    )
    .option('--capacity <size>', 'what each disk offers (default: its size)')
    .option('--journal-size <size>', 'of each disk, when it is formatted (default: 64MiB)')
    .option('--secret-file <file>', "the cluster's secret (or HOLDFAST_SECRET in the environment)")
    .option('--metrics-listen <host:port>', 'serve /metrics, /health and /ready there')
    .option('--log-level <level>', `${LOG_LEVELS.join(', ')} (default: info)`)
    .option('--config <file>', 'the configuration file')
    .option('--exit-with-stdin', 'stop when standard input ends: for a parent process')
    .option('--json', 'print the ready line and errors as JSON')
    .addHelpText('after', EXAMPLES)
    .action(async (flags: Record<string, unknown>) => {
      const settings = nodeSettings(flags, process.env);
      await new NodeDaemon(settings).run();
    });
  addNodeAdminCommands(node.enablePositionalOptions());
}

/** Gathers and checks the settings. Throws INVALID_ARGUMENT; nothing has been touched then. */
export function nodeSettings(
  flags: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
): NodeSettings {
  const { secretFile, ...settings } = resolveSettings(schema, { command: 'node', flags, env });
  if (settings.dataDir.length > NODE_MAX_DISKS) {
    throw invalid(`${settings.dataDir.length} data directories`, `At most ${NODE_MAX_DISKS}.`);
  }
  const { host } = parseAddress(settings.listen);
  const secret = loadSecret(secretFile, env);
  if (isWildcard(host) && settings.advertise === undefined) {
    const hint = 'Give --advertise HOST:PORT.';
    throw invalid(`others cannot reach this node at ${settings.listen}`, hint);
  }
  if (settings.advertise !== undefined && parseAddress(settings.advertise).port === 0) {
    throw invalid(`others cannot reach this node at ${settings.advertise}`, 'Name its real port.');
  }
  return { ...settings, secret };
}
