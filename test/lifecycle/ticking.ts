/** A simulated clock for what waits for promises as well as for time. */
import type { Clock } from '../../src/io/clock.js';
import { SimStores } from '../metadata/sim-store.js';

/** Between two ticks, everything that waited for a promise goes on. */
export function ticking(): { readonly world: SimStores; readonly clock: Clock } {
  const world = new SimStores();
  const { clock } = world.connect().process;
  const tick = (): void => {
    world.scheduler.notePromise();
    clock.after(5, tick);
  };
  tick();
  return { world, clock };
}

export function after(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => clock.after(ms, resolve));
}
