#!/bin/sh
# Boots systemd in a throw-away copy of a root directory. Runs in mount and pid namespaces of its own, so that whatever
# happens to it, nothing stays mounted and nothing lives on. Usage: systemd_boot.sh PLACE ROOT SEED CGROUP... -- NSPAWN-OPTION...
set -eu
place=$1 root=$2 seed=$3
shift 3
while [ "$1" != -- ]; do
    echo $$ > "$1/cgroup.procs"
    shift
done
shift

mount -t tmpfs -o mode=755 tmpfs "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$place/upper,workdir=$place/work" "$place/root"
# Nothing that is enabled on the host starts here.
find "$place/root/etc/systemd/system" -mindepth 1 \( -name '*.wants' -o -name '*.requires' \) -exec rm -rf {} +
cp -a "$seed/." "$place/root/"
exec systemd-nspawn --quiet --directory="$place/root" --machine=asgi-master-box --register=no --keep-unit \
    --console=pipe --private-network --resolv-conf=off --timezone=off --link-journal=no "$@" \
    --boot systemd.unit=box.target systemd.firstboot=off < /dev/null
