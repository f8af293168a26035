/**
 * A program in a container that writes as a database does: each line is appended and fsynced before
 * it is acknowledged on standard output, and numbered and summed so that a lost, torn, doubled or
 * foreign one shows.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { DockerHost } from './docker-bed.js';

const PATIENCE_MS = 60_000;

/** Goes on where the file ends. Says "acked N", or "FAILED N" and ends. */
export const WRITER = `
trap 'exit 0' TERM
i=$(wc -l < /data/wal 2>/dev/null || echo 0)
while :; do
  i=$((i + 1))
  echo "$i $(echo $i | md5sum)" | dd of=/data/wal oflag=append conv=notrunc,fsync 2>/dev/null ||
    { echo "FAILED $i"; exit 1; }
  echo "acked $i"
  sleep 0.02
done`;

/** Prints "lines N", or what is wrong. */
export const CHECK = `
n=0
while read -r i sum dash; do
  n=$((n + 1))
  [ "$i $sum $dash" = "$n $(echo $n | md5sum | { read -r a b; echo "$a $b"; })" ] ||
    { echo "BAD line $n: $i $sum"; exit 1; }
done < /data/wal
echo "lines $n"`;

/** A writer in a container of this name. */
export class Writer {
  readonly host: DockerHost;
  readonly name: string;

  private constructor(host: DockerHost, name: string) {
    this.host = host;
    this.name = name;
  }

  static async start(host: DockerHost, name: string, volume: string): Promise<Writer> {
    const where = ['--volume-driver', 'holdfast', '-v', `${volume}:/data`, '--network', 'none'];
    await host.must('run', '-d', '--name', name, ...where, 'box', 'sh', '-c', WRITER);
    return new Writer(host, name);
  }

  /** One that runs already. */
  static of(host: DockerHost, name: string): Writer {
    return new Writer(host, name);
  }

  /** The number of the last line that was acknowledged. Throws when one failed. */
  async acked(): Promise<number> {
    const said = await this.said();
    if (said.includes('FAILED')) throw new Error(`an I/O error: ${said.slice(-200)}`);
    return lastAcked(said);
  }

  /** Everything that it said so far. */
  async said(): Promise<string> {
    return await this.host.must('logs', this.name);
  }

  /** Waits until so many more lines are acknowledged; returns the number of the last one. */
  async more(lines: number): Promise<number> {
    const from = await this.acked();
    for (const deadline = Date.now() + PATIENCE_MS; ; await sleep(200)) {
      const now = await this.acked();
      if (now >= from + lines) return now;
      if (Date.now() > deadline) throw new Error(`${this.name} hangs at line ${now}`);
    }
  }
}

export function lastAcked(said: string): number {
  const lines = [...said.matchAll(/^acked (\d+)$/gm)];
  return Number(lines.at(-1)?.[1] ?? 0);
}

/** How many whole lines the volume has. Throws when one is not as it was written. */
export async function countLines(host: DockerHost, volume: string): Promise<number> {
  const { code, text } = await host.run([`${volume}:/data`], CHECK);
  const [, lines] = /^lines (\d+)$/m.exec(text) ?? [];
  if (code !== 0 || lines === undefined) throw new Error(`${volume}: exit ${code}: ${text}`);
  return Number(lines);
}
