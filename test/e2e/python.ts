/** Python programs on a mount, for as long as they take; the mount is never touched from here. */
import { spawn } from 'node:child_process';

/** Runs a program in a directory; resolves to what it printed, rejects when it fails. */
export function python(program: string, directory: string, seconds: number): Promise<string> {
  const script = `cd ${directory} && python3 -`;
  const limit = ['-k', '5', String(seconds)];
  const child = spawn('timeout', [...limit, 'sh', '-c', script], { cwd: '/' });
  child.stdin.on('error', () => {});
  child.stdin.end(program);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      text += String(data);
    });
  }
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => {
      if (status === 0) resolve(text.trim());
      else reject(new Error(`exit ${status}: ${text}`));
    });
  });
}
