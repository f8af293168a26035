/** Where settings come from: which is stronger, and what no command knows. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { locate } from '../../src/cli/session.js';

const METADATA = 'etcd://127.0.0.1:2379';

/** A configuration file. */
function fileOf(t: Test, content: object): string {
  const dir = mkdtempSync(join(tmpdir(), 'hf-config-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const config = join(dir, 'config.json');
  writeFileSync(config, JSON.stringify(content));
  return config;
}

t.test('the secret of the environment is weaker than a file named there, or by flag', async (t) => {
  const config = fileOf(t, { metadata: METADATA, secretFile: '/from/the/file' });
  const HOLDFAST_SECRET = 'a secret in the environment';
  t.equal(locate({ config }, {}).secretFile, '/from/the/file');
  t.equal(locate({ config }, { HOLDFAST_SECRET: '' }).secretFile, '/from/the/file');
  t.equal(locate({ config }, { HOLDFAST_SECRET }).secretFile, null);
  const named = { HOLDFAST_SECRET, HOLDFAST_SECRET_FILE: '/named' };
  t.equal(locate({ config }, named).secretFile, '/named');
  t.equal(locate({ config, secretFile: '/flag' }, named).secretFile, '/flag');
});
