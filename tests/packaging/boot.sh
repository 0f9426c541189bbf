#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# boot.sh <empty folder> <empty cgroup>: this machine's system, booted anew by systemd in namespaces of its own. What it
# writes stays in memory and goes with it, and with the end of this process, which becomes `unshare`.
set -e
folder=$1
echo $$ > "$2/cgroup.procs"
exec unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child --propagation private bash -ec '
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir upper work new
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work new
cd new
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs dev
for device in null zero full random urandom tty; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir dev/pts dev/shm old
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
rm -rf etc/systemd/system/*.wants etc/fstab etc/focusd var/lib/focusd
hostname booted
echo booted > etc/hostname
ip link set lo up
pivot_root . old
umount -l /old
export container=other PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec /lib/systemd/systemd --unit=basic.target --log-level=warning </dev/null >/dev/null 2>&1
' boot "$folder"
