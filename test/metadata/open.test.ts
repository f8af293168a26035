/** What --metadata takes, and what it says when it cannot be used. */
import { writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { test } from 'tap';
import { openMetadata, parseMetadataLocation } from '../../src/metadata/open.js';
import { freePorts, startEtcd } from '../fixtures/etcd.js';
import { realClock, realRandom, temporaryDirectory } from './real-parts.js';

const parts = { clock: realClock, random: realRandom, env: {} };

test('locations', async (t) => {
  const etcd = { type: 'etcd', user: null, tls: null };
  const cases: readonly (readonly [string, object])[] = [
    ['embedded:/var/lib/x', { type: 'embedded', directory: '/var/lib/x' }],
    ['etcd://a:1', { ...etcd, endpoints: ['a:1'] }],
    ['etcd://a,b:2,[::1]:3', { ...etcd, endpoints: ['a:2379', 'b:2', '[::1]:3'] }],
    ['etcd://a:1/', { ...etcd, endpoints: ['a:1'] }],
    ['etcd://u:p%40ss@a:1', { ...etcd, endpoints: ['a:1'], user: { name: 'u', password: 'p@ss' } }],
    ['etcds://a:1', { ...etcd, endpoints: ['a:1'], tls: {} }],
    [
      'etcd://a:1?ca=/c&cert=/d&key=/e',
      { ...etcd, endpoints: ['a:1'], tls: { ca: '/c', cert: '/d', key: '/e' } },
    ],
  ];
  for (const [text, expected] of cases) t.same(parseMetadataLocation(text), expected, text);
  const fromEnv = parseMetadataLocation('etcd://u@a:1', { HOLDFAST_ETCD_PASSWORD: 'secret' });
  t.same(fromEnv, { ...etcd, endpoints: ['a:1'], user: { name: 'u', password: 'secret' } });
});

test('bad locations are told in one line, without passwords', async (t) => {
  const bad = [
    '',
    'a:1',
    'http://a:1',
    'etcd://',
    'etcd://a:0',
    'etcd://a:99999',
    'etcd://a b:1',
    'etcd://a:1,,b:2',
    'etcd://u@a:1',
    'etcd://:secret@a:1',
    'etcd://u:%zzsecret@a:1',
    'etcd://u:secret@a:1?cert=/x',
    'etcd://u:secret@a:1?cert=/x&key=/y',
    'etcd://u:secret@a:1?ca=',
    'etcd://u:secret@a:1?other=/x',
    'etcd://a:1/path',
    'embedded:',
  ];
  for (const text of bad) {
    try {
      parseMetadataLocation(text);
      t.fail(text);
    } catch (error) {
      const { code, message, hint } = error as { code: string; message: string; hint: string };
      t.equal(code, 'INVALID_ARGUMENT', text);
      t.notMatch(`${message}${hint}`, /secret|\n/, text);
      t.ok(hint, `${text}: says what to do`);
    }
  }
});

test('stores that cannot be used say why', async (t) => {
  const [port = 0] = await freePorts(1);
  const open = (text: string) => openMetadata(text, { ...parts, timeoutMs: 700 });
  await t.rejects(open(`etcd://127.0.0.1:${port}`), {
    code: 'UNAVAILABLE',
    retryable: true,
    message: /^etcd:\/\/127[^\n]*ECONNREFUSED[^\n]*$/,
    hint: /runs/,
  });
  const accepted: Socket[] = [];
  const silent = createServer((socket) => accepted.push(socket.on('error', () => {})));
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const address = silent.address() as { port: number };
  const began = performance.now();
  const waiting = open(`etcd://127.0.0.1:${address.port}`);
  await t.rejects(waiting, { code: /TIMEOUT|UNAVAILABLE/, retryable: true });
  t.ok(performance.now() - began < 3_000, 'in bounded time');
  silent.close();
  for (const socket of accepted) socket.destroy();
  const directory = temporaryDirectory(t);
  const none = open(`etcd://127.0.0.1:${port}?ca=${directory}/none.pem`);
  await t.rejects(none, { code: 'INVALID_ARGUMENT', message: /ca cannot be read/ });
  writeFileSync(`${directory}/not.pem`, 'hello');
  const not = open(`etcd://127.0.0.1:${port}?ca=${directory}/not.pem`);
  await t.rejects(not, { code: 'INVALID_ARGUMENT', message: /is not PEM/ });
  writeFileSync(`${directory}/file`, '');
  const file = open(`embedded:${directory}/file/db`);
  await t.rejects(file, { code: 'UNAVAILABLE', message: /ENOTDIR/ });
  const long = open(`embedded:/${'x'.repeat(120)}`);
  await t.rejects(long, { code: 'INVALID_ARGUMENT', message: /too long/ });
});

test('TLS, user and password', async (t) => {
  const password = 'p@ss:w/rd';
  const etcd = await startEtcd({ tls: true, auth: { password } });
  t.teardown(() => etcd.close());
  const [endpoint] = etcd.endpoints;
  const query = etcd.url.slice(etcd.url.indexOf('?'));
  const open = (login: string, rest: string, timeoutMs = 1_000) =>
    openMetadata(`etcd://${login}${endpoint}${rest}`, { ...parts, timeoutMs });
  const login = `holdfast:${encodeURIComponent(password)}@`;
  const store = await open(login, query, 5_000);
  const key = '/holdfast/v1/x';
  const done = await store.transact([], [{ type: 'put', key, value: '1' }]);
  t.ok(done.committed);
  await t.rejects(store.get('/other'), { code: 'UNAUTHENTICATED', hint: /\/holdfast\// });
  // The member forgets its tokens when it restarts: the store authenticates anew by itself.
  await etcd.members[0]?.restart();
  const again = await store.transact([], [{ type: 'put', key, value: '2' }]);
  t.ok(again.committed);
  t.equal((await store.get(key)).entry?.value, '2');
  await store.close();
  await t.rejects(open('holdfast:wrong@', query, 10_000), {
    code: 'UNAUTHENTICATED',
    message: /wrong user or password/,
    hint: /HOLDFAST_ETCD_PASSWORD/,
  });
  // Without a user etcd takes the name in the client's certificate, which has no role here.
  await t.rejects(open('', query, 10_000), { code: 'UNAUTHENTICATED' });
  const ca = `?ca=${etcd.tls?.ca}`;
  const noClient = await open(login, ca).then(
    () => null,
    (error: { code: string; message: string }) => error,
  );
  t.equal(noClient?.code, 'UNAVAILABLE', 'a client certificate is required');
  const stranger = `?ca=${etcd.tls?.cert}&cert=${etcd.tls?.cert}&key=${etcd.tls?.key}`;
  await t.rejects(open(login, stranger), { code: 'UNAVAILABLE', message: /certificates/ });
  await t.rejects(open(login, ''), { code: 'UNAVAILABLE' }, 'plain text to a TLS port');
});
