import { test } from 'tap';

test('the test runner works', async (t) => {
  t.equal(1 + 1, 2);
});
