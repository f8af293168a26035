#!/bin/sh
# Makes the managed plugin from what is installed on this machine: Node.js, holdfast, and busybox
# (Debian: busybox-static). Needs no network and no Docker:
#   sh build.sh /tmp/holdfast-plugin
#   docker plugin create holdfast /tmp/holdfast-plugin
# HOLDFAST is the program to put into it; default: the one on PATH.
set -eu
if [ $# -ne 1 ]; then
  echo "usage: build.sh DIRECTORY, which must not exist" >&2
  exit 2
fi
here=$(dirname -- "$(readlink -f -- "$0")")
out=$1
root=$out/rootfs
busybox=$(command -v busybox) || {
  echo "busybox is missing: apt-get install busybox-static" >&2
  exit 1
}
if ldd "$busybox" > /dev/null 2>&1; then
  echo "$busybox is not a static one: apt-get install busybox-static" >&2
  exit 1
fi
mkdir "$out"
for directory in bin dev etc opt proc run/docker/plugins sys tmp volumes; do
  mkdir -p "$root/$directory"
done

# The program with its packages and its Node.js, as one version; then what that Node.js links to.
${HOLDFAST:-holdfast} runtime install --dir "$root/opt/versions" > /dev/null
mv "$root"/opt/versions/* "$root/opt/holdfast"
rmdir "$root/opt/versions"
ldd "$root/opt/holdfast/bin/node" | grep -o '/[^ )]*' | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done

cp "$busybox" "$root/bin/busybox"
for name in sh cat dirname hostname mkdir nsenter printf readlink sed setsid sleep; do
  ln -s busybox "$root/bin/$name"
done
# Flushes one filesystem, which busybox may not.
cp -L "$(command -v sync)" "$root/bin/sync"
cp "$here/start" "$root/opt/start"
chmod 755 "$root/opt/start"
cp "$here/config.json" "$out/config.json"
echo "$out is ready: docker plugin create holdfast $out"
