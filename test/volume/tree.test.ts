import { test } from 'tap';
import { Tree } from '../../src/volume/tree.js';
import { SimRandom } from '../fixtures/sim-random.js';

/** All items in order, checking the links between leaves. */
function items(tree: Tree): [number, number, number][] {
  const found: [number, number, number][] = [];
  const cursor = tree.seek(0, 0);
  for (; cursor.valid; cursor.advance()) found.push([cursor.high, cursor.low, cursor.blob]);
  return found;
}

const SHAPES: readonly [string, (i: number, random: SimRandom) => [number, number]][] = [
  ['keys in order', (i) => [3, i]],
  ['keys from the end', (i) => [3, 1_000_000 - i]],
  ['keys at random', (_i, random) => [random.below(50), random.below(1 << 30)]],
  ['interleaved directories', (i, random) => [i % 7, random.below(1 << 26)]],
  ['large keys', (_i, random) => [0xffff_fff0 + random.below(8), 0xffff_0000 + random.below(6e4)]],
];

test('the tree holds what a map holds, in order', async (t) => {
  for (const [name, key] of SHAPES) {
    const random = new SimRandom(name);
    const tree = new Tree();
    const map = new Map<string, [number, number, number]>();
    for (let i = 0; i < 60_000; i++) {
      const [high, low] = key(i, random);
      tree.set(high, low, i + 1);
      map.set(`${high}:${low}`, [high, low, i + 1]);
    }
    const expected = (): [number, number, number][] =>
      [...map.values()].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    t.equal(tree.size, map.size, name);
    t.ok(JSON.stringify(items(tree)) === JSON.stringify(expected()), `${name}: filled`);
    for (const [high, low, blob] of map.values()) {
      if (tree.get(high, low) !== blob) t.fail(`${name}: ${high} ${low} is not found`);
    }
    const shuffled = random.shuffle([...map.values()]);
    for (const [high, low, blob] of shuffled.slice(0, Math.floor(shuffled.length * 0.97))) {
      if (tree.delete(high, low) !== blob) t.fail(`${name}: ${high} ${low} is not deleted`);
      map.delete(`${high}:${low}`);
    }
    t.ok(JSON.stringify(items(tree)) === JSON.stringify(expected()), `${name}: thinned out`);
    t.ok(tree.leaves < 60, `${name}: ${tree.leaves} leaves are left`);
    for (const [high, low, blob] of map.values()) t.equal(tree.delete(high, low), blob);
    t.equal(tree.leaves, 1);
    tree.set(1, 2, 3);
    t.same(items(tree), [[1, 2, 3]]);
  }
});

test('a range of keys goes at once', async (t) => {
  const random = new SimRandom('ranges');
  for (let round = 0; round < 60; round++) {
    const tree = new Tree();
    let expected: [number, number, number][] = [];
    const spread = [1, 3, 1000][round % 3] as number;
    for (const high of [4, 5, 6]) {
      for (let i = 0; i < 700; i++) expected.push([high, i * spread, high * 1000 + i]);
    }
    for (const [high, low, blob] of random.shuffle([...expected])) tree.set(high, low, blob);
    for (let cut = 0; cut < 6; cut++) {
      const from = random.below(700 * spread);
      const to = from + random.below(cut === 5 ? 2 ** 32 : 300 * spread);
      const gone: number[] = [];
      tree.deleteRange(5, from, to, (blob) => gone.push(blob));
      const isIn = ([high, low]: readonly number[]): boolean =>
        high === 5 && (low as number) >= from && (low as number) < to;
      if (JSON.stringify(gone) !== JSON.stringify(expected.filter(isIn).map((one) => one[2]))) {
        t.fail(`round ${round}: ${gone.length} went of [${from}, ${to})`);
      }
      expected = expected.filter((one) => !isIn(one));
    }
    t.equal(JSON.stringify(items(tree)), JSON.stringify(expected));
    t.equal(tree.size, expected.length);
    for (const [high, low, blob] of expected) {
      if (tree.delete(high, low) !== blob) t.fail(`${high} ${low} is not found`);
    }
    t.equal(tree.leaves, 1);
  }
});
