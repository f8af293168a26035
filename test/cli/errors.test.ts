/** Faults on their way to a person or a script: lines, exit codes, sizes. */
import { test } from 'tap';
import { EXIT_CODES, reportFailure } from '../../src/cli/errors.js';
import { assert } from '../../src/core/assert.js';
import { ErrorCode, HoldfastError } from '../../src/core/errors.js';
import { parseSize } from '../../src/core/sizes.js';

test('every code of a fault has an exit code of its own', async (t) => {
  t.same(Object.keys(EXIT_CODES).sort(), Object.keys(ErrorCode).sort());
  const values = Object.values(EXIT_CODES);
  t.equal(new Set(values).size, values.length);
  // 0 done, 1 unforeseen, 70 a bug, from 126 on the shell's.
  for (const value of values) t.ok(value > 1 && value < 70, String(value));
});

test('a fault is one sentence and what to do', async (t) => {
  const fault = new HoldfastError('DISK_FULL', 'the disk is full', { hint: 'Free space.' });
  t.same(reportFailure(fault, false), {
    line: 'holdfast: the disk is full. Free space.',
    exitCode: 23,
  });
  const lines = new HoldfastError('TIMEOUT', 'first\n  second!');
  t.same(reportFailure(lines, false), { line: 'holdfast: first second!', exitCode: 21 });
  t.same(JSON.parse(reportFailure(fault, true).line), {
    error: { code: 'DISK_FULL', message: 'the disk is full', hint: 'Free space.', exitCode: 23 },
  });
});

test('bugs and surprises say so', async (t) => {
  let thrown: unknown;
  try {
    assert(1 > 2, 'one is more than two');
  } catch (error) {
    thrown = error;
  }
  const bug = reportFailure(thrown, false);
  t.equal(bug.exitCode, 70);
  t.match(bug.line, /^holdfast: bug: one is more than two\. This is a bug in holdfast/);
  t.match(reportFailure(new Error('?'), false), { exitCode: 1, line: 'holdfast: ?' });
  t.match(reportFailure('text', false), { exitCode: 1, line: 'holdfast: text.' });
});

test('sizes', async (t) => {
  const good: [string, number][] = [
    ['4096', 4096],
    ['4096B', 4096],
    ['10GiB', 10 * 2 ** 30],
    ['10gib', 10 * 2 ** 30],
    ['10 GiB', 10 * 2 ** 30],
    ['10Gi', 10 * 2 ** 30],
    ['10G', 10 * 2 ** 30],
    ['1.5TiB', 1.5 * 2 ** 40],
    [' 64MiB ', 64 * 2 ** 20],
    ['0', 0],
  ];
  for (const [text, bytes] of good) t.equal(parseSize(text), bytes, text);
  const bad = ['', 'GiB', '10GB', '10kb', '10 XiB', '-1', '1e9', '1.0001KiB', '9PiB', '0x10', '١'];
  for (const text of bad) {
    t.throws(() => parseSize(text, 'capacity'), { code: 'INVALID_ARGUMENT' }, text);
  }
});
