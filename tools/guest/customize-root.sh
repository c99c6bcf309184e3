#!/bin/sh
# mmdebstrap hook: make the file system in $1 a guest for tests: a login on the console, no password for root, and
# nothing at boot that a test does not need (an interpreter runs it).
set -e
root=$1
units=$root/etc/systemd/system

sed -i 's/^root:[^:]*:/root::/' "$root/etc/shadow"
echo debian >"$root/etc/hostname"
echo '/dev/vda / ext4 rw 0 1' >"$root/etc/fstab"

# There is no udev: a getty that waits for its device unit would wait for ever, the console's does not.
mkdir -p "$units/getty.target.wants"
ln -sf /lib/systemd/system/console-getty.service "$units/getty.target.wants/console-getty.service"
for unit in serial-getty@ttyS0.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-random-seed.service systemd-update-utmp.service \
    systemd-update-utmp-runlevel.service systemd-firstboot.service systemd-sysusers.service systemd-journal-flush.service \
    systemd-journal-catalog-update.service systemd-update-done.service systemd-binfmt.service systemd-pstore.service \
    systemd-modules-load.service getty-static.service modprobe@.service dev-hugepages.mount dev-mqueue.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount proc-sys-fs-binfmt_misc.automount; do
    ln -sf /dev/null "$units/$unit"
done
ln -sf /lib/systemd/system/multi-user.target "$units/default.target"

mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=none\n' >"$root/etc/systemd/journald.conf.d/guest.conf"
