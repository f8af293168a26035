/**
 * Who may import whom. The layers are those of the design: core at the bottom, cli at the top,
 * and the storage node (block) and the metadata store unaware of each other, so that each can be
 * replaced, simulated and read alone.
 */
import { posix } from 'node:path';
import { lineAt, type SourceFile, type Violation } from './source.js';

export interface ImportEdge {
  readonly from: string;
  readonly line: number;
  /** As written. */
  readonly specifier: string;
  /** The project file meant, or undefined for a package or a node: module. */
  readonly target: string | undefined;
  /** `import type`: gone when the program runs. */
  readonly typeOnly: boolean;
}

/** Layer → layers that it may import, besides itself. `block/wire` is block's wire format. */
const ALLOWED: Readonly<Record<string, readonly string[] | 'everything'>> = {
  core: [],
  io: ['core'],
  'io/node': ['io', 'core'],
  'block/wire': ['io', 'core'],
  block: ['block/wire', 'io', 'core'],
  metadata: ['io', 'core'],
  replication: ['block/wire', 'metadata', 'io', 'core'],
  volume: ['replication', 'io', 'core'],
  fuse: ['volume', 'io', 'core'],
  lifecycle: ['fuse', 'metadata', 'volume', 'replication', 'io', 'core'],
  'csi-driver': ['lifecycle', 'io', 'core'],
  'volume-plugin': ['lifecycle', 'io', 'core'],
  cli: 'everything',
};

/** Package → path prefixes under src/ that may import it. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  level: ['src/metadata/embedded', 'src/io/node/'],
  '@grpc/grpc-js': [
    'src/metadata/etcd',
    'src/metadata/embedded',
    'src/csi-driver/',
    'src/io/node/',
  ],
  '@grpc/proto-loader': ['src/metadata/etcd', 'src/csi-driver/', 'src/io/node/'],
  commander: ['src/cli/'],
  pino: ['src/cli/', 'src/io/node/'],
  'prom-client': ['src/cli/', 'src/io/node/'],
  zod: [
    'src/cli/',
    'src/csi-driver/',
    'src/volume-plugin/',
    'src/lifecycle/',
    'src/metadata/',
    'src/io/node/',
  ],
};

export const BANNED_MODULES: readonly string[] = [
  'node:fs',
  'node:fs/promises',
  'node:net',
  'node:dgram',
  'node:timers',
  'node:timers/promises',
  'node:perf_hooks',
  'node:child_process',
];

/**
 * Files whose whole purpose is one real resource that no seam has: the embedded metadata store's
 * unix socket and directory, and the certificate files for etcd.
 */
const EXEMPT: Readonly<Record<string, readonly string[]>> = {
  'src/metadata/embedded.ts': ['node:fs', 'node:net'],
  'src/metadata/embedded-server.ts': ['node:fs', 'node:net'],
  'src/metadata/etcd-tls.ts': ['node:fs'],
};

/** Places that compose real parts, and so may read clocks, open files and print. */
export function composesRealParts(path: string): boolean {
  return /^(src\/io\/node|src\/cli|test|bench|chaos|scripts)\//.test(path);
}

const STATIC_IMPORT = /^(?:import|export)\b[^;'"]*?\bfrom\s+(['"])(.+?)\1/gm;
const BARE_IMPORT = /^import\s+(['"])(.+?)\1/gm;
const DYNAMIC_IMPORT = /\bimport\(\s*(['"])(.+?)\1/g;
const WORKER_URL = /\bnew URL\(\s*(['"])(\.{1,2}\/[^'"]+\.js)\1,\s*import\.meta\.url/g;

export function importsOf(file: SourceFile): ImportEdge[] {
  const edges: ImportEdge[] = [];
  for (const pattern of [STATIC_IMPORT, BARE_IMPORT, DYNAMIC_IMPORT, WORKER_URL]) {
    for (const match of file.uncommented.matchAll(pattern)) {
      if (!isCode(file, match.index)) continue;
      const specifier = match[2] as string;
      const target = specifier.startsWith('.')
        ? posix.join(posix.dirname(file.path), specifier).replace(/\.js$/, '.ts')
        : undefined;
      const typeOnly = /^(?:import|export)\s+type\b/.test(match[0]);
      const line = lineAt(file.text, match.index);
      edges.push({ from: file.path, line, specifier, target, typeOnly });
    }
  }
  return edges.sort((a, b) => a.line - b.line);
}

/** False where the match lies inside a string or a template. */
function isCode(file: SourceFile, index: number): boolean {
  return file.code[index] === file.uncommented[index] && file.code[index] !== ' ';
}

/** `src/block/wire/batch.ts` → `block/wire`; undefined outside src. */
export function layerOf(path: string): string | undefined {
  if (!path.startsWith('src/')) return undefined;
  const [, first, second] = path.split('/');
  const nested = `${first}/${second}`;
  return nested in ALLOWED ? nested : first;
}

export function checkImports(files: readonly SourceFile[]): Violation[] {
  const edges = files.flatMap(importsOf);
  const known = new Set(files.map((file) => file.path));
  const violations = files.flatMap(barrelViolations);
  for (const edge of edges) {
    const message = edgeViolation(edge, known);
    if (message !== undefined) violations.push({ path: edge.from, line: edge.line, message });
  }
  return [...violations, ...cycleViolations(edges)];
}

function edgeViolation(edge: ImportEdge, known: ReadonlySet<string>): string | undefined {
  const { from, specifier, target } = edge;
  const layer = layerOf(from);
  if (layer === undefined) return undefined; // test, bench, chaos and scripts see everything
  if (target === undefined) return packageViolation(from, specifier);
  if (!known.has(target)) return `imports ${specifier}, which is not a source file here`;
  const targetLayer = layerOf(target);
  if (targetLayer === undefined) return `src must not import ${target}`;
  const allowed = ALLOWED[layer];
  if (allowed === undefined) return `src/${layer} is not a layer of the design`;
  if (allowed === 'everything' || layer === targetLayer) return undefined;
  return allowed.includes(targetLayer) ? undefined : `${layer} must not import ${targetLayer}`;
}

function packageViolation(from: string, specifier: string): string | undefined {
  if (specifier.startsWith('node:')) {
    if (composesRealParts(from) || !BANNED_MODULES.includes(specifier)) return undefined;
    if (EXEMPT[from]?.includes(specifier) === true) return undefined;
    return `${specifier} belongs in src/io/node; go through a seam of src/io`;
  }
  const parts = specifier.split('/');
  const name = specifier.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] as string);
  const places = PACKAGES[name];
  if (places === undefined) return `package ${name} has no place in the table of import rules`;
  if (from.startsWith('src/cli/') || places.some((place) => from.startsWith(place)))
    return undefined;
  return `package ${name} may be imported only from ${places.join(', ')}`;
}

function barrelViolations(file: SourceFile): Violation[] {
  if (!file.path.startsWith('src/')) return [];
  const pattern = file.path.endsWith('/index.ts')
    ? /^export\b[^;=(]*\bfrom\s+['"]/m
    : /^export \*/m;
  const match = pattern.exec(file.code);
  if (match === null) return [];
  const message = 'no barrels inside src: import from the file that declares';
  return [{ path: file.path, line: lineAt(file.text, match.index), message }];
}

/**
 * One violation for each strongly connected group of files, naming a shortest way round. Tests may
 * name each other's types: those imports are gone when they run, and nobody builds on tests.
 */
function cycleViolations(edges: readonly ImportEdge[]): Violation[] {
  const next = new Map<string, ImportEdge[]>();
  for (const edge of edges) {
    if (edge.typeOnly && edge.from.startsWith('test/')) continue;
    if (edge.target !== undefined) next.set(edge.from, [...(next.get(edge.from) ?? []), edge]);
  }
  const violations: Violation[] = [];
  const reported = new Set<string>();
  for (const start of [...next.keys()].sort()) {
    if (reported.has(start)) continue;
    const way = shortestWay(start, next);
    if (way === undefined) continue;
    for (const edge of way) reported.add(edge.from);
    const names = [...way.map((edge) => edge.from), start];
    const line = (way[0] as ImportEdge).line;
    violations.push({ path: start, line, message: `import cycle: ${names.join(' → ')}` });
  }
  return violations;
}

function shortestWay(
  start: string,
  next: ReadonlyMap<string, readonly ImportEdge[]>,
): ImportEdge[] | undefined {
  const queue: ImportEdge[][] = (next.get(start) ?? []).map((edge) => [edge]);
  const seen = new Set<string>();
  for (let way = queue.shift(); way !== undefined; way = queue.shift()) {
    const target = (way[way.length - 1] as ImportEdge).target as string;
    if (target === start) return way;
    if (seen.has(target)) continue;
    seen.add(target);
    for (const edge of next.get(target) ?? []) queue.push([...way, edge]);
  }
  return undefined;
}

/** Files under src that nothing runnable reaches. */
export function deadFiles(files: readonly SourceFile[]): Violation[] {
  const next = new Map<string, string[]>();
  for (const file of files) {
    next.set(
      file.path,
      importsOf(file).flatMap((edge) => (edge.target === undefined ? [] : [edge.target])),
    );
  }
  const isRoot = (path: string): boolean =>
    path === 'src/cli/main.ts' || /^(test|bench|chaos|scripts)\//.test(path);
  const live = new Set<string>();
  const pending = [...next.keys()].filter(isRoot);
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    if (live.has(path)) continue;
    live.add(path);
    pending.push(...(next.get(path) ?? []));
  }
  return files
    .filter((file) => !live.has(file.path))
    .map((file) => ({
      path: file.path,
      line: 1,
      message: 'dead file: neither src/cli/main.ts nor any test, benchmark or chaos run reaches it',
    }));
}
