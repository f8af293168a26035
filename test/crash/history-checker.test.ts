/**
 * The checker of recorded histories is what the crash tests rest on, so it is shown to accept what
 * a crash may leave and to refuse each kind of damage that it is there to see. Histories are made
 * up by the worker's own choices; nothing real is written but in the last test.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { check, type Evidence, type Verdict } from '../../chaos/recorded/checker.js';
import { flushPercent, nextOperation } from '../../chaos/recorded/choose.js';
import {
  beginLine,
  endLine,
  isFlush,
  type Operation,
  parseHistory,
  type Recorded,
} from '../../chaos/recorded/operations.js';
import { bytesOf, checkPages, FILE_PAGES, numbersOf, runOf } from '../../chaos/recorded/pages.js';
import { Chooser } from '../../chaos/recorded/random.js';
import { readTree } from '../../chaos/recorded/scan.js';
import { Tree } from '../../chaos/recorded/tree.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import { distRoot, endAll, startNode } from '../fixtures/processes.js';

const OPERATIONS = 900;
/** The last of three ends without flushes: choose.ts. */
const PHASE_OPERATIONS = 300;
/** Each call takes 10 of these units, and the next begins 10 later. */
const STEP = 20;

function makeHistory(seed: number, count = OPERATIONS): Recorded[] {
  const choose = new Chooser(seed);
  const tree = new Tree();
  return Array.from({ length: count }, (_, index) => {
    const operation = nextOperation(
      tree,
      choose,
      flushPercent(Math.floor(index / PHASE_OPERATIONS)),
    );
    tree.apply(operation);
    return at(operation, index);
  });
}

function at(operation: Operation, index: number): Recorded {
  const began = 1_000 + index * STEP;
  return { operation, began, ended: began + STEP / 2, outcome: 'done' };
}

/** The tree after some operations, as a scan would show it. */
function after(operations: readonly Operation[]): Map<string, string> {
  const tree = new Tree();
  for (const operation of operations) tree.apply(operation);
  return tree.view();
}

function operationsOf(history: readonly Recorded[], count: number): Operation[] {
  return history.slice(0, count).map(({ operation }) => operation);
}

function judge(history: readonly Recorded[], found: Map<string, string>): Verdict {
  return check([{ name: 'one', tree: new Tree(), history, found }]);
}

function lastFlush(history: readonly Recorded[]): number {
  return history.findLastIndex(({ operation }) => isFlush(operation)) + 1;
}

t.test('every prefix that holds the last flush is accepted, and found', async (t) => {
  for (const seed of [1, 2, 3]) {
    const history = makeHistory(seed);
    const required = lastFlush(history);
    t.ok(required > 100 && required < history.length - 50, 'there is something to lose');
    for (const cut of [required, required + 1, required + 20, history.length]) {
      const { cuts, faults } = judge(history, after(operationsOf(history, cut)));
      t.same(faults, []);
      const found = cuts.get('one');
      t.ok(found !== undefined && found.least <= cut && cut <= found.most, `seed ${seed}: ${cut}`);
      t.equal(found?.required, required);
    }
  }
});

t.test('the tree is brought to the prefix found, for the history that comes next', async (t) => {
  const history = makeHistory(4);
  const found = after(operationsOf(history, lastFlush(history) + 7));
  const evidence: Evidence = { name: 'one', tree: new Tree(), history, found };
  t.same(check([evidence]).faults, []);
  t.same([...evidence.tree.view()].sort(), [...found].sort());
});

t.test('an operation that was under way may have happened or not', async (t) => {
  const history = makeHistory(5, 400);
  const last = history[399] as Recorded;
  history[399] = { ...last, ended: null, outcome: 'unknown' };
  for (const cut of [399, 400]) {
    t.same(judge(history, after(operationsOf(history, cut))).faults, []);
  }
});

t.test('a flushed operation that is lost is seen', async (t) => {
  const history = makeHistory(6);
  const required = lastFlush(history);
  const { faults } = judge(history, after(operationsOf(history, required - 12)));
  t.match(faults[0], /on stable storage: lost from/);
});

t.test('an operation missing from the middle is seen', async (t) => {
  const history = makeHistory(7);
  let tried = 0;
  for (let index = lastFlush(history) - 40; index < history.length - 10 && tried < 10; index++) {
    const { op } = (history[index] as Recorded).operation;
    if (op !== 'chmod' && op !== 'setxattr' && op !== 'append') continue;
    const whole = after(operationsOf(history, index + 10));
    const operations = operationsOf(history, index + 10);
    operations.splice(index, 1);
    const damaged = after(operations);
    if (JSON.stringify([...whole].sort()) === JSON.stringify([...damaged].sort())) continue;
    tried += 1;
    t.not(judge(history, damaged).faults.length, 0, `without operation ${index}, a ${op}`);
  }
  t.ok(tried >= 3, `${tried} were tried`);
});

t.test('two operations in the wrong order are seen: the later one survived alone', async (t) => {
  const history: Recorded[] = [];
  const add = (operation: Operation): void => {
    history.push(at(operation, history.length));
  };
  add({ op: 'create', path: '/a', mode: 0o644 });
  add({ op: 'create', path: '/b', mode: 0o644 });
  add({ op: 'fsync', path: '/b' });
  add({ op: 'write', path: '/a', offset: 0, length: 100, seed: 1 });
  add({ op: 'write', path: '/b', offset: 0, length: 100, seed: 2 });
  const operations = operationsOf(history, 5);
  t.same(judge(history, after(operations)).faults, []);
  operations.splice(3, 1);
  t.match(judge(history, after(operations)).faults[0], /no prefix .* fits; .* \/[ab] is/);
});

t.test('a torn write, a replaced byte and a resurrected file are seen', async (t) => {
  const history = makeHistory(8);
  const end = history.findLastIndex(
    ({ operation: { op } }, index) => op === 'write' && index > lastFlush(history),
  );
  const write = (history[end] as Recorded).operation;
  if (write.op !== 'write') throw new Error('found no write');
  const before = operationsOf(history, end);
  const torn = { ...write, length: Math.ceil(write.length / 2) - 1 };
  t.same(judge(history, after([...before, write])).faults, []);
  t.not(judge(history, after([...before, torn])).faults.length, 0, 'half a write');
  const rotten = after(before);
  const [path, seen] = [...rotten].find(([, line]) => /^file.* crc/.test(line)) as [string, string];
  rotten.set(
    path,
    seen.replace(/crc (.)/, (_, digit) => `crc ${digit === '1' ? '2' : '1'}`),
  );
  t.match(judge(history, rotten).faults[0], path, 'other bytes, and it says where');
  const risen = after(before);
  risen.set('/n-removed', 'file mode 644 size 0 crc 0');
  t.match(judge(history, risen).faults[0], /n-removed/, 'a file that should be gone');
});

t.test(
  'a write inside a page that is not cached reaches a filesystem as two requests',
  async (t) => {
    const operations: Operation[] = [
      { op: 'create', path: '/a', mode: 0o644 },
      { op: 'write', path: '/a', offset: 5_000, length: 10_000, seed: 5 },
    ];
    const history = operations.map(at);
    const tree = new Tree();
    tree.apply(operations[0] as Operation);
    const torn = tree.clone();
    torn.applyFirstRequest(operations[1] as Operation);
    const evidence: Evidence = { name: 'one', tree: new Tree(), history, found: torn.view() };
    const { cuts, faults } = check([evidence]);
    t.same(faults, []);
    t.equal(cuts.get('one')?.most, 1.5);
    t.same(evidence.tree.view(), torn.view(), 'the next history begins with half a write');
    tree.apply({ op: 'write', path: '/a', offset: 5_000, length: 7_288, seed: 5 });
    t.match(judge(history, tree.view()).faults[0], /no prefix/, 'not torn anywhere else');
    const flushed = [...history, at({ op: 'fsync', path: '/a' }, 2)];
    t.match(judge(flushed, torn.view()).faults[0], /lost from/, 'nor when it was flushed');
  },
);

t.test("one worker's flush covers what others had done before", async (t) => {
  const [one, two] = [makeHistory(9, 300), makeHistory(10, 300)];
  const quiet = one.map((each) =>
    isFlush(each.operation)
      ? { ...each, operation: { op: 'chmod', path: each.operation.path, mode: 0o644 } as const }
      : each,
  );
  const evidence = (cut: number): Evidence[] => [
    { name: 'one', tree: new Tree(), history: quiet, found: after(operationsOf(quiet, cut)) },
    { name: 'two', tree: new Tree(), history: two, found: after(operationsOf(two, 300)) },
  ];
  const required = lastFlush(two);
  t.ok(required > 50);
  t.same(check(evidence(300)).faults, []);
  const early = check(evidence(required - 30)).faults;
  t.match(early[0], /^one: .* on stable storage/, 'although it never flushed itself');
});

t.test('what survived of one worker, and was lost of another, is one prefix', async (t) => {
  const plain = (seed: number): Recorded[] =>
    makeHistory(seed, 200)
      .map(({ operation }) => operation)
      .filter((operation) => !isFlush(operation))
      .map(at);
  const [one, two] = [plain(11), plain(12)];
  const evidence = (first: number, second: number): Evidence[] => [
    { name: 'one', tree: new Tree(), history: one, found: after(operationsOf(one, first)) },
    { name: 'two', tree: new Tree(), history: two, found: after(operationsOf(two, second)) },
  ];
  t.same(check(evidence(100, 100)).faults, []);
  t.match(check(evidence(150, 100)).faults[0], /one kept .* but two lost/);
});

t.test('overwritten pages: any prefix with the flushed writes, and nothing else', async (t) => {
  const [first, end] = [1_000, 1_400];
  const written = (numbers: readonly number[]): Buffer => {
    const file = Buffer.alloc(FILE_PAGES * PAGE_BYTES);
    for (const number of numbers) {
      const run = runOf(number);
      bytesOf(number, run).copy(file, run.page * PAGE_BYTES);
    }
    return file;
  };
  const numbers = Array.from({ length: end - first }, (_, index) => first + index);
  const judgePages = (file: Buffer, flushed: number): number | string =>
    checkPages(new Uint32Array(FILE_PAGES), numbersOf(file), first, flushed);
  const whole = written(numbers);
  t.equal(judgePages(whole, end - 10), end - 1);
  t.match(judgePages(written(numbers.slice(0, -50)), end - 10), /but 1390 was flushed/);
  t.match(judgePages(written(numbers.toSpliced(-5, 1)), 0), /holds write/, 'one is missing');
  const last = runOf(end - 1).page * PAGE_BYTES;
  whole[last + 100] = (whole[last + 100] as number) ^ 1;
  t.throws(() => judgePages(whole, 0), /is damaged/);
});

t.test('a history is read back, and nonsense is refused', async (t) => {
  const write: Operation = { op: 'write', path: '/a', offset: 1, length: 2, seed: 3 };
  const text =
    beginLine(0, 5n, { op: 'create', path: '/a', mode: 0o644 }) +
    endLine(0, 6n, 'ok') +
    beginLine(1, 7n, write) +
    endLine(1, 8n, 'ENOSPC') +
    beginLine(2, 9n, write) +
    endLine(2, 10n, 'EIO') +
    beginLine(3, 11n, write);
  const outcomes = parseHistory(text).map(({ outcome, ended }) => [outcome, ended]);
  t.same(outcomes, [
    ['done', 6],
    ['refused', 8],
    ['unknown', 10],
    ['unknown', null],
  ]);
  t.equal(parseHistory(text.slice(0, -3)).length, 3, 'a torn last line was not written');
  t.throws(() => parseHistory('E 0 1 ok\n'), /without having begun/);
  t.throws(() => parseHistory(`${text}B 7 12 {}\n`), /out of order/);
  t.throws(() => parseHistory('hello\n'), /no line/);
});

t.test('the worker does on a real directory what its history says', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'holdfast-history-'));
  t.teardown(async () => {
    await endAll();
    rmSync(root, { recursive: true, force: true });
  });
  const directory = join(root, 'tree');
  mkdirSync(directory);
  const tree = new Tree();
  for (const round of [1, 2]) {
    const file = join(root, `history-${round}`);
    const worker = startNode(`${distRoot}chaos/recorded/worker.js`, [directory, file, `${round}`]);
    await worker.line(/^ready/, 30_000);
    await sleep(1_000);
    t.equal(await worker.stop(), 0);
    const history = parseHistory(readFileSync(file, 'utf8'));
    const { faults } = check([{ name: 'one', tree, history, found: readTree(directory).view() }]);
    t.same(faults, [], `round ${round}: ${history.length} operations`);
    t.ok(history.length > 50, 'enough was done to mean something');
    t.notOk(history.some(({ outcome, ended }) => outcome !== 'done' && ended !== null));
  }
});
