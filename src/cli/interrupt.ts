/** Ctrl-C and SIGTERM for commands that have something to undo. */
/** Aborts at the first SIGINT or SIGTERM; later ones do nothing until `forget`. */
export function untilInterrupted(): { readonly signal: AbortSignal; forget(): void } {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  const signals = ['SIGINT', 'SIGTERM'] as const;
  for (const name of signals) process.on(name, abort);
  const forget = (): void => {
    for (const name of signals) process.off(name, abort);
  };
  return { signal: controller.signal, forget };
}

/** Resolves once it is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve());
  });
}
