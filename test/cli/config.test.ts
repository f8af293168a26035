/** Where settings come from: which is stronger, and what no command knows. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { z } from 'zod';
import { portableLocation } from '../../src/cli/agent-files.js';
import { resolveSettings } from '../../src/cli/config.js';
import { commitIntervalOf } from '../../src/cli/numbers.js';
import { readBounded } from '../../src/cli/read-file.js';
import { loadSecret } from '../../src/cli/secret.js';
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

t.test('what no command knows is refused by each of them', async (t) => {
  const cases: [object, RegExp][] = [
    [{ metdata: METADATA }, /there is no setting "metdata"/],
    [{ metadata: METADATA, _comment: '' }, /there is no setting "_comment"/],
    [{ metadata: METADATA, node: { zoen: 'a' } }, /"node" has no setting "zoen"/],
    [{ metadata: METADATA, mount: { readonly: true } }, /"mount" has no setting "readonly"/],
    [{ metadata: METADATA, volume: 5 }, /"volume" is not a JSON object/],
    [{ metadata: METADATA, constructor: {} }, /there is no setting "constructor"/],
  ];
  for (const [content, message] of cases) {
    const config = fileOf(t, content);
    t.throws(() => locate({ config }, {}), { code: 'INVALID_ARGUMENT', message });
  }
  const all = {
    ...{ metadata: METADATA, zone: 'a', agent: { scope: 'auto' } },
    ...{ node: { dataDir: ['/a'] }, volume: { retention: '30d', replicas: 2 }, mount: { wait: 9 } },
    'docker-plugin': { agent: 'none' },
  };
  t.equal(locate({ config: fileOf(t, all) }, {}).metadata, METADATA);
  t.equal(locate({ config: fileOf(t, { ...all, agent: 'auto' }) }, {}).metadata, METADATA);
});

t.test('an object of a command is no setting of another one', async (t) => {
  const agent = z.object({ agent: z.string().default('auto') });
  const resolved = (content: object) => {
    const flags = { config: fileOf(t, content) };
    return resolveSettings(agent, { command: 'docker-plugin', flags, env: {} });
  };
  t.same(resolved({ agent: { scope: 'auto' } }), { agent: 'auto' });
  t.same(resolved({ agent: 'none' }), { agent: 'none' });
});

t.test("a node's disks that are named for all commands stop none", async (t) => {
  const dataDir = ['/disks/a', '/disks/b'];
  t.match(locate({ config: fileOf(t, { metadata: METADATA, dataDir }) }, {}), {
    metadata: METADATA,
    up: null,
  });
  const config = fileOf(t, { dataDir });
  t.throws(() => locate({ config, dataDir: '/nowhere' }, {}), { message: /\/nowhere/ });
});

t.test('a commit interval is written as all times are', async (t) => {
  for (const [text, commitIntervalMs] of [
    ['5', 5_000],
    ['1s', 1_000],
    ['1m', 60_000],
  ] as const) {
    t.same(commitIntervalOf(text), { commitIntervalMs }, text);
  }
  t.same(commitIntervalOf(undefined), {});
  for (const text of ['0', '61s', '2m', 'often', '-1', '']) {
    t.throws(() => commitIntervalOf(text), { code: 'INVALID_ARGUMENT', message: /--commit-int/ });
  }
});

t.test('what has no end is not read to its end', async (t) => {
  const INVALID = 'INVALID_ARGUMENT';
  const config = { code: INVALID, message: /configuration file \/dev\/zero is too large/ };
  t.throws(() => locate({ config: '/dev/zero' }, {}), config);
  const secret = { code: INVALID, message: /secret file \/dev\/zero is too long/ };
  t.throws(() => loadSecret('/dev/zero', {}), secret);
  const location = { metadata: METADATA, secretFile: '/dev/zero' };
  t.throws(() => portableLocation(location, {}), { code: INVALID, message: /dev\/zero has more/ });
  const url = { metadata: `${METADATA}?ca=/dev/zero`, secretFile: null };
  t.throws(() => portableLocation(url, {}), { code: INVALID });
  const small = fileOf(t, { metadata: METADATA });
  t.equal(readBounded(small, 100), JSON.stringify({ metadata: METADATA }));
  t.throws(() => readBounded(small, 10), { code: INVALID });
  t.throws(() => readBounded('/nowhere', 10), { code: 'ENOENT' });
});
