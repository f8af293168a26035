/** What a failed call costs: errors are answers here, not accidents. */
import { test } from 'tap';
import { FsError } from '../../src/volume/filesystem-api.js';

test('a failure that a program will see takes no stack, and leaves others theirs', async (t) => {
  const limit = Error.stackTraceLimit;
  const error = new FsError('EEXIST', 'the name is taken');
  t.equal(Error.stackTraceLimit, limit);
  t.equal(error.errno, 'EEXIST');
  t.equal(error.message, 'the name is taken');
  t.notMatch(error.stack, /\n\s+at /);
  t.match(new Error('a bug').stack, /\n\s+at /);
});
