/** Counts of what a run has reached: faults, statuses, states. Summed over seeds. */

export class Coverage {
  readonly counts: Record<string, number> = {};

  hit(name: string, times = 1): void {
    this.counts[name] = (this.counts[name] ?? 0) + times;
  }

  add(other: Readonly<Record<string, number>>): void {
    for (const [name, times] of Object.entries(other)) this.hit(name, times);
  }

  get(name: string): number {
    return this.counts[name] ?? 0;
  }

  /** All names that begin with `prefix`, sorted. */
  under(prefix: string): [string, number][] {
    return Object.entries(this.counts)
      .filter(([name]) => name.startsWith(prefix))
      .sort(([a], [b]) => (a < b ? -1 : 1));
  }
}
