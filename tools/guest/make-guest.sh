#!/bin/bash
# Prepare the guests that `make run` boots and the tests use, from Debian's packages, without root:
#
#   tools/guest/make-guest.sh DIR [PART...]      default: small i386 disk
#
#   small   vmlinuz, initrd.img           Debian's cloud kernel, busybox in an initramfs
#           vmlinux                       the same kernel as an ELF file with a PVH note
#   i386    vmlinuz-686, initrd-686.img   Debian's 32-bit kernel without PAE, 32-bit busybox
#   disk    root.img                      a Debian root file system (ext4, systemd), root logs in without a password;
#                                         boots with vmlinuz, initrd.img and root=/dev/vda rw
#   selftests                             Linux's judges of a processor:
#           vmlinuz-amd64                 Debian's kernel with everything
#           modules.cpio                  its modules for cryptography, RAID and tests
#           selftests.cpio                its self-tests (tools/guest/selftests/list), built from Debian's source package
#                                         The archives are put behind initrd.img or initrd-686.img
#   luajit  luajit/                       LuaJIT and its library, for a test that puts them behind initrd.img
#   bench   bench/root.img                what `make bench` runs (bench/README.md): a disk that boots with vmlinuz, initrd.img
#           bench/root                    and root=/dev/vda; the same tree for a chroot; and for a guest with IDE disks
#           bench/ide.cpio                their drivers, to put behind initrd.img. Needs the part small
#
# A part is made once and again only when this folder, or its own folder (in it, or bench/guest), changes. Packages are fetched by apt with the host's sources
# but with state and cache of its own under DIR, so nothing on the host changes. Where a host's sources lack a part,
# the message is apt's.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
if [ $# = 0 ]; then
    echo "usage: tools/guest/make-guest.sh DIR [small|i386|disk|selftests|luajit|bench]..." >&2
    exit 1
fi
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- small i386 disk
export LC_ALL=C.UTF-8

exec 9>"$dir/lock"
flock 9

work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

say()
{
    echo "guest: $*"
}

# apt_private ARCH COMMAND...: run an apt program as if on a fresh machine of that architecture.
apt_private()
{
    local arch=$1 state=$dir/apt-$1
    shift
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    : >>"$state/status"
    cat >"$state/apt.conf" <<END
Dir::State "$state";
Dir::State::lists "$state/lists";
Dir::State::status "$state/status";
Dir::Cache "$state/cache";
APT::Architecture "$arch";
#clear APT::Architectures;
APT::Architectures { "$arch"; };
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Post-Invoke;
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
END
    "$1" -c "$state/apt.conf" "${@:2}"
}

# A mirror in the middle of a sync may lack one list of several: go on with the rest.
update_lists()
{
    say "fetching package lists ($1)"
    apt_private "$1" apt-get -qq update >"$work/update.log" 2>&1 || {
        say "some package lists could not be fetched; going on with the others:"
        sed 's/^/    /' "$work/update.log"
    }
}

# fetch ARCH PACKAGE DIRECTORY: download a package and unpack it there.
fetch()
{
    local arch=$1 package=$2 into=$3
    say "fetching $package ($arch)"
    mkdir -p "$work/debs" "$into"
    (cd "$work/debs" && rm -f ./*.deb && apt_private "$arch" apt-get -qq download "$package" && dpkg-deb -x ./*.deb "$into")
}

# kernel_package ARCH META: the package that holds the kernel that META depends on.
kernel_package()
{
    apt_private "$1" apt-cache --no-all-versions show "$2" | sed -n 's/^Depends:.*\(linux-image-[0-9][^ ,]*\).*/\1/p' |
        head -n 1
}

# The modules the guests load, in load order; one that the kernel has built in is not there to load.
modules="lib/crc16 crypto/crc32c_generic fs/mbcache fs/jbd2/jbd2 fs/ext4/ext4
    drivers/virtio/virtio_ring drivers/virtio/virtio drivers/virtio/virtio_pci_legacy_dev
    drivers/virtio/virtio_pci_modern_dev drivers/virtio/virtio_pci drivers/block/virtio_blk
    drivers/input/evdev drivers/acpi/button"

# pack TREE: the tree as a cpio archive on standard output, the same for the same files.
pack()
{
    find "$1" -exec touch -h -d @0 {} +
    (cd "$1" && find . | sort | cpio --quiet -o -H newc -R 0:0 --reproducible)
}

# make_initramfs KERNEL_TREE BUSYBOX OUTPUT
make_initramfs()
{
    local root=$work/initramfs number=10 module
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,etc/acpi/PWRF,lib/modules,proc,root,sys,tmp}
    cp "$2" "$root/bin/busybox"
    cp "$here/init" "$root/init"
    printf '#!/bin/busybox sh\npoweroff -f\n' >"$root/etc/acpi/PWRF/00000080"
    chmod 755 "$root/init" "$root/bin/busybox" "$root/etc/acpi/PWRF/00000080"
    for module in $modules; do
        for file in "$1"/lib/modules/*/kernel/"$module.ko"; do
            [ -e "$file" ] || continue
            cp "$file" "$root/lib/modules/$number-${module##*/}.ko"
            number=$((number + 1))
        done
    done
    pack "$root" >"$3"
}

make_small()
{
    update_lists amd64
    fetch amd64 "$(kernel_package amd64 linux-image-cloud-amd64)" "$work/cloud"
    fetch amd64 busybox-static "$work/busybox"
    cp "$work"/cloud/boot/vmlinuz-* "$dir/vmlinuz"
    python3 "$here/extract-vmlinux.py" "$dir/vmlinuz" "$dir/vmlinux"
    make_initramfs "$work/cloud" "$work/busybox/bin/busybox" "$dir/initrd.img"
}

make_luajit()
{
    update_lists amd64
    fetch amd64 luajit "$work/luajit"
    fetch amd64 libluajit-5.1-2 "$work/luajit"
    mkdir -p "$dir/luajit"
    cp "$work"/luajit/usr/bin/luajit "$dir/luajit"
    cp "$work"/luajit/usr/lib/x86_64-linux-gnu/libluajit-5.1.so.2 "$dir/luajit"
}

make_i386()
{
    update_lists i386
    fetch i386 "$(kernel_package i386 linux-image-686)" "$work/686"
    fetch i386 busybox-static "$work/busybox-686"
    cp "$work"/686/boot/vmlinuz-* "$dir/vmlinuz-686"
    make_initramfs "$work/686" "$work/busybox-686/bin/busybox" "$dir/initrd-686.img"
}

# debian_root TAR WORD...: a minimal Debian root file system; the words are for mmdebstrap.
debian_root()
{
    local mirror tar=$1
    shift
    [ -e "$dir/apt-amd64/apt.conf" ] || update_lists amd64
    # The mirror that the host's sources name for a package of the base system.
    mirror=$(apt_private amd64 apt-get download --print-uris base-files | sed -n "s#^'\(.*\)/pool/.*#\1#p" | head -n 1)
    say "making a Debian root file system (from ${mirror:?no mirror found})"
    # Not with user namespaces or chroot, which containers refuse: what is done there is done everywhere.
    mmdebstrap --quiet --mode=fakechroot --variant=minbase \
        --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        "$@" bookworm "$tar" "$mirror" 9>&-
}

make_disk()
{
    debian_root "$work/root.tar" --customize-hook="$here/customize-root.sh \"\$1\""
    say "making the disk image"
    mkdir "$work/root"
    rm -f "$work/root.img"
    truncate -s 512M "$work/root.img"
    fakeroot sh -c 'tar -xpf "$1/root.tar" -C "$1/root" && rm -f "$1"/root/etc/machine-id &&
        echo 0123456789abcdef0123456789abcdef >"$1/root/etc/machine-id" &&
        /sbin/mke2fs -q -t ext4 -L root -d "$1/root" "$1/root.img"' \
        sh "$work" 9>&-
    mv "$work/root.img" "$dir/root.img"
}

# The tree that is kept belongs to whoever made it: fakeroot remembers owners only as long as it runs.
make_bench()
{
    local sources=$here/../../bench/guest module number=30
    debian_root "$work/bench.tar" --include=python3,perl,gcc,libc6-dev,sqlite3,zstd,xz-utils,openssl,luajit
    say "making the disk image of make bench"
    mkdir -p "$work/bench/bench" "$work/root" "$work/ide/lib/modules"
    cp "$sources"/* "$work/bench/bench/"
    gcc -O2 -static -Wall -Werror -ffp-contract=off "$sources/work.c" -lm -o "$work/bench/bench/work"
    gcc -O2 -static -Wall -Werror "$sources/init.c" -o "$work/bench/bench/init"
    python3 "$sources/make-data.py" "$work/bench/bench/data"
    truncate -s 1G "$work/root.img"
    fakeroot sh -c 'tar -xpf "$1/bench.tar" -C "$1/root" --exclude "./dev/*" && cp -R "$1/bench/bench" "$1/root/" &&
        ln -sf /bench/init "$1/root/sbin/init" &&
        /sbin/mke2fs -q -t ext4 -L bench -d "$1/root" "$1/root.img"' \
        sh "$work" 9>&-
    update_lists amd64
    fetch amd64 "$(kernel_package amd64 linux-image-cloud-amd64)" "$work/cloud"
    for module in drivers/scsi/scsi_common drivers/scsi/scsi_mod drivers/scsi/sd_mod drivers/ata/libata \
        drivers/ata/ata_piix; do
        for file in "$work"/cloud/lib/modules/*/kernel/"$module.ko"; do
            [ -e "$file" ] || continue
            cp "$file" "$work/ide/lib/modules/$number-${module##*/}.ko"
            number=$((number + 1))
        done
    done
    rm -rf "$dir/bench"
    mkdir "$dir/bench"
    pack "$work/ide" >"$dir/bench/ide.cpio"
    mv "$work/root.img" "$work/root" "$dir/bench/"
}

# The programs are of both sizes and dynamic, with their libraries: some look for the vDSO with dlopen.
make_selftests()
{
    local root=$work/selftests source=tools/testing/selftests bits first rest name arguments flags library size modules
    [ -e "$dir/apt-amd64/apt.conf" ] || update_lists amd64
    fetch amd64 "$(kernel_package amd64 linux-image-amd64)" "$work/amd64"
    cp "$work"/amd64/boot/vmlinuz-* "$dir/vmlinuz-amd64"
    modules=$(echo "$work"/amd64/lib/modules/*)
    find "$modules/kernel" -mindepth 1 -maxdepth 1 ! -name crypto ! -name lib ! -name arch -exec rm -rf {} +
    find "$modules/kernel/arch/x86" -mindepth 1 -maxdepth 1 ! -name crypto -exec rm -rf {} +
    /sbin/depmod -b "$work/amd64" "${modules##*/}"
    rm -rf "$work/amd64/boot" "$work/amd64/usr"
    pack "$work/amd64" >"$dir/modules.cpio"
    fetch amd64 linux-source-6.1 "$work/linux"
    say "building Linux's self-tests"
    tar -C "$work/linux" --strip-components=1 -xf "$work"/linux/usr/src/linux-source-6.1.tar.xz \
        --wildcards 'linux-source-6.1/tools' 'linux-source-6.1/arch/x86/include' 'linux-source-6.1/include'
    mkdir -p "$root"/selftests/{32,64} "$root"/lib{,32,64} "$root/lib/x86_64-linux-gnu"
    cp "$here"/selftests/{run,modules} "$root/selftests/"
    while read -r bits first rest; do
        [ "${bits#\#}" = "$bits" ] && [ -n "$bits" ] || continue
        name=${first##*/} arguments='' flags=${rest%%:*}
        [ "$flags" = "$rest" ] || arguments=${rest#*: }
        [ "$bits" = both ] && bits='64 32'
        for size in $bits; do
            # shellcheck disable=SC2086
            [ -e "$root/selftests/$size/$name" ] || (cd "$work/linux/$source" && gcc "-m$size" -O2 -std=gnu99 -w -no-pie \
                -pthread -D_GNU_SOURCE -DCAN_BUILD_32 -DCAN_BUILD_64 -o "$root/selftests/$size/$name" "$first.c" $flags \
                -lrt -ldl -lm)
            echo "$size $name $arguments" >>"$root/selftests/list"
        done
    done <"$here/selftests/list"
    sort -s -k 1,1r -o "$root/selftests/list" "$root/selftests/list"
    for library in libc.so.6 libm.so.6 libgcc_s.so.1; do
        cp -L "$(gcc -m64 -print-file-name=$library)" "$root/lib/x86_64-linux-gnu/"
        cp -L "$(gcc -m32 -print-file-name=$library)" "$root/lib32/"
    done
    cp -L "$(gcc -m64 -print-file-name=libcap.so.2)" "$root/lib/x86_64-linux-gnu/"
    cp -L "$(gcc -m64 -print-file-name=ld-linux-x86-64.so.2)" "$root/lib64/"
    cp -L "$(gcc -m32 -print-file-name=ld-linux.so.2)" "$root/lib/"
    strip "$root"/selftests/[36]*/*
    pack "$root" >"$dir/selftests.cpio"
}

for part in "$@"; do
    case $part in
    small | i386 | disk | selftests | luajit | bench) ;;
    *)
        echo "tools/guest/make-guest.sh: no part '$part'" >&2
        exit 1
        ;;
    esac
    folders=("$here")
    [ ! -d "$here/$part" ] || folders+=("$here/$part")
    [ "$part" != bench ] || folders+=("$here/../../bench/guest")
    stamp=$(find "${folders[@]}" -maxdepth 1 -type f | sort | xargs cat | sha256sum | cut -d' ' -f1)
    [ "$(cat "$dir/$part.stamp" 2>/dev/null)" != "$stamp" ] || continue
    rm -f "$dir/$part.stamp"
    "make_$part"
    echo "$stamp" >"$dir/$part.stamp"
    say "$part is ready in $dir"
done
