#!/bin/sh
# mmdebstrap hook: make the file system in $1 a guest for tests: systemd, a login on the console, no password for root,
# and nothing at boot that a test does not need (an interpreter runs it).
set -e
root=$1
units=$root/etc/systemd/system

# systemd is unpacked and not configured: its programs find their private library by a path that fakechroot does not
# change, and would take the host's. All that its installation would do here are these groups and users.
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -qq --yes --download-only --no-install-recommends install systemd-sysv
for package in "$root"/var/cache/apt/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$root"
    rm "$package"
done
rm -rf "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
id=990
for name in systemd-journal systemd-network; do
    echo "$name:x:$id:" >>"$root/etc/group"
    echo "$name:!::" >>"$root/etc/gshadow"
    echo "$name:x:$id:$id::/:/usr/sbin/nologin" >>"$root/etc/passwd"
    echo "$name:!:19000::::::" >>"$root/etc/shadow"
    id=$((id + 1))
done

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
