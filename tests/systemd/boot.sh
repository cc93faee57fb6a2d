# Become a systemd that manages a machine of its own: namespaces, and a copy-on-write view of this file system.
# usage: boot.sh STATE [SOURCE PLACE]...; STATE holds what the machine wrote, and outlives a reboot.
set -euo pipefail
state=$1 root=$1/root
shift
mkdir -p "$state/upper" "$state/work" "$root"
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$state/upper,workdir=$state/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
umount -l "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for place in dev/shm run tmp; do mount -t tmpfs tmpfs "$root/$place"; done
mkdir -p "$root/run/systemd/system" "$root/run/lock"
while (($#)); do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    shift 2
done
[[ ! -d $root/root ]] || chmod o+x "$root/root" # a Python below it must run for other accounts too

# Only what a boot needs: none of this machine's own services, least of all udev.
units=$root/usr/lib/dync-test-units
if [[ ! -d $units ]]; then
    rm -rf "$root/etc/systemd/system"
    mkdir -p "$units" "$root/etc/systemd/system"
    for target in basic sysinit shutdown network-online; do
        printf '[Unit]\nDefaultDependencies=no\n' >"$units/$target.target"
    done
    printf '[Unit]\nRequires=basic.target\nWants=systemd-journald.service\nAfter=systemd-journald.service\n' \
        >"$units/multi-user.target"
    for unit in systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; do
        sed '/^Conflicts=\|^Before=/d' "/lib/systemd/system/$unit" >"$units/$unit"
    done
fi
mount --make-rshared / # as a booted host's; credentials reach a service by propagation
cd "$root"
exec chroot . /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin container=dync-test \
    SYSTEMD_UNIT_PATH="$UNIT_PATH" /lib/systemd/systemd --system --unit=multi-user.target --show-status=no
