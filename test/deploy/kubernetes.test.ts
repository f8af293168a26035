/**
 * The manifests for Kubernetes follow the types of its API, with no field that it does not know,
 * and what they tell our program to do is what it can do: deploy/kubernetes as it stands, and the
 * Helm chart with several sets of values, where Helm can be had.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { parseAllDocuments } from 'yaml';
import { DRIVER_NAME } from '../../src/csi-driver/identity.js';
import { readMutable, readParameters } from '../../src/csi-driver/parameters.js';
import { distRoot, holdfastBin } from '../fixtures/processes.js';
import { projectRoot } from '../style/source.js';

interface Container {
  readonly image: string;
  readonly args?: readonly string[];
  readonly volumeMounts?: readonly { readonly name: string }[];
}

interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly parameters?: Readonly<Record<string, string>>;
  readonly provisioner?: string;
  readonly driverName?: string;
  readonly spec?: {
    readonly template?: {
      readonly spec: {
        readonly containers: readonly Container[];
        readonly volumes?: readonly { readonly name: string }[];
      };
    };
    readonly volumeClaimTemplates?: readonly { readonly metadata: { readonly name: string } }[];
  };
}

const ROOT = projectRoot();
const PLAIN = join(ROOT, 'deploy', 'kubernetes');
const CHART = join(ROOT, 'deploy', 'helm', 'holdfast');
/** Not of Kubernetes' own API, or newer than the types that there are. */
const UNTYPED: ReadonlySet<string> = new Set(['Kustomization', 'VolumeAttributesClass']);
const COMPILE_MS = 120_000;

function read(text: string): Manifest[] {
  return parseAllDocuments(text).flatMap((document) => {
    if (document.errors.length > 0) throw document.errors[0];
    return document.contents === null ? [] : [document.toJSON() as Manifest];
  });
}

function plainManifests(): Manifest[] {
  const entries = readdirSync(PLAIN, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile() && entry.name.endsWith('.yaml'));
  return files.flatMap(({ parentPath, name }) =>
    read(readFileSync(join(parentPath, name), 'utf8')),
  );
}

/** What TypeScript says when each manifest is taken for a value of its type: '' if all is well. */
function typeErrors(manifests: readonly Manifest[]): string {
  const directory = mkdtempSync(join(tmpdir(), 'hf-manifests-'));
  try {
    const typed = manifests.filter(({ kind }) => !UNTYPED.has(kind));
    const lines = typed.map((manifest, index) => {
      const { apiVersion, kind, metadata } = manifest;
      const source = `kubernetes-models/${apiVersion}`;
      const type = `import('${source}').I${kind}`;
      const value = JSON.stringify(manifest, null, 1);
      return `// ${kind} ${metadata.name}\nexport const m${index}: ${type} = ${value};\n`;
    });
    writeFileSync(join(directory, 'manifests.ts'), lines.join('\n'));
    const compilerOptions = {
      ...{ strict: true, noEmit: true, skipLibCheck: true, types: [], module: 'esnext' },
      ...{ moduleResolution: 'bundler', target: 'es2022' },
      paths: {
        'kubernetes-models/*': [join(ROOT, 'node_modules/kubernetes-models/*')],
        '@kubernetes-models/*': [join(ROOT, 'node_modules/@kubernetes-models/*')],
      },
    };
    const config = { compilerOptions, files: ['manifests.ts'] };
    writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify(config));
    const tsc = join(ROOT, 'node_modules/.bin/tsc');
    // What the test runner gives to every Node below it is too much for the compiler.
    const command = ['-u', 'NODE_OPTIONS', tsc, '-p', directory];
    const { status, stdout, stderr } = spawnSync('env', command, {
      encoding: 'utf8',
      timeout: COMPILE_MS,
    });
    return status === 0 ? '' : `${stdout}${stderr}` || `it ended with ${status}`;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function containersOf({ spec }: Manifest): readonly Container[] {
  return spec?.template?.spec.containers ?? [];
}

/** What no type says: names that must agree, and what our own program understands. */
function tellMeaning(t: Test, manifests: readonly Manifest[]): void {
  for (const manifest of manifests) {
    const { kind, metadata, spec, parameters } = manifest;
    if (kind === 'Kustomization') continue;
    const what = `${kind} ${metadata.name}`;
    if (kind === 'CSIDriver') t.equal(metadata.name, DRIVER_NAME, what);
    if (kind === 'StorageClass') {
      t.equal(manifest.provisioner, DRIVER_NAME, what);
      t.doesNotThrow(() => readParameters(parameters ?? {}), what);
    }
    if (kind === 'VolumeAttributesClass') {
      t.equal(manifest.driverName, DRIVER_NAME, what);
      t.doesNotThrow(() => readMutable(parameters ?? {}), what);
    }
    const volumes = [
      ...(spec?.template?.spec.volumes ?? []).map(({ name }) => name),
      ...(spec?.volumeClaimTemplates ?? []).map((claim) => claim.metadata.name),
    ];
    for (const { image, args = [], volumeMounts = [] } of containersOf(manifest)) {
      t.match(image, /:[\w.-]+$/, `${what}: ${image} names a version`);
      for (const { name } of volumeMounts) t.ok(volumes.includes(name), `${what} has ${name}`);
      if (image.startsWith('holdfast:')) tellCommand(t, what, args);
    }
  }
}

const helps = new Map<string, string>();

function helpOf(command: readonly string[]): string {
  const key = command.join(' ');
  const known = helps.get(key);
  if (known !== undefined) return known;
  const options = { encoding: 'utf8', cwd: distRoot } as const;
  const { stdout } = spawnSync(process.execPath, [holdfastBin, ...command, '--help'], options);
  helps.set(key, stdout);
  return stdout;
}

/** Every option that is used there is one that the command has. */
function tellCommand(t: Test, what: string, args: readonly string[]): void {
  const words = args.filter((word) => !word.startsWith('-') && !word.includes('/'));
  const command = words[0] === 'cluster' ? words.slice(0, 2) : words.slice(0, 1);
  const stdout = helpOf(command);
  t.match(stdout, new RegExp(`Usage: holdfast ${command.join(' ')}`), `${what}: ${command}`);
  for (const option of args.filter((word) => word.startsWith('--'))) {
    const name = option.split('=')[0] as string;
    t.ok(stdout.includes(`${name} `), `${what}: holdfast ${command.join(' ')} has ${name}`);
  }
}

test('the plain manifests', async (t) => {
  const manifests = plainManifests();
  t.ok(manifests.length > 20, `${manifests.length} manifests`);
  t.equal(typeErrors(manifests), '');
  tellMeaning(t, manifests);
});

test('what is wrong is seen', async (t) => {
  const [service] = plainManifests().filter(({ kind }) => kind === 'Service');
  const misspelt = { ...service, spec: { ...service?.spec, clusterIp: 'None' } } as Manifest;
  t.match(typeErrors([misspelt]), /clusterIp/);
  const [set] = plainManifests().filter(({ kind }) => kind === 'StatefulSet');
  const { template: _, ...spec } = set?.spec ?? {};
  t.match(typeErrors([{ ...set, spec } as Manifest]), /template/);
});

const helm = spawnSync(process.execPath, [join(ROOT, 'scripts/go-tools.mjs'), 'helm'], {
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'inherit'],
});
const skip = helm.status === 0 ? false : helm.stdout.trim();

const VALUES: readonly (readonly [string, Readonly<Record<string, unknown>>])[] = [
  ['as it is', {}],
  [
    'two zones, TLS, an agent of the machine, the first time',
    {
      zones: [
        { name: 'a', nodeSelector: { zone: 'a' } },
        { name: 'b', nodeSelector: { zone: 'b' } },
      ],
      metadata: { url: 'etcds://etcd:2379?ca=/etc/holdfast/etcd/ca.crt', tlsSecret: 'etcd-tls' },
      agent: { mode: 'systemd' },
      initialise: true,
      imagePullSecrets: [{ name: 'pull' }],
    },
  ],
  [
    'storage nodes elsewhere, no agent, another kubelet',
    {
      storage: { enabled: false },
      agent: { mode: 'none' },
      node: { kubeletDirectory: '/data/kubelet' },
      storageClasses: [
        {
          ...{ name: 'fast', isDefault: true, reclaimPolicy: 'Retain', mountOptions: [] },
          parameters: { replicas: '2', fsType: 'xfs', commitInterval: '1s', ack: '2' },
        },
      ],
    },
  ],
];

test('the Helm chart', { skip }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'hf-helm-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const run = (...args: string[]) => spawnSync(helm.stdout.trim(), args, { encoding: 'utf8' });
  for (const [what, values] of VALUES) {
    const file = join(directory, 'values.json');
    writeFileSync(file, JSON.stringify(values));
    const { status, stderr } = run('lint', '--strict', CHART, '--values', file);
    t.equal(status, 0, `${what}: lint: ${stderr}`);
    const place = ['--namespace', 'storage', '--kube-version', '1.34.0', '--values', file];
    const made = run('template', 'test', CHART, ...place);
    t.equal(made.status, 0, `${what}: ${made.stderr}`);
    const manifests = read(made.stdout);
    t.ok(manifests.length > 8, what);
    t.equal(typeErrors(manifests), '', what);
    tellMeaning(t, manifests);
  }
});

test('the manifests for kustomize are what the chart makes', { skip }, async (t) => {
  const script = join(ROOT, 'scripts/render-manifests.mjs');
  const { status, stderr } = spawnSync(process.execPath, [script, '--check'], { encoding: 'utf8' });
  t.equal(status, 0, stderr);
});
