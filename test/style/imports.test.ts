/** The import rules hold in this tree, and the checker that says so sees each kind of breach. */
import { test } from 'tap';
import { checkImports, deadFiles, importsOf, layerOf } from './import-rules.js';
import { describe, loadSources, projectRoot, type SourceFile, sourceFile } from './source.js';

/** Each file given as path → text. */
function files(texts: Record<string, string>): SourceFile[] {
  return Object.entries(texts).map(([path, text]) => sourceFile(path, text));
}

function messages(texts: Record<string, string>): string[] {
  return checkImports(files(texts)).map((violation) => violation.message);
}

/** What the checker says of one import between two otherwise empty files. */
function importing(from: string, target: string): string[] {
  const up = '../'.repeat(from.split('/').length - 1);
  const specifier = `${up}${target}`.replace(/\.ts$/, '.js');
  return messages({ [from]: `import { x } from '${specifier}';\n`, [target]: '' });
}

const ALLOWED = [
  ['src/io/clock.ts', 'src/core/ids.ts'],
  ['src/io/node/clock.ts', 'src/io/clock.ts'],
  ['src/block/server.ts', 'src/io/disk.ts'],
  ['src/block/journal.ts', 'src/block/wire/batch.ts'],
  ['src/replication/writer.ts', 'src/block/wire/batch.ts'],
  ['src/replication/writer.ts', 'src/metadata/store.ts'],
  ['src/volume/apply.ts', 'src/replication/log.ts'],
  ['src/fuse/session.ts', 'src/volume/apply.ts'],
  ['src/lifecycle/mount.ts', 'src/fuse/launcher.ts'],
  ['src/csi-driver/node.ts', 'src/lifecycle/mount.ts'],
  ['src/cli/main.ts', 'src/io/node/clock.ts'],
  ['src/cli/main.ts', 'src/block/server.ts'],
  ['test/sim/main.ts', 'src/io/node/clock.ts'],
  ['bench/main.ts', 'src/block/server.ts'],
] as const;

const FORBIDDEN = [
  ['src/core/ids.ts', 'src/io/clock.ts', 'core must not import io'],
  ['src/io/clock.ts', 'src/io/node/clock.ts', 'io must not import io/node'],
  ['src/block/server.ts', 'src/metadata/store.ts', 'block must not import metadata'],
  ['src/metadata/store.ts', 'src/block/wire/batch.ts', 'metadata must not import block/wire'],
  ['src/block/wire/batch.ts', 'src/block/server.ts', 'block/wire must not import block'],
  ['src/replication/writer.ts', 'src/block/server.ts', 'replication must not import block'],
  ['src/volume/apply.ts', 'src/metadata/store.ts', 'volume must not import metadata'],
  ['src/fuse/session.ts', 'src/replication/log.ts', 'fuse must not import replication'],
  ['src/replication/log.ts', 'src/volume/apply.ts', 'replication must not import volume'],
  ['src/volume-plugin/http.ts', 'src/fuse/launcher.ts', 'volume-plugin must not import fuse'],
  ['src/lifecycle/mount.ts', 'src/io/node/disk.ts', 'lifecycle must not import io/node'],
  ['src/lifecycle/mount.ts', 'src/cli/main.ts', 'lifecycle must not import cli'],
  ['src/cli/main.ts', 'test/sim/main.ts', 'src must not import test/sim/main.ts'],
  ['src/other/thing.ts', 'src/core/ids.ts', 'src/other is not a layer of the design'],
] as const;

test('imports in the direction of the design pass', async (t) => {
  for (const [from, target] of ALLOWED) t.same(importing(from, target), [], `${from} → ${target}`);
});

test('imports against the direction of the design are reported', async (t) => {
  for (const [from, target, message] of FORBIDDEN) t.same(importing(from, target), [message]);
});

test('every way to write an import is seen', async (t) => {
  const text = [
    `import type { A } from './a.js';`,
    `import {`,
    `  type B,`,
    `  b,`,
    `} from './b.js';`,
    `import './c.js';`,
    `export { d } from './d.js';`,
    `export * from './e.js';`,
    `const f = await import('./f.js');`,
    `new Worker(new URL('./g.js', import.meta.url));`,
    `// import { no } from './comment.js';`,
    "const text = `import { no } from './template.js'`;",
    `const more = "import { no } from './string.js'; import('./string.js')";`,
  ].join('\n');
  const edges = importsOf(sourceFile('src/core/x.ts', text));
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
  t.same(
    edges.map((edge) => edge.target),
    names.map((name) => `src/core/${name}.ts`),
  );
  t.same(
    edges.map((edge) => edge.line),
    [1, 2, 6, 7, 8, 9, 10],
  );
});

test('an import of a file that is not there is reported', async (t) => {
  const texts = { 'src/core/a.ts': `import { b } from './b.js';` };
  t.same(messages(texts), ['imports ./b.js, which is not a source file here']);
});

test('packages and node modules stay in their places', async (t) => {
  const one = (path: string, name: string): string[] =>
    messages({ [path]: `import { x } from '${name}';` });
  t.same(one('src/metadata/etcd/client.ts', '@grpc/grpc-js'), []);
  t.same(one('src/block/journal.ts', 'node:zlib'), []);
  t.same(one('src/io/node/disk.ts', 'node:fs'), []);
  t.same(one('test/block/journal.test.ts', 'node:fs'), []);
  t.match(one('src/block/journal.ts', 'node:fs'), [/^node:fs belongs in src\/io\/node/]);
  t.match(one('src/block/journal.ts', 'node:fs/promises'), [/^node:fs\/promises belongs/]);
  t.match(one('src/metadata/store.ts', '@grpc/grpc-js'), [
    /^package @grpc\/grpc-js may be imported only/,
  ]);
  t.match(one('src/volume/apply.ts', 'level'), [/^package level may be imported only/]);
  t.match(one('src/volume/apply.ts', 'left-pad'), [/^package left-pad has no place/]);
});

test('cycles are reported once, with the way round', async (t) => {
  const texts = {
    'src/core/a.ts': `import { b } from './b.js';`,
    'src/core/b.ts': `import type { c } from './c.js';`,
    'src/core/c.ts': `import { a } from './a.js';\nimport { d } from './d.js';`,
    'src/core/d.ts': '',
  };
  const way = ['a', 'b', 'c', 'a'].map((name) => `src/core/${name}.ts`).join(' → ');
  t.same(messages(texts), [`import cycle: ${way}`]);
  t.match(messages({ 'src/core/a.ts': `import { a } from './a.js';` }), [/^import cycle/]);
});

test('barrels are reported', async (t) => {
  const a = { 'src/core/a.ts': 'export const a = 1;' };
  const index = { ...a, 'src/core/index.ts': `export { a } from './a.js';` };
  t.match(messages(index), [/^no barrels/]);
  t.match(messages({ ...a, 'src/core/all.ts': `export * from './a.js';` }), [/^no barrels/]);
  t.same(messages({ 'src/core/index.ts': `export const from = 'a';` }), []);
});

test('files that nothing reaches are reported', async (t) => {
  const tree = files({
    'src/cli/main.ts': `import { a } from '../core/a.js';`,
    'src/core/a.ts': '',
    'src/core/tested.ts': '',
    'src/core/worker.ts': '',
    'src/core/dead.ts': `import { also } from './dead-too.js';`,
    'src/core/dead-too.ts': '',
    'test/core/tested.test.ts': [
      `import { x } from '../../src/core/tested.js';`,
      `new Worker(new URL('../../src/core/worker.js', import.meta.url));`,
    ].join('\n'),
  });
  const dead = deadFiles(tree).map((violation) => violation.path);
  t.same(dead, ['src/core/dead.ts', 'src/core/dead-too.ts']);
});

test('layers are named by directory', async (t) => {
  t.equal(layerOf('src/block/wire/batch.ts'), 'block/wire');
  t.equal(layerOf('src/block/disk/journal.ts'), 'block');
  t.equal(layerOf('src/io/node/clock.ts'), 'io/node');
  t.equal(layerOf('test/block/journal.test.ts'), undefined);
});

test('this tree keeps the import rules', async (t) => {
  const tree = loadSources(projectRoot(), ['src', 'test', 'bench', 'chaos', 'scripts']);
  t.ok(tree.length > 0);
  for (const violation of checkImports(tree)) t.fail(describe(violation), { at: null });
});

test('this tree has no dead files', async (t) => {
  const tree = loadSources(projectRoot(), ['src', 'test', 'bench', 'chaos', 'scripts']);
  t.ok(tree.length > 0);
  for (const violation of deadFiles(tree)) t.fail(describe(violation), { at: null });
});
