/**
 * The checker of registers says yes where, and only where, a search through all orders finds one;
 * and it sees each kind of lie that it is there to see.
 */
import t from 'tap';
import { Chooser } from '../../chaos/recorded/random.js';
import { checkRegisters, INITIAL, type RegisterOperation } from '../../chaos/registers/history.js';

const FOREVER = Number.POSITIVE_INFINITY;
const HISTORIES = 20_000;
const OPERATIONS = 6;
const MOMENTS = 14;

function op(
  kind: 'write' | 'read',
  value: number,
  began: number,
  ended: number,
): RegisterOperation {
  return { kind, register: 0, value, began, ended };
}
const write = (value: number, began: number, ended: number) => op('write', value, began, ended);
const read = (value: number, began: number, ended: number) => op('read', value, began, ended);

/** By trying: Wing and Gong. A write without an end may be left out. */
function hasOrder(left: readonly RegisterOperation[], value: number = INITIAL): boolean {
  if (left.every(({ kind, ended }) => kind === 'write' && ended === FOREVER)) return true;
  return left.some((next) => {
    if (left.some((other) => other !== next && other.ended < next.began)) return false;
    if (next.kind === 'read' && next.value !== value) return false;
    return hasOrder(
      left.filter((other) => other !== next),
      next.value,
    );
  });
}

function randomHistory(seed: number): RegisterOperation[] {
  const choose = new Chooser(seed);
  return Array.from({ length: choose.between(1, OPERATIONS) }, (_, at) => {
    const began = choose.below(MOMENTS);
    const ended = began + 1 + choose.below(MOMENTS / 2);
    if (choose.chance(50)) return write(at + 1, began, choose.chance(15) ? FOREVER : ended);
    return read(choose.below(OPERATIONS), began, ended);
  });
}

t.test('it says what a search through all orders says', async (t) => {
  let orders = 0;
  for (let seed = 1; seed <= HISTORIES; seed++) {
    const history = randomHistory(seed);
    const found = checkRegisters(history);
    const isExpected = hasOrder(history);
    if (isExpected) orders += 1;
    if ((found.length === 0) !== isExpected) {
      t.fail(`seed ${seed}: ${found.join()}: ${JSON.stringify(history)}`);
      return;
    }
  }
  t.ok(orders > HISTORIES / 20 && orders < HISTORIES * 0.95, `${orders} of ${HISTORIES} have one`);
});

t.test('what a good register does passes', async (t) => {
  const history = [
    read(INITIAL, 0, 1),
    write(1, 2, 10),
    read(1, 3, 4),
    write(2, 11, 12),
    write(3, 13, FOREVER),
    read(2, 14, 15),
    read(3, 16, 17),
    { ...read(9, 20, FOREVER) },
    { ...write(7, 0, 1), register: 1 },
    { ...read(7, 30, 31), register: 1 },
  ];
  t.same(checkRegisters(history), []);
});

t.test('lies are seen', async (t) => {
  const good = [write(1, 0, 1), write(2, 2, 3)];
  const lies: Record<string, RegisterOperation[]> = {
    'a stale read': [...good, read(1, 4, 5)],
    'a lost write': [...good, read(INITIAL, 4, 5)],
    'a value from nowhere': [...good, read(5, 4, 5)],
    'a value of the future': [read(1, 0, 1), write(1, 2, 3)],
    'a value that comes back': [
      write(1, 0, 9),
      write(2, 0, 9),
      read(1, 1, 2),
      read(2, 3, 4),
      read(1, 5, 6),
    ],
    'a failed write that came and went': [
      ...good,
      write(3, 4, FOREVER),
      read(3, 5, 6),
      read(2, 7, 8),
    ],
    'a stale read that nothing followed': [...good, { ...read(1, 4, 5), isVolatile: true }],
  };
  for (const [what, history] of Object.entries(lies))
    t.not(checkRegisters(history).length, 0, what);
});

t.test('what a crash may undo may be seen before', async (t) => {
  const seen = { ...read(2, 3, 4), isVolatile: true };
  t.same(checkRegisters([write(1, 0, 1), write(2, 2, FOREVER), seen, read(1, 6, 7)]), []);
});
