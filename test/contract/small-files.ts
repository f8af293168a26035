/** What every SmallFiles promises. Run against each twin. */
import { test } from 'tap';
import type { SmallFiles } from '../../src/io/small-files.js';

/** `make` gives files that nobody has used; `again` the same ones to the next process. */
export function smallFilesContract(
  name: string,
  make: () => { readonly files: SmallFiles; again(): SmallFiles },
): void {
  test(`${name}: what was written is there, for the next process too`, async (t) => {
    const { files, again } = make();
    t.same(files.list(), []);
    t.equal(files.read('db'), null);
    files.write('db', 'one');
    files.write('a-log.1', 'ü\n');
    files.write('db', 'two');
    t.equal(files.read('db'), 'two');
    t.same(again().list(), ['a-log.1', 'db'], 'in order');
    t.equal(again().read('a-log.1'), 'ü\n');
  });

  test(`${name}: what was removed is gone`, async (t) => {
    const { files, again } = make();
    files.remove('db');
    files.write('db', 'x');
    files.remove('db');
    files.remove('db');
    t.equal(files.read('db'), null);
    t.same(again().list(), []);
  });
}
