/** The program's version, as the package that it runs from says. */
import { readFileSync } from 'node:fs';

/** "0.1.0". */
export function programVersion(): string {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { readonly version: string }).version;
}
