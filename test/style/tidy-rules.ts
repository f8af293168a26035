/**
 * What a compiler and a formatter do not say: sizes that keep code readable, a purpose at the top
 * of each file, and the calls that would make the simulator's runs differ from one seed to itself.
 */
import { composesRealParts } from './import-rules.js';
import { lineAt, type SourceFile, type Violation } from './source.js';

export const MAX_COLUMNS = 100;
export const MAX_FUNCTION_LINES = 70;
export const MAX_SOURCE_LINES = 500;
export const MAX_TEST_LINES = 800;

const MIN_HEADER_CHARACTERS = 30;

export interface FunctionSpan {
  readonly line: number;
  readonly lines: number;
  readonly header: string;
}

export function checkTidy(file: SourceFile): Violation[] {
  return [
    ...sizes(file),
    ...header(file),
    ...bannedCalls(file),
    ...bannedWords(file),
    ...longFunctions(file),
  ];
}

function sizes(file: SourceFile): Violation[] {
  const lines = file.text.replace(/\n$/, '').split('\n');
  const most = file.path.startsWith('src/') ? MAX_SOURCE_LINES : MAX_TEST_LINES;
  const violations: Violation[] = [];
  if (lines.length > most) {
    const message = `${lines.length} lines, at most ${most}`;
    violations.push({ path: file.path, line: most + 1, message });
  }
  for (const [index, line] of lines.entries()) {
    const columns = [...line].length;
    if (columns <= MAX_COLUMNS) continue;
    const message = `${columns} columns, at most ${MAX_COLUMNS}`;
    violations.push({ path: file.path, line: index + 1, message });
  }
  return violations;
}

function header(file: SourceFile): Violation[] {
  if (!file.path.startsWith('src/')) return [];
  const text = file.text.replace(/^#![^\n]*\n/, '');
  const comment = /^(?:\/\*[\s\S]*?\*\/|(?:\/\/[^\n]*\n)+)/.exec(text)?.[0] ?? '';
  const words = comment.replace(/[/*\s]+/g, ' ').trim();
  if (words.length >= MIN_HEADER_CHARACTERS) return [];
  return [{ path: file.path, line: 1, message: 'no header comment that says the purpose' }];
}

interface Ban {
  readonly pattern: RegExp;
  readonly message: string;
}

const SEAM = 'go through a seam of src/io';
const BANNED_CALLS: readonly Ban[] = [
  { pattern: /\bDate\.now\b/g, message: `Date.now: ${SEAM}` },
  { pattern: /\bnew Date\(\s*\)/g, message: `new Date(): ${SEAM}` },
  { pattern: /\bMath\.random\b/g, message: `Math.random: ${SEAM}` },
  { pattern: /\bperformance\.now\b/g, message: `performance.now: ${SEAM}` },
  { pattern: /\bprocess\.hrtime\b/g, message: `process.hrtime: ${SEAM}` },
  { pattern: /\bAbortSignal\.timeout\b/g, message: `AbortSignal.timeout: ${SEAM}` },
  {
    pattern: /(?:(?<![.\w])|\bglobalThis\.)(?:setTimeout|setInterval|setImmediate)\b/g,
    message: `raw timer: ${SEAM}`,
  },
  { pattern: /(?:(?<![.\w])|\bglobalThis\.)console\b\s*\./g, message: 'console: log at the edges' },
  {
    pattern: /\b(?:randomBytes|randomUUID|randomInt|randomFill|randomFillSync|getRandomValues)\b/g,
    message: `randomness: ${SEAM}`,
  },
];

function bannedCalls(file: SourceFile): Violation[] {
  if (!file.path.startsWith('src/') || composesRealParts(file.path)) return [];
  return BANNED_CALLS.flatMap((ban) => matches(file, file.code, ban));
}

function bannedWords(file: SourceFile): Violation[] {
  const bans: (Ban & { readonly text: string })[] = [];
  // The style tests spell out what they look for.
  if (!file.path.startsWith('test/style/')) {
    const message = 'unfinished work belongs in an issue';
    bans.push({ pattern: /\b(?:TODO|FIXME)\b/g, message, text: file.text });
  }
  const code = file.code;
  if (file.path.startsWith('test/')) {
    bans.push({ pattern: /\.only\(/g, message: '.only( leaves out the other tests', text: code });
  }
  if (file.path.endsWith('.ts')) {
    const enumMessage = 'enum: use an `as const` object';
    bans.push({ pattern: /(?<![.\w])enum\s+\w+\s*\{/g, message: enumMessage, text: code });
    const exportMessage = 'default export: export by name';
    bans.push({
      pattern: /^export default\b|\bas default\b/gm,
      message: exportMessage,
      text: code,
    });
  }
  return bans.flatMap((ban) => matches(file, ban.text, ban));
}

function matches(file: SourceFile, text: string, ban: Ban): Violation[] {
  return [...text.matchAll(ban.pattern)].map((match) => ({
    path: file.path,
    line: lineAt(text, match.index),
    message: ban.message,
  }));
}

function longFunctions(file: SourceFile): Violation[] {
  return functionSpans(file)
    .filter((span) => span.lines > MAX_FUNCTION_LINES && !isTestGroup(file, span))
    .map((span) => ({
      path: file.path,
      line: span.line,
      message: `function of ${span.lines} lines, at most ${MAX_FUNCTION_LINES}: ${span.header}`,
    }));
}

/** A test, or a contract suite, that only groups tests is as long as they are many. */
function isTestGroup(file: SourceFile, span: FunctionSpan): boolean {
  if (!file.path.startsWith('test/')) return false;
  const isContract = file.path.startsWith('test/contract/') && /Contract\(/.test(span.header);
  if (!isContract && !/\btest\(/.test(span.header)) return false;
  const body = file.code.split('\n').slice(span.line, span.line + span.lines - 1);
  return body.some((line) => /\b(?:t\.test|test|\w+Test)\(/.test(line));
}

/**
 * Function bodies, found by shape: biome puts the closing brace of a body on a line of its own, at
 * the indentation of the line where the function begins.
 */
export function functionSpans(file: SourceFile): FunctionSpan[] {
  const lines = file.code.split('\n');
  const spans: FunctionSpan[] = [];
  for (const [index, line] of lines.entries()) {
    if (!line.trimEnd().endsWith('{')) continue;
    const first = opensFunction(lines, index);
    if (first === undefined) continue;
    const last = closingLine(lines, index);
    const header = (lines[first] as string).trim();
    spans.push({ line: first + 1, lines: last - first + 1, header });
  }
  return spans;
}

const CONTROL = /^(?:\}\s*)?(?:if|else|for|while|do|switch|try|catch|finally|with)\b/;
const TYPE = /^(?:export\s+)?(?:abstract\s+)?(?:class|interface|type|namespace)\b/;
const BODY = /(?:=>|\)(?:: \S.*)?) \{$/;
const NAMED = /^(?:\w+ )*(?:function\b|\*?[\w#$[\]'".]+\??(?:<.*>)?\()/;
/** The last line of a header that takes several: `): T {`, `) => {`, `}> {`, `>(a: T): T {`. */
const HEADER_END = /^(?:\)(?:: .+)?(?: =>)? \{|\}[>)]*(?:\[\])?(?: =>)? \{|>\(.* \{|\}\).* \{)$/;

/** The index of the line where the function begins whose body opens at the end of `index`. */
function opensFunction(lines: readonly string[], index: number): number | undefined {
  const text = (lines[index] as string).trim();
  const first = HEADER_END.test(text) ? headerStart(lines, index) : index;
  const start = (lines[first] as string).trim();
  if (CONTROL.test(text) || CONTROL.test(start) || TYPE.test(start)) return undefined;
  if (first !== index || text.endsWith('=> {')) return first;
  return BODY.test(text) && NAMED.test(text) ? index : undefined;
}

/** The nearest line above with the same indentation that does not itself continue a header. */
function headerStart(lines: readonly string[], index: number): number {
  const depth = indentation(lines[index] as string);
  for (let at = index - 1; at >= 0; at--) {
    const line = lines[at] as string;
    if (line.trim() === '' || indentation(line) > depth) continue;
    if (indentation(line) < depth) return index;
    if (!/^[)\]}>]/.test(line.trim())) return at;
  }
  return index;
}

function closingLine(lines: readonly string[], index: number): number {
  const depth = indentation(lines[index] as string);
  for (let at = index + 1; at < lines.length; at++) {
    const line = lines[at] as string;
    if (line.trim() !== '' && indentation(line) <= depth && line.trim().startsWith('}')) return at;
  }
  return lines.length - 1;
}

function indentation(line: string): number {
  return line.length - line.trimStart().length;
}
