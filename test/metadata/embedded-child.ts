/**
 * A second process with an embedded store: prints "ready", then does what its standard input says,
 * a line at a time: `put KEY VALUE`, `get KEY`, `add KEY TIMES` (compare-and-swap), `close`.
 */
import { createInterface } from 'node:readline';
import { EmbeddedStore } from '../../src/metadata/embedded.js';
import { realClock, realRandom } from './real-parts.js';

const directory = process.argv[2] ?? '';
const store = new EmbeddedStore({ directory, clock: realClock, random: realRandom });

async function add(key: string, times: number): Promise<void> {
  for (let done = 0; done < times; ) {
    const { entry } = await store.get(key);
    const modRevision = entry?.modRevision ?? (0 as never);
    const value = String(Number(entry?.value ?? 0) + 1);
    const result = await store.transact([{ key, modRevision }], [{ type: 'put', key, value }]);
    if (result.committed) done += 1;
  }
}

async function obey(line: string): Promise<string> {
  const [command = '', key = '', value = ''] = line.split(' ');
  if (command === 'put') {
    await store.transact([], [{ type: 'put', key, value }]);
    return 'put';
  }
  if (command === 'get') return `got ${(await store.get(key)).entry?.value}`;
  if (command === 'serving') return `serving ${store.serving}`;
  if (command === 'add') {
    await add(key, Number(value));
    return 'added';
  }
  await store.close();
  return 'closed';
}

await store.get('/ready');
console.log('ready');
for await (const line of createInterface({ input: process.stdin })) {
  console.log(await obey(line).catch((error: { code: string }) => `error ${error.code}`));
}
await store.close();
