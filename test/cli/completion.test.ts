/** Shell completion: made from the tree of commands, and working in a shell. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { COMMANDS } from '../../src/cli/commands.js';
import { holdfastBin } from '../fixtures/processes.js';
import { holdfast, refused } from './node-fixture.js';

t.setTimeout(120_000);

function script(shell: string): string {
  return execFileSync(process.execPath, [holdfastBin, 'completion', shell], { encoding: 'utf8' });
}

function file(t: Test, text: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'hf-complete-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'script');
  writeFileSync(path, text);
  return path;
}

t.test('bash completes commands, their commands and their options', async (t) => {
  const path = file(t, script('bash'));
  const complete = (...words: string[]): string[] => {
    const program = `
      source ${path}
      COMP_WORDS=(holdfast "$@"); COMP_CWORD=$#
      _holdfast
      printf '%s\\n' "\${COMPREPLY[@]}"`;
    const out = execFileSync('bash', ['-c', program, 'bash', ...words], { encoding: 'utf8' });
    return out.split('\n').filter((word) => word !== '');
  };
  const visible = COMMANDS.filter(({ isHidden }) => isHidden !== true).map(({ name }) => name);
  t.same(
    visible.filter((name) => !complete('').includes(name)),
    [],
    'every command',
  );
  t.same(complete('vol'), ['volume']);
  t.notOk(complete('').includes('mount-daemon'), 'what is hidden stays so');
  t.match(complete('volume', 'r'), ['recover', 'rm', 'restore']);
  t.match(complete('volume', 'rm', 'db', '--'), ['--metadata']);
  t.ok(complete('volume', 'rm', 'db', '--').includes('--retention'));
  t.same(complete('volume', 'rm', 'db', '--purge', '--ret'), ['--retention']);
  t.same(complete('node', '--data-dir', ''), [], 'a value is not an option');
  t.same(complete('up', '--de'), ['--detach']);
});

for (const shell of ['zsh', 'fish']) {
  const isThere = spawnSync(shell, ['--version']).status === 0;
  const options = isThere ? {} : { skip: `${shell} is not installed here` };
  t.test(`${shell} takes its script`, options, async (t) => {
    const path = file(t, script(shell));
    const checked = spawnSync(shell, ['-n', path], { encoding: 'utf8' });
    t.equal(checked.status, 0, checked.stderr);
  });
}

t.test('descriptions with quotes and colons stay within theirs', async (t) => {
  for (const shell of ['zsh', 'fish']) {
    const text = script(shell);
    t.match(text, /volume/);
    t.notMatch(text, /undefined|\[object/);
  }
  t.match(script('zsh'), /'--listen:where to serve \(default\\: 127\.0\.0\.1\\:7400\)'/);
  t.match(script('fish'), /-l data-dir -r -F/);
});

t.test('another shell is refused', async (t) => {
  refused(t, await holdfast(['completion', 'tcsh']), 2, /bash, zsh, fish/);
});
