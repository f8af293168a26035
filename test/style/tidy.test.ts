/** The tidy rules hold in this tree, and the checker that says so sees each kind of breach. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { describe, loadSources, projectRoot, sourceFile } from './source.js';
import { checkTidy, functionSpans, MAX_FUNCTION_LINES } from './tidy-rules.js';

const HEADER = '/** A file of this test, whose purpose is to be checked. */\n';

function messages(path: string, text: string): string[] {
  return checkTidy(sourceFile(path, text)).map((violation) => violation.message);
}

function inCore(text: string): string[] {
  return messages('src/core/x.ts', `${HEADER}${text}`);
}

/** A body of `count` statements, one a line. */
function body(count: number): string {
  return '  work();\n'.repeat(count);
}

test('sizes are limited', async (t) => {
  t.same(inCore(`// ${'x'.repeat(97)}\n`), []);
  t.same(inCore(`// ${'x'.repeat(98)}\n`), ['101 columns, at most 100']);
  t.same(inCore('work();\n'.repeat(499)), []);
  t.same(inCore('work();\n'.repeat(500)), ['501 lines, at most 500']);
  t.same(messages('test/x.test.ts', 'work();\n'.repeat(800)), []);
  t.same(messages('test/x.test.ts', 'work();\n'.repeat(801)), ['801 lines, at most 800']);
});

test('sources say their purpose first', async (t) => {
  const missing = ['no header comment that says the purpose'];
  t.same(messages('src/core/x.ts', 'export const x = 1;\n'), missing);
  t.same(messages('src/core/x.ts', '/* x */\nexport const x = 1;\n'), missing);
  t.same(messages('src/core/x.ts', `import 'y';\n${HEADER}`), missing);
  t.same(messages('src/core/x.ts', '// Line comments that say the purpose\n// do as well.\n'), []);
  t.same(messages('src/cli/main.ts', `#!/usr/bin/env node\n${HEADER}`), []);
  t.same(messages('test/x.test.ts', 'work();\n'), []);
});

const BANNED = [
  'const now = Date.now();',
  'const now = new Date();',
  'const n = Math.random();',
  'const n = performance.now();',
  'const n = process.hrtime.bigint();',
  'setTimeout(work, 10);',
  'globalThis.setInterval(work, 10);',
  'const later = setImmediate;',
  'console.log(1);',
  'const signal = AbortSignal.timeout(10);',
  "import { createHash, randomBytes } from 'node:crypto';",
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is source text
  'const text = `at ${Date.now()}`;',
];

const HARMLESS = [
  'clock.setTimeout(work, 10);',
  'const at = new Date(milliseconds);',
  'clearTimeout(handle);',
  '// Date.now() is not called here',
  "const text = 'Date.now()';",
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is source text
  'const text = `Math.random() ${1} console.log(1)`;',
  'const pattern = /Math.random/;',
  'const half = a / b; // Math.random / 2',
];

test('clocks, randomness, timers and console are banned in sources', async (t) => {
  for (const line of BANNED) t.equal(inCore(`${line}\n`).length, 1, line);
  for (const line of HARMLESS) t.same(inCore(`${line}\n`), [], line);
});

test('the same calls are allowed where real parts are composed', async (t) => {
  for (const line of BANNED) {
    t.same(messages('src/io/node/x.ts', `${HEADER}${line}\n`), [], line);
    t.same(messages('src/cli/x.ts', `${HEADER}${line}\n`), [], line);
    t.same(messages('test/x.test.ts', `${line}\n`), [], line);
  }
});

test('words and forms that the project does without are reported', async (t) => {
  const unfinished = ['unfinished work belongs in an issue'];
  t.same(inCore('// TODO: later\n'), unfinished);
  t.same(messages('test/x.test.ts', '/* FIXME */\n'), unfinished);
  t.match(messages('test/x.test.ts', "t.only('one test', run);\n"), [/^\.only\(/]);
  t.match(messages('test/x.test.ts', "test.only('one test', run);\n"), [/^\.only\(/]);
  t.match(inCore('export enum Colour {\n  red,\n}\n'), [/^enum/]);
  t.match(inCore('const enum Colour {\n  red,\n}\n'), [/^enum/]);
  t.match(inCore('export default class X {}\n'), [/^default export/]);
  t.match(inCore('export { x as default };\n'), [/^default export/]);
  t.same(inCore("const x = 'enum Colour {';\nconst y = options.default;\n"), []);
});

const FUNCTIONS = [
  'function f() {',
  'export async function* f<T>(a: T, b: { c: number }): AsyncGenerator<T> {',
  'function f(\n  a: number,\n  b: number,\n): number {',
  'function f<\n  T extends string,\n>(a: T): T {',
  'function f(): {\n  a: number;\n  b: number;\n} {',
  'function f(): Promise<{\n  a: number;\n}> {',
  'const f = () => {',
  'const f = async (a: number): Promise<void> => {',
  'const f = (\n  a: number,\n  b: number,\n): number => {',
  'queue.push(async () => {',
  '  constructor(private readonly a: number) {',
  '  override async step(state: State): Promise<Effect[]> {',
  '  static #parse(a: Uint8Array): Frame | undefined {',
  '  get length(): number {',
  '  *[Symbol.iterator](): Iterator<number> {',
  '  step(\n    state: State,\n    event: Event,\n  ): Effect[] {',
];

const BLOCKS = [
  'if (a) {',
  'if (\n  a &&\n  f(b)\n) {',
  'for (const [a, b] of f(c)) {',
  'while (f(a)) {',
  'switch (f(a)) {',
  'try {',
  'export class A extends B {',
  'class A extends f(B) {',
  'interface A extends B<{\n  c: number;\n}> {',
  'const a = {',
  'const a = f({',
  'const a = f(b(), {',
  'export const a: Record<string, (b: number) => void> = {',
  'type A = {',
];

function closing(header: string): string {
  const indentation = /^ */.exec(header)?.[0] ?? '';
  return `${indentation}}`;
}

test('functions are found by their shape, whole', async (t) => {
  for (const header of FUNCTIONS) {
    const text = `${header}\n${body(3)}${closing(header)}\nwork();\n`;
    const indented = text.replace(/ {2}work/g, '      work');
    const spans = functionSpans(sourceFile('src/core/x.ts', indented));
    const lines = header.split('\n').length + 4;
    t.match(spans, [{ line: 1, lines }], header);
    t.equal(spans.length, 1, header);
  }
});

test('blocks, classes and objects are not functions', async (t) => {
  for (const header of BLOCKS) {
    const text = `${header}\n${body(3)}}\nwork();\n`;
    t.same(functionSpans(sourceFile('src/core/x.ts', text)), [], header);
  }
});

test('braces in text and chains of blocks do not end a function', async (t) => {
  const text = [
    'function f() {',
    '  const a = `',
    '}`;',
    '  // }',
    '  if (a) {',
    '    work();',
    '  } else if (b) {',
    '    work();',
    '  } else {',
    '    work();',
    '  }',
    '  try {',
    '    work();',
    '  } catch (error) {',
    '    work();',
    '  }',
    '}',
  ];
  const spans = functionSpans(sourceFile('src/core/x.ts', `${text.join('\n')}\n`));
  t.match(spans, [{ line: 1 }]);
  t.equal(spans.length, 1);
});

test('long functions are reported', async (t) => {
  const longest = `function f() {\n${body(MAX_FUNCTION_LINES - 2)}}\n`;
  const longer = `function f() {\n${body(MAX_FUNCTION_LINES - 1)}}\n`;
  t.same(inCore(longest), []);
  t.same(inCore(longer), ['function of 71 lines, at most 70: function f() {']);
  const group = `test('all', async (t) => {\n  t.test('one', run);\n${body(80)}});\n`;
  t.same(messages('test/x.test.ts', group), [], 'a group of subtests is no function');
  const single = `test('all', async (t) => {\n${body(80)}});\n`;
  t.match(messages('test/x.test.ts', single), [/^function of 82 lines/]);
});

test('this tree is tidy', async (t) => {
  const tree = loadSources(projectRoot(), ['src', 'test', 'bench', 'chaos', 'scripts']);
  t.ok(tree.length > 0);
  for (const file of tree) {
    for (const violation of checkTidy(file)) t.fail(describe(violation), { at: null });
  }
});

test('the lock file names no registry host', async (t) => {
  t.notMatch(readFileSync(join(projectRoot(), 'package-lock.json'), 'utf8'), /"resolved"/);
});
