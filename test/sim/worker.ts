/** A worker process of the simulator: runs the seeds that it is sent, one after another. */
import { runSeed, type SeedResult } from './run-seed.js';
import { type Shrunk, shrink } from './shrink.js';

export type WorkerTask =
  | { readonly type: 'run'; readonly seed: string }
  | { readonly type: 'shrink'; readonly failing: SeedResult };

export type WorkerAnswer =
  /** `cpuMs`: processor time of this worker so far. */
  | { readonly type: 'ran'; readonly result: SeedResult; readonly cpuMs: number }
  | { readonly type: 'shrunk'; readonly shrunk: Shrunk };

function cpu(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

process.on('message', (task: WorkerTask) => {
  const work =
    task.type === 'run'
      ? runSeed({ seed: task.seed }).then(
          (result) => ({ type: 'ran', result, cpuMs: cpu() }) as const,
        )
      : shrink(task.failing).then((shrunk) => ({ type: 'shrunk', shrunk }) as const);
  work.then(
    (answer: WorkerAnswer) => process.send?.(answer),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
});
process.on('disconnect', () => process.exit(0));
