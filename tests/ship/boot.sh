#!/bin/sh
# Boots systemd on a copy of this machine, in name spaces of its own: `unshare ... sh boot.sh DIRECTORY`, where DIRECTORY/etc and
# DIRECTORY/opt are laid over /etc and /opt. Nothing of the machine itself is changed: / is the lower part of an overlay. Its
# only units are those in DIRECTORY/etc/systemd/system.
set -eu
directory=$1
new=$directory/machine
mount --make-rprivate /
mkdir -p "$new"
mount -t tmpfs none "$new"
mkdir "$new/upper" "$new/work" "$new/root"
cp -a "$directory/etc" "$directory/opt" "$new/upper"
mount -t overlay -o "lowerdir=/,upperdir=$new/upper,workdir=$new/work" none "$new/root"
cd "$new/root"
mount -t proc none proc
mount -t sysfs -o ro none sys
mount -t tmpfs none sys/fs/cgroup
mkdir sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd none sys/fs/cgroup/systemd
mount -t tmpfs -o mode=755 none dev
for device in null zero full random urandom tty; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
: >dev/console
mount --bind "$directory/console" dev/console
mkdir dev/shm dev/pts dev/mqueue dev/hugepages
mount -t tmpfs none dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 none dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 none run
exec chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test SYSTEMD_LOG_TARGET=console \
    SYSTEMD_UNIT_PATH=/etc/systemd/system /lib/systemd/systemd --system --unit=multi-user.target --show-status=no
