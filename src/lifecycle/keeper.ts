/**
 * The keeper: a shell that holds a mount's FUSE descriptor as fd 3 while the daemon, its child,
 * serves it. When the daemon dies it waits until nothing of it runs any more and starts another,
 * which adopts the mount. When that does not help it takes the mount out of the tree, says why in
 * the log, and ends. It is a few kilobytes of sh, needs no upgrade, and never touches the mount
 * point itself.
 *
 * Shared with the daemon: its exit codes, the files of the state directory, and the lines that
 * daemon and launcher say to each other while a mount starts.
 */
import { HoldfastError } from '../core/errors.js';

/** Files of a mount's state directory. */
export const StateFile = {
  /** MountSpec. */
  SPEC: 'spec.json',
  /** ProcessIdentity of the keeper. */
  KEEPER: 'keeper.json',
  /** Which volume the daemon took over, and under which owner id. */
  OWNER: 'owner.json',
  /** MAJOR:MINOR of the mounted filesystem; there once it is mounted. */
  DEVICE: 'device',
  /** What INIT settled, for whoever takes the descriptor over. */
  INIT: 'init.json',
  /** The daemon's command line without the state directory, one word a line. */
  PROGRAM: 'program',
  /** What was answered and not yet committed (volume/intent-log.ts). */
  INTENTS: 'intents',
  /** The daemon handed the mount over and left nothing uncommitted. */
  COMMITTED: 'committed',
  /** The daemon has served for a moment. */
  SETTLED: 'settled',
  /** The mount is to end as soon as there is a daemon that can end it. */
  STOP: 'stop',
  /** The daemon has ended for good, by itself: the exit status that it is about to end with. */
  OVER: 'over',
  /** Exit status of a daemon that ended badly. */
  ENDED: 'ended',
  /** Why the connection was aborted, for the daemon's log. */
  ABORTED: 'aborted',
  /** There when the volume could not be released, before the daemon ends. */
  UNRELEASED: 'unreleased',
  /** The control socket. */
  CONTROL: 'control',
} as const;

/** What the launcher tells a daemon that has loaded the volume. */
export const MOUNTED_LINE = 'mounted';

/** What the daemon tells its launcher, one JSON object a line. */
export type DaemonEvent =
  | { readonly event: 'progress'; readonly text: string }
  /** The volume is taken over and loaded: mount now. */
  | { readonly event: 'loaded' }
  /** The kernel has been answered. */
  | { readonly event: 'ready' }
  | { readonly event: 'failed'; readonly fault: PlainFault };

/** A HoldfastError as data. */
export interface PlainFault {
  readonly code: HoldfastError['code'];
  readonly message: string;
  readonly retryable: boolean;
  readonly hint?: string;
}

export function plainFault(fault: HoldfastError): PlainFault {
  const { code, message, retryable, hint } = fault;
  return { code, message, retryable, ...(hint === undefined ? {} : { hint }) };
}

export function faultOf({ code, message, ...options }: PlainFault): HoldfastError {
  return new HoldfastError(code, message, options);
}

/** A daemon that handed its mount over: the next one may be another program. */
export const EXIT_HANDED_OVER = 75;
/** An adoption that may succeed later: the next daemon tries again. */
export const EXIT_AGAIN = 74;
/** So many daemons in a row die before the last one has served for a moment, and it is given up. */
const MAX_DEATHS = 10;
/** From so many on, the next one is started a second later. */
const PATIENT_DEATHS = 4;

/**
 * $1 state directory, $2 mount point. The daemon's command line stands in the state directory, one
 * word a line, so that it can be replaced. Its standard input and output are the launcher's.
 *
 * A daemon that has served the mount and dies is followed by another, which adopts it. One that
 * ends by itself says so (OVER), and is not; it has ended as it says even when it is killed before
 * it is gone. A signal to end it is kept for a daemon that cannot hear it yet (STOP). A state
 * directory that was never mounted is removed, and so is one whose daemon ended in order.
 */
export const KEEPER_SCRIPT = `
state=$1 directory=$2 daemon= deaths=0
cd /
trap '' HUP
trap 'true > "$state/${StateFile.STOP}"; kill -TERM "$daemon" 2>/dev/null' TERM INT
exec 4<&0 5>&1 </dev/null >/dev/null
start() {
  set --
  while IFS= read -r word; do set -- "$@" "$word"; done < "$state/${StateFile.PROGRAM}"
  rm -f -- "$state/${StateFile.SETTLED}" "$state/${StateFile.CONTROL}"
  "$@" "$state" <&4 >&5 4<&- 5>&- &
  daemon=$!
}
served() { [ -e "$state/${StateFile.INIT}" ] && [ ! -e "$state/${StateFile.OVER}" ]; }
while :; do
  start
  while :; do
    wait "$daemon"
    status=$?
    [ "$status" -gt 128 ] && kill -0 "$daemon" 2>/dev/null || break
  done
  [ "$status" -ne 0 ] && served || break
  case $status in
    ${EXIT_HANDED_OVER}) continue ;;
    ${EXIT_AGAIN}) sleep 1; continue ;;
  esac
  echo "the mount daemon of $directory died with status $status" >&2
  [ -e "$state/${StateFile.SETTLED}" ] && deaths=0
  deaths=$((deaths + 1))
  if [ "$deaths" -ge ${MAX_DEATHS} ]; then
    echo "$deaths daemons of $directory have died one after the other: it is given up" >&2
    break
  fi
  [ "$deaths" -lt ${PATIENT_DEATHS} ] || sleep 1
done
exec 3<&-
[ -s "$state/${StateFile.OVER}" ] && status=$(cat "$state/${StateFile.OVER}")
device=$(cat "$state/${StateFile.DEVICE}" 2>/dev/null)
if [ -n "$device" ] && grep -q "^[0-9]* [0-9]* $device " /proc/self/mountinfo; then
  umount -i -c -l -- "$directory" && echo "$directory was unmounted" >&2
fi
if [ "$status" -eq 0 ] || [ -z "$device" ]; then
  # All of it is gone at once, as others see it.
  gone=\${state%/*}/.old-\${state##*/}
  mv -- "$state" "$gone" && rm -rf -- "$gone"
  exit "$status"
fi
echo "the mount daemon of $directory ended with status $status" >&2
echo "$status" > "$state/${StateFile.ENDED}"
rm -f -- "$state/${StateFile.CONTROL}"
exit "$status"
`;
