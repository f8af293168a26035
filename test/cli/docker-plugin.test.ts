/** `holdfast docker-plugin` as a process: its socket, settings, and a cluster that is not there. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { holdfastBin, type Process, startNode } from '../fixtures/processes.js';
import { holdfast } from './node-fixture.js';

t.setTimeout(240_000);
const READY_MS = 30_000;
/** Nobody listens there. */
const NOWHERE = 'etcd://127.0.0.1:1';

interface Answer {
  readonly status: number;
  readonly type: string | undefined;
  readonly body: string;
}

function post(socketPath: string, path: string, body = '{}', method = 'POST'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath, path, method, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => {
        const { statusCode = 0, headers } = response;
        resolve({ status: statusCode, type: headers['content-type'], body: text });
      });
    });
    request.on('error', reject);
    request.end(method === 'POST' ? body : undefined);
  });
}

class Plugin {
  readonly root = mkdtempSync(join(tmpdir(), 'hf-plugin-'));
  readonly socket = join(this.root, 'plugins', 'holdfast.sock');
  readonly args = [
    ...['docker-plugin', '--socket', this.socket, '--metadata', NOWHERE, '--agent', 'none'],
    ...['--directory', join(this.root, 'volumes')],
  ];
  readonly env = { HOLDFAST_RUN_DIR: join(this.root, 'run'), HOLDFAST_SECRET: 'x'.repeat(32) };
  process: Process | null = null;

  constructor(t: Test) {
    t.teardown(async () => {
      await this.process?.kill();
      rmSync(this.root, { recursive: true, force: true });
    });
  }

  async start(): Promise<Process> {
    this.process = startNode(holdfastBin, [...this.args, '--json'], { env: this.env });
    await this.process.line(/"event":"ready"/, READY_MS);
    return this.process;
  }
}

t.test('serves before there is a cluster, and says what is missing', async (t) => {
  const plugin = new Plugin(t);
  const running = await plugin.start();
  const { socket } = plugin;
  t.equal(statSync(socket).mode & 0o777, 0o600, 'for root alone');
  const active = await post(socket, '/Plugin.Activate', '');
  t.match(active, { status: 200, type: /docker\.plugins\.v1/ });
  t.same(JSON.parse(active.body), { Implements: ['VolumeDriver'], Err: '' });
  const created = JSON.parse((await post(socket, '/VolumeDriver.Create', '{"Name":"db"}')).body);
  t.match(created.Err, /etcd:\/\/127\.0\.0\.1:1/);
  t.same(JSON.parse((await post(socket, '/VolumeDriver.Path', '{"Name":"db"}')).body), {
    Mountpoint: '',
    Err: '',
  });
  t.equal((await post(socket, '/VolumeDriver.Get', 'x'.repeat(10))).status, 200, 'no JSON');
  t.equal((await post(socket, '/elsewhere')).status, 404);
  t.equal((await post(socket, '/Plugin.Activate', '', 'GET')).status, 405);
  await t.rejects(post(socket, '/VolumeDriver.Get', 'x'.repeat(2 ** 21)), 'too long a body');
  const half = net.connect(socket, () => {
    half.write('POST /VolumeDriver.Get HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{', () => {
      half.destroy();
    });
  });
  await new Promise((resolve) => half.once('close', resolve));
  t.equal((await post(socket, '/Plugin.Activate')).status, 200, 'it serves on');
  t.equal(await running.stop(), 0);
  t.notOk(existsSync(socket));
  t.match(running.stderr, /"call":"Create","volume":"db"/);
});

t.test('its socket', async (t) => {
  const plugin = new Plugin(t);
  const first = await plugin.start();
  const second = await holdfast(plugin.args, plugin.env);
  t.equal(second.code, 29);
  t.match(second.err, /holdfast\.sock is in use\. Another plugin serves it/);
  t.equal((await post(plugin.socket, '/Plugin.Activate')).status, 200, 'the first one goes on');
  await first.kill();
  t.ok(existsSync(plugin.socket), 'left by a killed one');
  await plugin.start();
  t.equal((await post(plugin.socket, '/Plugin.Activate')).status, 200);
  writeFileSync(join(plugin.root, 'file'), '');
  const inFile = [...plugin.args, '--socket', join(plugin.root, 'file', 'x.sock')];
  t.match(await holdfast(inFile, plugin.env), { code: 20, err: /x\.sock/ });
});

t.test('settings', async (t) => {
  const plugin = new Plugin(t);
  const cases: [string[], RegExp][] = [
    [['--wait', '5m'], /--wait: wait "5m" is too long\. At most 45 s/],
    [['--size', '10GB'], /--size: .*unit "GB" is not known/],
    [['--replicas', 'many'], /--replicas: replicas: "many" is not a whole number/],
    [['--directory', 'volumes'], /--directory: must be an absolute path/],
    [['--socket', '/run/'], /--socket: must be an absolute path/],
    [['--agent', 'maybe'], /--agent: must be auto, none, or an absolute path/],
    [['--retention', 'long'], /--retention: /],
    [['--propagated', '/nowhere/at/all'], /\/nowhere\/at\/all is no mount point here/],
  ];
  const refused = cases.map(([args]) => holdfast([...plugin.args, ...args], plugin.env));
  for (const [at, { code, err }] of (await Promise.all(refused)).entries()) {
    const [args, said] = cases[at] as (typeof cases)[number];
    t.ok(code === 2 || code === 12, `${args.join(' ')}: ${code}`);
    t.match(err, said);
    t.equal(err.trim().split('\n').length, 1);
  }
  mkdirSync(join(plugin.root, 'etc'));
  const config = join(plugin.root, 'etc', 'config.json');
  writeFileSync(config, JSON.stringify({ 'docker-plugin': { sise: '1GiB' } }));
  const { err } = await holdfast([...plugin.args, '--config', config], plugin.env);
  t.match(err, /"docker-plugin" has no setting "sise"/);
  // Both commands read the same file.
  for (const shared of [{ wait: '30s' }, { wait: 30, replicas: 2 }, { wait: '5m' }]) {
    writeFileSync(config, JSON.stringify({ metadata: NOWHERE, ...shared }));
    const own = [...plugin.args, '--config', config, '--log-level', 'loud'];
    t.match((await holdfast(own, plugin.env)).err, /--log-level: /);
    const mount = ['mount', 'db', plugin.root, '--config', config];
    t.match((await holdfast(mount, plugin.env)).err, /127\.0\.0\.1:1: cannot be reached/);
  }
  const nowhere = await holdfast(['docker-plugin', '--socket', plugin.socket], plugin.env);
  t.match(nowhere, { code: 2, err: /which cluster is meant/ });
});
