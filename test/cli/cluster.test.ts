/** Making a cluster: once, deliberately, with a secret that only its owner can read. */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { holdfastBin, startNode } from '../fixtures/processes.js';

async function holdfast(
  ...args: string[]
): Promise<{ code: number | null; out: string; err: string }> {
  const process = startNode(holdfastBin, args);
  const { code } = await process.exited;
  return { code, out: process.lines.join('\n'), err: process.stderr };
}

t.test('init makes a cluster and its secret, once', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'holdfast-cluster-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const secret = join(root, 'secret');
  const where = ['--metadata', `embedded:${join(root, 'metadata')}`, '--secret-file', secret];

  const nothing = await holdfast('cluster', 'show', ...where);
  t.match(nothing.err, /holds no Holdfast cluster/, 'nothing is made by asking');
  t.equal(nothing.err.trim().split('\n').length, 1);

  const made = await holdfast('cluster', 'init', ...where, '--json');
  t.equal(made.code, 0, made.err);
  const { cluster, generation } = JSON.parse(made.out);
  t.match(cluster, /^[0-9a-f]{32}$/);
  t.equal(generation, 1);
  t.equal(statSync(secret).mode & 0o777, 0o600, 'only its owner reads the secret');
  t.match(readFileSync(secret, 'utf8'), /^[0-9a-f]{64}\n$/);

  const again = await holdfast('cluster', 'init', ...where);
  t.equal(again.code, 13, 'ALREADY_EXISTS');
  t.match(again.err, new RegExp(`holds cluster ${cluster} already`));
  const shown = await holdfast('cluster', 'show', ...where, '--json');
  t.equal(JSON.parse(shown.out).cluster, cluster, 'it is still the first one');
});

t.test('init without a place for the secret changes nothing', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'holdfast-cluster-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const metadata = ['--metadata', `embedded:${join(root, 'metadata')}`];
  const unnamed = await holdfast('cluster', 'init', ...metadata);
  t.equal(unnamed.code, 2);
  t.match(unnamed.err, /--secret-file/);
  const unwritable = await holdfast(
    'cluster',
    'init',
    ...metadata,
    '--secret-file',
    '/proc/no/secret',
  );
  t.equal(unwritable.code, 2);
  t.match(unwritable.err, /cannot be written/);
  const shown = await holdfast('cluster', 'show', ...metadata);
  t.match(shown.err, /holds no Holdfast cluster/);
});

t.test('a setting that is empty is refused, as from a variable that a script lacks', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'holdfast-cluster-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const secret = ['--secret-file', join(root, 'secret')];
  const where = ['--metadata', `embedded:${join(root, 'metadata')}`, ...secret];
  t.equal((await holdfast('cluster', 'init', ...where)).code, 0);
  for (const name of ['repair-grace', 'repair-rate', 'balance', 'scrub-interval', 'scrub-rate']) {
    const { code, err } = await holdfast('cluster', 'set', `--${name}`, '', ...where);
    t.equal(code, 2, name);
    t.match(err, `--${name} ""`);
  }
  const set = await holdfast('cluster', 'set', '--balance', 'off', '--json', ...where);
  t.match(JSON.parse(set.out), { balance: false, repairGraceMs: 600_000 });
});
