/** The real twins keep the contracts of their seams. The real disk has a file of its own. */
import { test } from 'tap';
import { formatAddress, isWildcard, parseAddress } from '../../src/io/address.js';
import { nodeClock } from '../../src/io/node/clock.js';
import { nodeRandom } from '../../src/io/node/random.js';
import { tcpNetwork } from '../../src/io/node/tcp.js';
import { clockContract } from '../contract/clock.js';
import { networkContract } from '../contract/network.js';
import { randomContract } from '../contract/random.js';

/** Looks again and again, for at most half a minute: the machine may be busy. */
async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 10_000) throw new Error('the condition never held');
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
}

function harness<T>(subject: T) {
  return { make: async () => ({ subject, close: async () => {} }), until };
}

clockContract('nodeClock', harness(nodeClock));
randomContract('nodeRandom', () => nodeRandom);
const loopback = { network: tcpNetwork, anyPort: '127.0.0.1:0', nobody: '127.0.0.1:1' };
networkContract('tcpNetwork', harness(loopback));
const loopback6 = { network: tcpNetwork, anyPort: '[::1]:0', nobody: '[::1]:1' };
networkContract('tcpNetwork with IPv6', harness(loopback6));

test('timers are never early, not by a fraction of a millisecond', async (t) => {
  const early: number[] = [];
  for (let i = 0; i < 200; i++) {
    const delay = 1 + (i % 3);
    const start = nodeClock.monotonic();
    await new Promise<void>((resolve) => nodeClock.after(delay, resolve));
    const passed = nodeClock.monotonic() - start;
    if (passed < delay) early.push(delay - passed);
  }
  t.same(early, []);
});

test('addresses are HOST:PORT, with brackets around IPv6', async (t) => {
  t.same(parseAddress('127.0.0.1:7400'), { host: '127.0.0.1', port: 7400 });
  t.same(parseAddress('[::1]:0'), { host: '::1', port: 0 });
  t.same(parseAddress('node-1.example:65535'), { host: 'node-1.example', port: 65535 });
  t.equal(formatAddress('::1', 5), '[::1]:5');
  t.equal(formatAddress('a', 5), 'a:5');
  const bad = ['', 'a', ':1', 'a:', 'a:b', 'a:65536', 'a:-1', '::1:5', '[::1]', 'a b:1', 'a:1/x'];
  for (const text of [...bad, `${'a'.repeat(400)}:1`]) {
    t.throws(() => parseAddress(text, 'listen address'), { code: 'INVALID_ARGUMENT' }, text);
  }
  for (const host of ['0.0.0.0', '::', '0::0']) t.ok(isWildcard(host), host);
  t.notOk(isWildcard('::1'));
});

test('listening on an address of another machine is refused', async (t) => {
  let code: string | undefined;
  tcpNetwork.listen(
    '192.0.2.1:0',
    () => {},
    (error) => {
      code = error?.code;
    },
  );
  await until(() => code !== undefined);
  t.equal(code, 'INVALID_ARGUMENT');
});
