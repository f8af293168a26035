/**
 * Source files as the style tests see them: a path, the text, and the text with comments and
 * string contents blanked out (same length, same lines), so that patterns match code only.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface SourceFile {
  /** Relative to the project, with forward slashes: `src/core/ids.ts`. */
  readonly path: string;
  readonly text: string;
  /** `text` without comments; strings keep their quotes and lose their contents. */
  readonly code: string;
  /** `text` without comments; strings are whole. */
  readonly uncommented: string;
}

export interface Violation {
  readonly path: string;
  readonly line: number;
  readonly message: string;
}

export function sourceFile(path: string, text: string): SourceFile {
  return { path, text, code: blank(text, true), uncommented: blank(text, false) };
}

export function lineAt(text: string, index: number): number {
  let line = 1;
  for (let i = 0; i < index; i++) if (text[i] === '\n') line++;
  return line;
}

export function describe(violation: Violation): string {
  return `${violation.path}:${violation.line} ${violation.message}`;
}

/** The directory of package.json, wherever this file was compiled to. */
export function projectRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const names = readdirSync(directory);
    if (names.includes('package.json') && names.includes('src')) return directory;
    const parent = dirname(directory);
    if (parent === directory) throw new Error('no package.json above the style tests');
    directory = parent;
  }
}

export function loadSources(root: string, directories: readonly string[]): SourceFile[] {
  const files: SourceFile[] = [];
  const visit = (directory: string): void => {
    for (const entry of readdirSync(join(root, directory), { withFileTypes: true })) {
      const path = `${directory}/${entry.name}`;
      if (entry.isDirectory()) visit(path);
      else if (/\.(ts|mjs)$/.test(entry.name)) {
        files.push(sourceFile(path, readFileSync(join(root, path), 'utf8')));
      }
    }
  };
  const present = new Set(readdirSync(root));
  for (const directory of directories) if (present.has(directory)) visit(directory);
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

const COMMENT = /\/\/[^\n]*|\/\*[\s\S]*?\*\//y;
const QUOTED = /'(?:[^'\\\n]|\\[\s\S])*'|"(?:[^"\\\n]|\\[\s\S])*"/y;
const REGEXP = /\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y;
const TEMPLATE_TEXT = /(?:[^`\\$]|\\[\s\S]|\$(?!\{))*/y;
const BEFORE_REGEXP = /(?:^|[(,=:[!&|?{};+\n>]|\breturn|\btypeof|\bcase)\s*$/;

/**
 * A small scanner: enough of the language's tokens to tell code from comments, strings,
 * templates (whose `${}` parts are code) and regular expressions.
 */
function blank(text: string, blankStrings: boolean): string {
  const spaces = (part: string): string => part.replace(/[^\n]/g, ' ');
  const quiet = (part: string, quotes: number): string => {
    if (!blankStrings || part.length < 2 * quotes) return part;
    return (
      part.slice(0, quotes) +
      spaces(part.slice(quotes, -quotes || undefined)) +
      part.slice(part.length - quotes)
    );
  };
  const match = (pattern: RegExp, at: number): string | undefined => {
    pattern.lastIndex = at;
    return pattern.exec(text)?.[0];
  };
  let out = '';
  let at = 0;
  const depths: number[] = []; // brace depth inside each open `${`
  const template = (): void => {
    const part = match(TEMPLATE_TEXT, at) ?? '';
    out += quiet(part, 0);
    at += part.length;
    const end = text[at] === '`' ? '`' : text.slice(at, at + 2);
    out += end;
    at += end.length;
    if (end === '${') depths.push(0);
  };
  while (at < text.length) {
    const character = text[at] as string;
    const comment = match(COMMENT, at);
    const literal = match(QUOTED, at) ?? regexpAt(match(REGEXP, at), out);
    if (comment !== undefined) {
      out += spaces(comment);
      at += comment.length;
    } else if (literal !== undefined) {
      out += quiet(literal, 1);
      at += literal.length;
    } else {
      out += character;
      at++;
      const top = depths.length - 1;
      if (character === '`') template();
      else if (character === '{' && top >= 0) depths[top] = (depths[top] as number) + 1;
      else if (character === '}' && top >= 0) {
        if (depths[top] === 0) {
          depths.pop();
          template();
        } else depths[top] = (depths[top] as number) - 1;
      }
    }
  }
  return out;
}

function regexpAt(literal: string | undefined, before: string): string | undefined {
  return literal !== undefined && BEFORE_REGEXP.test(before.slice(-40)) ? literal : undefined;
}
