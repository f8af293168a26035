/**
 * What a contract suite needs of the twin it runs on: a fresh instance, and a way to let time pass.
 */

export interface Harness<T> {
  /** A fresh instance; `close` releases it. */
  make(): Promise<{ readonly subject: T; close(): Promise<void> }>;
  /** Lets time pass until the condition holds; throws if it does not within some seconds. */
  until(condition: () => boolean): Promise<void>;
}

/** Runs a callback-style operation to its end and gives what it called back with. */
export async function outcome<A extends unknown[]>(
  harness: Pick<Harness<unknown>, 'until'>,
  start: (done: (...result: A) => void) => void,
): Promise<A> {
  let result: A | null = null;
  let returned = false;
  let early = false;
  start((...values) => {
    if (result !== null) throw new Error('called back twice');
    early = !returned;
    result = values;
  });
  returned = true;
  await harness.until(() => result !== null);
  if (early) throw new Error('called back before the call had returned');
  return result as unknown as A;
}
