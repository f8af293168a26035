/** The real MachineCommands: children without a shell, directories and files of this machine. */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmdirSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { HoldfastError } from '../../core/errors.js';
import type { CommandOutput, MachineCommands, PathKind } from '../machine-commands.js';

const OUTPUT_MAX = 1024 * 1024;

export class NodeMachineCommands implements MachineCommands {
  run(command: string, args: readonly string[], timeoutMs: number): Promise<CommandOutput> {
    return new Promise((resolve) => {
      const child = spawn(command, args, {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, LC_ALL: 'C' },
        cwd: '/',
      });
      let stdout = '';
      let stderr = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        stdout = (stdout + text).slice(0, OUTPUT_MAX);
      });
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        stderr = (stderr + text).slice(0, OUTPUT_MAX);
      });
      const timer = setTimeout(() => {
        child.kill('SIGKILL');
        child.unref();
        for (const stream of [child.stdout, child.stderr]) stream.destroy();
        const late = `${command} did not end in ${timeoutMs / 1000} s`;
        resolve({ status: null, stdout, stderr: [stderr.trim(), late].filter(Boolean).join('; ') });
      }, timeoutMs);
      child.on('error', (error) => {
        clearTimeout(timer);
        resolve({ status: null, stdout, stderr: `${command} cannot be run: ${error.message}` });
      });
      child.on('close', (status) => {
        clearTimeout(timer);
        resolve({ status, stdout, stderr: stderr.trim() });
      });
    });
  }

  kind(path: string): PathKind {
    try {
      const found = statSync(path);
      if (found.isDirectory()) return 'directory';
      if (found.isBlockDevice()) return 'block';
      return found.isFile() ? 'file' : 'other';
    } catch (thrown) {
      if (codeOf(thrown) === 'ENOENT') return 'missing';
      throw unusable(path, thrown);
    }
  }

  makeDirectory(path: string): boolean {
    try {
      return mkdirSync(path, { recursive: true, mode: 0o755 }) !== undefined;
    } catch (thrown) {
      throw unusable(path, thrown);
    }
  }

  makeFile(path: string): boolean {
    this.makeDirectory(dirname(path));
    try {
      writeFileSync(path, '', { flag: 'wx', mode: 0o600 });
      return true;
    } catch (thrown) {
      if (codeOf(thrown) === 'EEXIST') return false;
      throw unusable(path, thrown);
    }
  }

  removeEmpty(path: string): void {
    try {
      const found = statSync(path);
      if (found.isDirectory()) rmdirSync(path);
      else if (found.isFile() && found.size === 0) unlinkSync(path);
      else throw new HoldfastError('BUSY', `${path} is not empty: it stays`);
    } catch (thrown) {
      if (codeOf(thrown) === 'ENOENT') return;
      if (codeOf(thrown) !== 'ENOTEMPTY') throw unusable(path, thrown);
      throw new HoldfastError('BUSY', `${path} is not empty: it stays`);
    }
  }

  readText(path: string): string | null {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return null;
    }
  }
}

function codeOf(thrown: unknown): string | undefined {
  return (thrown as NodeJS.ErrnoException).code;
}

function unusable(path: string, thrown: unknown): HoldfastError {
  if (thrown instanceof HoldfastError) return thrown;
  const message = `${path} cannot be used: ${(thrown as Error).message}`;
  return new HoldfastError('UNAVAILABLE', message, { cause: thrown });
}
